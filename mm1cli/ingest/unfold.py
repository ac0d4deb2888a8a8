"""From a file's bytes to its document and, for a container, those of the files inside it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from mm1cli.ingest.corpus import Document, Omission, Reason
from mm1cli.ingest.names import shown_path
from mm1cli.ingest.readers import HEAD_BYTES, Reader, ReadError, Reading, choose
from mm1cli.ingest.readers.reader import MAX_MEMBER_BYTES, MIB, Member
from mm1cli.ingest.sandbox import BrokeReaderError, Sandbox

MAX_DEPTH = 3
_NOT_CONTENT = "__MACOSX"  # what macOS adds to an archive beside each file


@dataclass(slots=True)
class _Allowance:
    """What the containers in one file may still give out, all depths together."""

    num_bytes: int = MAX_MEMBER_BYTES


def unfold(
    shown: str, data: bytes, sandbox: Sandbox, depth: int = 0, allowance: _Allowance | None = None
) -> Iterator[Document | Omission]:
    """The document or omission of `data`, then those of its members, depth first.

    A member's path goes on from its container's: "a.zip/inner/b.txt". Members deeper than
    `MAX_DEPTH` containers, or beyond `MAX_MEMBER_BYTES` in all, are omissions.
    """
    allowance = allowance or _Allowance()
    members: tuple[Member, ...] = ()
    try:
        reader, kind = choose(shown, data[:HEAD_BYTES])
        reading = _reading(reader, data, sandbox)
    except ReadError as error:
        yield Omission(shown, error.reason, error.detail, len(data))
        return
    members = reading.members
    yield Document(
        path=shown,
        kind=kind,
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        reader=_signature(reader, reading),
        blocks=reading.blocks,
        warnings=reading.warnings,
        encoding=reading.encoding,
    )
    for member in members:
        yield from _unfold_member(shown, member, sandbox, depth + 1, allowance)


def _unfold_member(
    container: str, member: Member, sandbox: Sandbox, depth: int, allowance: _Allowance
) -> Iterator[Document | Omission]:
    # A name in an archive may be absolute; it only names the text here, and opens nothing.
    # A lone compressed file has no name of its own: "notes.txt.gz" holds "notes.txt".
    name = member.name.lstrip("/") or PurePosixPath(container).stem
    path = PurePosixPath(shown_path(name))
    shown = f"{container}/{path}"
    if member.refusal is not None:
        yield Omission(shown, member.refusal.reason, member.refusal.detail)
        return
    allowance.num_bytes -= len(member.data)
    if any((part.startswith(".") and part != "..") or part == _NOT_CONTENT for part in path.parts):
        yield Omission(shown, Reason.HIDDEN, num_bytes=len(member.data))
    elif depth > MAX_DEPTH:
        yield Omission(shown, Reason.TOO_DEEP, num_bytes=len(member.data))
    elif allowance.num_bytes < 0:
        limit = f"containers in this file hold more than {MAX_MEMBER_BYTES // MIB} MiB"
        yield Omission(shown, Reason.TOO_LARGE, limit, len(member.data))
    else:
        yield from unfold(shown, member.data, sandbox, depth, allowance)


def _reading(reader: Reader, data: bytes, sandbox: Sandbox) -> Reading:
    if len(data) > reader.max_bytes:
        raise ReadError(Reason.TOO_LARGE, f"more than {reader.max_bytes // MIB} MiB")
    if not data or data.isspace():
        raise ReadError(Reason.EMPTY)
    if not reader.sandboxed:
        return reader.read(data)
    try:
        return sandbox.read(reader.name, data, patience=reader.patience)
    except BrokeReaderError as error:
        if not reader.fallback or error.reason is Reason.TOO_LARGE:
            raise
        try:
            reading = sandbox.read(reader.fallback, data)
        except ReadError:
            raise error from None
        warning = f"read by {reader.fallback}: the usual reader failed ({error.detail})"
        return replace(reading, warnings=(*reading.warnings, warning))


def _signature(reader: Reader, reading: Reading) -> str:
    name = f"{reader.name} {reader.version}"
    return f"{name} ({reading.library})" if reading.library else name
