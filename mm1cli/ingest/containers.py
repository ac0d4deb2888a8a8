"""From a file's bytes to its document and, for a container, those of the files inside it."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from mm1cli.ingest.cache import Cache
from mm1cli.ingest.corpus import Damaged, Document, Omission, Reason, Unread
from mm1cli.ingest.display_names import shown_path
from mm1cli.ingest.generated import generated_kind, lfs_size
from mm1cli.ingest.readers import HEAD_BYTES, READERS, Reader, ReadError, Reading, choose
from mm1cli.ingest.readers.reader import MAX_MEMBER_BYTES, MIB, Member
from mm1cli.ingest.sandbox import BrokeReaderError, Sandbox
from mm1cli.ingest.secrets import find_secrets, is_env_file, without_values

MAX_DEPTH = 3
_NOT_CONTENT = "__MACOSX"  # what macOS adds to an archive beside each file
_SECRETS_SHOWN = 3
# What readers say of files that they understood: no parser met anything odd.
_SOUND = frozenset({Reason.EMPTY, Reason.ENCRYPTED, Reason.NO_TEXT, Reason.UNSUPPORTED})


@dataclass(slots=True)
class ContainerExpansion:
    """One file and all that is in it. `num_bytes_left` is what its containers may still give out,
    all depths together. `is_suspect`: the child read a container or something damaged, and is to
    read nothing of others."""

    sandbox: Sandbox
    cache: Cache | None = None
    ocr: bool = False
    convert: bool = False
    allow_secrets: bool = False
    num_bytes_left: int = MAX_MEMBER_BYTES
    is_suspect: bool = False

    def expand(
        self, shown: str, data: bytes, depth: int = 0, damage: str = ""
    ) -> Iterator[Document | Omission]:
        """The document or omission of `data`, then those of its members, depth first.

        A member's path goes on from its container's: "a.zip/inner/b.txt". Members deeper than
        `MAX_DEPTH` containers, or beyond `MAX_MEMBER_BYTES` in all, are omissions. `damage` says
        what its container knows to be wrong with it.
        """
        try:
            reader, kind = choose(shown, data[:HEAD_BYTES], converts=self.convert)
            if self.ocr and reader.with_ocr:
                reader = READERS[reader.with_ocr]
            sha256 = hashlib.sha256(data).hexdigest()
            reading, is_new = self._reading(reader, data, sha256)
        except ReadError as error:
            detail = "; ".join(filter(None, (error.detail, damage)))
            yield Omission(shown, error.reason, detail, len(data))
            return
        if reading.blocks:
            kind = generated_kind(shown, kind, reading.blocks[0].text)
        document = Document(
            path=shown,
            kind=kind,
            num_bytes=len(data),
            sha256=sha256,
            reader=_signature(reader, reading),
            blocks=reading.blocks,
            warnings=(*map(Damaged, filter(None, (damage,))), *reading.warnings),
            encoding=reading.encoding,
        )
        secrets = list(map(str, find_secrets(document.blocks)))
        if is_new and self.cache is not None and not secrets:
            self.cache.put(sha256, reader, reading, shown)
        yield self._without_secrets(document, secrets)
        for member in reading.members:
            yield from self._member(shown, member, depth + 1)

    def _member(self, container: str, member: Member, depth: int) -> Iterator[Document | Omission]:
        # A name in an archive may be absolute; it only names the text here, and opens nothing.
        # A lone compressed file has no name of its own: "notes.txt.gz" holds "notes.txt".
        name = member.name.lstrip("/") or PurePosixPath(container).stem
        path = PurePosixPath(shown_path(name))
        shown = f"{container}/{path}"
        if member.refusal is not None:
            yield Omission(shown, member.refusal.reason, member.refusal.detail)
            return
        num_bytes = len(member.data)
        self.num_bytes_left -= num_bytes
        hidden = (part.startswith(".") and part != ".." for part in path.parts)
        if any(hidden) or _NOT_CONTENT in path.parts:
            yield Omission(shown, Reason.HIDDEN, num_bytes=num_bytes)
        elif depth > MAX_DEPTH:
            yield Omission(shown, Reason.TOO_DEEP, num_bytes=num_bytes)
        elif self.num_bytes_left < 0:
            limit = f"containers in this file hold more than {MAX_MEMBER_BYTES // MIB} MiB"
            yield Omission(shown, Reason.TOO_LARGE, limit, num_bytes)
        else:
            yield from self.expand(shown, member.data, depth, member.damage)

    def _reading(self, reader: Reader, data: bytes, sha256: str) -> tuple[Reading, bool]:
        """The reading, and whether it is one to keep: it took a child, and is not kept yet."""
        if len(data) > reader.max_bytes:
            raise ReadError(Reason.TOO_LARGE, f"more than {reader.max_bytes // MIB} MiB")
        if not data or data.isspace():
            raise ReadError(Reason.EMPTY)
        if (size := lfs_size(data)) is not None:
            raise ReadError(Reason.LFS_POINTER, f"{size:,} bytes; git lfs pull fetches them")
        if not reader.sandboxed:
            return reader.read(data), False
        if self.cache is not None and (kept := self.cache.get(sha256, reader)) is not None:
            return kept, False
        return self._sandboxed(reader, data), True

    def _sandboxed(self, reader: Reader, data: bytes) -> Reading:
        if reader.is_converter:
            return self._converted(reader, data)
        try:
            reading = self.sandbox.read(reader.name, data, patience=reader.patience)
            is_damaged = any(isinstance(warning, Damaged) for warning in reading.warnings)
            self.is_suspect = self.is_suspect or is_damaged or bool(reading.members)
            return reading
        except ReadError as error:
            self.is_suspect = self.is_suspect or error.reason not in _SOUND
            if not isinstance(error, BrokeReaderError):
                raise
            if not reader.fallback or error.reason is Reason.TOO_LARGE:
                raise
            try:
                reading = self.sandbox.read(reader.fallback, data)
            except ReadError:
                raise error from None
            warning = f"read by {reader.fallback}: the usual reader failed ({error.detail})"
            return replace(reading, warnings=(*reading.warnings, warning))

    def _converted(self, reader: Reader, data: bytes) -> Reading:
        """By a child of its own, which may start programs; the result by one that may not."""
        with self.sandbox.converter() as converter:
            made = converter.read(reader.name, data, patience=reader.patience)
        if len(made.members) != 1:
            raise ReadError(Reason.UNREADABLE, "nothing was made of it")
        (member,) = made.members
        inner, _ = choose(member.name, member.data[:HEAD_BYTES])
        reading = self._sandboxed(inner, member.data)
        told = f"converted to {PurePosixPath(member.name).suffix} by LibreOffice"
        return replace(reading, warnings=(*reading.warnings, told))

    def _without_secrets(self, document: Document, secrets: Sequence[str]) -> Document | Omission:
        if not secrets:
            return document
        if is_env_file(document.path) and not self.allow_secrets:
            told = "its values are left out, as some are secrets; --allow-secrets reads them"
            bare = without_values(document.blocks)
            return replace(document, blocks=bare, warnings=(*document.warnings, Unread(told)))
        told = ", ".join(secrets[:_SECRETS_SHOWN])
        if more := len(secrets) - _SECRETS_SHOWN:
            told += f" and {more} more" if more > 0 else ""
        if self.allow_secrets:
            warning = f"holds what looks like a secret: {told}"
            return replace(document, warnings=(*document.warnings, warning))
        detail = f"{told}; --allow-secrets reads it"
        return Omission(document.path, Reason.SECRET, detail, document.num_bytes)


def _signature(reader: Reader, reading: Reading) -> str:
    name = f"{reader.name} {reader.version}"
    return f"{name} ({reading.library})" if reading.library else name
