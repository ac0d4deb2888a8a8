"""Archives as folders: zip, tar, and single compressed files. Members are counted as they inflate.

Nothing is written to disk, so a member's name can lead nowhere; it is only shown.
"""

import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Damaged, Reason
from mm1cli.ingest.readers.inflation import Inflation
from mm1cli.ingest.readers.markup import broken
from mm1cli.ingest.readers.reader import (
    MAX_MEMBER_BYTES,
    MAX_MEMBERS,
    MIB,
    Member,
    Reader,
    ReadError,
    Reading,
    beyond,
)
from mm1cli.ingest.readers.salvage import CUT, MAGIC, Salvage
from mm1cli.ingest.readers.zip_salvage import LocalFile, open_zip, unlisted_members

if TYPE_CHECKING:
    import tarfile
    import zipfile

_TAR_MAGIC_AT = 257
_TAR_BLOCK_BYTES = 512
_UTF8_NAME = 0x800


def read_archive(data: bytes) -> Reading:
    """No text of its own: every member is a file to read, or has the reason why it cannot be.

    Folders are passed over. Raises ReadError: EMPTY, TOO_LARGE, UNREADABLE.
    """
    for method, magic in MAGIC.items():
        if data.startswith(magic):
            return _compressed(data, method)
    if data.startswith(b"PK"):
        return _reading(_zip_members(data))
    if is_tar(data):
        return _reading(_tar_members(data))
    raise ReadError(Reason.UNREADABLE, "neither zip nor tar")


def is_tar(data: bytes) -> bool:
    return data[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar"


def _compressed(data: bytes, method: str) -> Reading:
    stream = Salvage(data, method)
    content = Inflation(len(data), MAX_MEMBER_BYTES).read(stream)
    if stream.damage and not content:
        raise ReadError(Reason.UNREADABLE, stream.damage)
    if is_tar(content):
        return _reading(_tar_members(content), stream.damage)
    return Reading((), members=(Member("", content, damage=stream.damage),))


def _reading(members: Iterator[Member], damage: str = "") -> Reading:
    found: list[Member] = []
    names: dict[str, int] = {}
    warnings: list[str] = [_cut(damage)] if damage else []
    try:
        for member in members:
            if len(found) == MAX_MEMBERS - 1:
                found.append(beyond(f"only the first {len(found)} members are read"))
                break
            # Two members of one name are two texts.
            count = names[member.name] = names.get(member.name, 0) + 1
            name = member.name if count == 1 else f"{member.name} ({count})"
            found.append(replace(member, name=name))
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        if not found:
            raise broken(error) from None
        warnings += [] if damage else [_cut(broken(error).detail)]
    if not found:
        raise ReadError(Reason.EMPTY)
    return Reading((), tuple(warnings), members=tuple(found))


def _cut(detail: str) -> Damaged:
    return Damaged(f"cannot be read to its end: {detail}")


def _zip_members(data: bytes) -> Iterator[Member]:

    inflation = Inflation(len(data), MAX_MEMBER_BYTES)
    try:
        archive = open_zip(data)
    except MemoryError:
        raise
    except Exception:
        yield from unlisted_members(data, inflation)
        raise
    for info in archive.infolist():
        if not info.is_dir():
            yield _zip_member(archive, info, inflation, data)


def _zip_member(
    archive: "zipfile.ZipFile", info: "zipfile.ZipInfo", inflation: Inflation, data: bytes
) -> Member:
    name = _zip_name(info)
    mode = info.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        return Member(name, refusal=ReadError(Reason.NOT_A_FILE, "a link in an archive"))
    if info.flag_bits & 1:
        return Member(name, refusal=ReadError(Reason.ENCRYPTED))
    try:
        with archive.open(info) as stream:
            return Member(name, inflation.read(stream))
    except MemoryError:
        raise
    except ReadError as error:
        return Member(name, refusal=error)
    except NotImplementedError:
        detail = f"compression method {info.compress_type}"
        return Member(name, refusal=ReadError(Reason.UNSUPPORTED, detail))
    except Exception as error:
        return _damaged_member(name, info, inflation, data) or Member(name, refusal=broken(error))


def _damaged_member(
    name: str, info: "zipfile.ZipInfo", inflation: Inflation, data: bytes
) -> Member | None:
    """What can still be had of it; None if that is nothing."""
    file = LocalFile.at(data, info.header_offset)
    if file is None:
        return None
    try:
        content, damage, _ = file.content(data, inflation)
    except ReadError as error:
        return Member(name, refusal=error)
    return Member(name, content, damage=damage) if content and damage else None


def _zip_name(info: "zipfile.ZipInfo") -> str:
    """Without the UTF-8 flag it was read as cp437, as the standard says; most are UTF-8."""
    name = info.filename
    if not info.flag_bits & _UTF8_NAME:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _tar_members(data: bytes) -> Iterator[Member]:
    import tarfile

    inflation = Inflation(len(data), MAX_MEMBER_BYTES)
    with tarfile.open(fileobj=BytesIO(data), mode="r:", errors="surrogateescape") as archive:
        for info in archive:
            if info.isdir():
                continue
            if not info.isreg():
                kind = "a link" if info.issym() or info.islnk() else "a device"
                refusal = ReadError(Reason.NOT_A_FILE, f"{kind} in an archive")
                yield Member(info.name, refusal=refusal)
                continue
            yield _tar_member(archive, info, inflation, data)
        # The library takes a damaged header for the end of the archive, and says nothing.
        if data[archive.offset : archive.offset + _TAR_BLOCK_BYTES] != bytes(_TAR_BLOCK_BYTES):
            raise EOFError(CUT)


def _tar_member(
    archive: "tarfile.TarFile", info: "tarfile.TarInfo", inflation: Inflation, data: bytes
) -> Member:
    try:
        if info.issparse():
            stream = archive.extractfile(info)
            assert stream is not None
            return Member(info.name, inflation.read(stream))
        content = data[info.offset_data : info.offset_data + info.size]
        inflation.add(len(content))
    except ReadError as error:
        return Member(info.name, refusal=error)
    damage = "" if len(content) == info.size else CUT
    if damage and not content:
        return Member(info.name, refusal=ReadError(Reason.UNREADABLE, damage))
    return Member(info.name, content, damage=damage)


ARCHIVE = Reader(
    name="archive",
    version=2,
    kinds=dict.fromkeys(
        (".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz"), "archive"
    ),
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_archive,
)
