"""The members of a zip that is cut off or damaged, found by the header that stands before each."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.inflation import Inflation
from mm1cli.ingest.readers.reader import Member, ReadError
from mm1cli.ingest.readers.salvage import CUT, Salvage

_MAGIC = b"PK\x03\x04"
_HEADER = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _SIZE_FOLLOWS = 1, 8
_UNKNOWN_SIZE = 0xFFFFFFFF
_NEXT_RECORDS = (_MAGIC, b"PK\x07\x08", b"PK\x01\x02")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One member's own header. `num_bytes`, its compressed size, is None where it is not said."""

    name: str
    is_encrypted: bool
    method: int
    checksum: int
    num_bytes: int | None
    start: int

    @classmethod
    def at(cls, data: bytes, offset: int) -> "LocalFile | None":
        if not data.startswith(_MAGIC, offset) or len(data) < offset + _HEADER.size:
            return None
        fields = _HEADER.unpack_from(data, offset)
        _, _, flags, method, _, _, checksum, num_bytes, _, name_length, extra_length = fields
        name_at = offset + _HEADER.size
        name = data[name_at : name_at + name_length]
        is_known = not flags & _SIZE_FOLLOWS and num_bytes != _UNKNOWN_SIZE
        return cls(
            name=name.decode("utf-8", "replace").replace("\\", "/"),
            is_encrypted=bool(flags & _ENCRYPTED),
            method=method,
            checksum=checksum,
            num_bytes=num_bytes if is_known else None,
            start=name_at + name_length + extra_length,
        )

    def content(self, data: bytes, inflation: Inflation) -> tuple[bytes, str, int]:
        """What can be read of it, what is wrong with that, and where in `data` it ends.

        Raises ReadError: ENCRYPTED, TOO_LARGE, UNSUPPORTED.
        """
        if self.is_encrypted:
            raise ReadError(Reason.ENCRYPTED)
        if self.method == _DEFLATED:
            stream = Salvage(data, "deflate", self.start)
            content, damage, end = inflation.read(stream), stream.damage, stream.end
        elif self.method == _STORED:
            end = self._stored_end(data)
            content, damage = data[self.start : end], "" if end < len(data) else CUT
            inflation.add(len(content))
        else:
            raise ReadError(Reason.UNSUPPORTED, f"compression method {self.method}")
        if not damage and self.num_bytes is not None and zlib.crc32(content) != self.checksum:
            damage = "damaged inside: its checksum is another"
        return content, damage, end

    def _stored_end(self, data: bytes) -> int:
        if self.num_bytes is not None:
            return self.start + self.num_bytes
        end = len(data)
        for magic in _NEXT_RECORDS:
            found = data.find(magic, self.start, end)
            end = end if found < 0 else found
        return end


def open_zip(data: bytes) -> zipfile.ZipFile:
    """Raises what the library raises, also where it takes the list of a zip that lies in the last
    part of a cut one for that of the whole, and would give nothing of what comes before."""
    archive = zipfile.ZipFile(BytesIO(data))
    first = min((part.header_offset for part in archive.filelist), default=0)
    if first > 0 and data.startswith(_MAGIC):
        raise zipfile.BadZipFile("the list of members is missing")
    return archive


def unlisted_members(data: bytes, inflation: Inflation) -> Iterator[Member]:
    """What can be found without the list at the end of the zip. Folders are passed over."""
    at = data.find(_MAGIC)
    while at >= 0:
        file = LocalFile.at(data, at)
        end = at + len(_MAGIC)
        if file is not None and not file.name.endswith("/"):
            try:
                content, damage, end = file.content(data, inflation)
                if content or not damage:
                    yield Member(file.name, content, damage=damage)
                else:
                    yield Member(file.name, refusal=ReadError(Reason.UNREADABLE, damage))
            except ReadError as error:
                yield Member(file.name, refusal=error)
                end = file.start + (file.num_bytes or 0)
        at = data.find(_MAGIC, max(end, at + len(_MAGIC)))
