"""A zip of parts, inflated one by one and counted, and the relations between them (OPC)."""

import posixpath
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol
from urllib.parse import unquote

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.names import one_line
from mm1cli.ingest.readers.markup import Element, attribute, broken, children, parse_xml
from mm1cli.ingest.readers.reader import MIB, ReadError

OLE_MAGIC = b"\xd0\xcf\x11\xe0"
_OLD_FORMATS = (
    ("WordDocument", "Word 97-2003 document; save it as .docx"),
    ("Workbook", "Excel 97-2003 workbook; save it as .xlsx"),
    ("PowerPoint Document", "PowerPoint 97-2003 presentation; save it as .pptx"),
)
_MAX_INFLATED_BYTES = 512 * MIB
_MAX_PARTS = 20_000
_MAX_RATIO = 200
_RATIO_COUNTS_FROM_BYTES = 32 * MIB
_CHUNK_BYTES = MIB
# How a packed file holds other files; what their parts are called says nothing.
_EMBEDDED = frozenset({"package", "oleObject", "aFChunk"})


@dataclass(frozen=True, slots=True)
class Relation:
    """What a part has to do with `target`: `role` is "header", "slide", "chart"."""

    role: str
    target: str

    @property
    def is_embedded(self) -> bool:
        return self.role in _EMBEDDED


class Stream(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class Inflation:
    """Counts inflated bytes against what a file of `num_bytes` may become."""

    def __init__(self, num_bytes: int, limit_bytes: int = _MAX_INFLATED_BYTES) -> None:
        self._limit = min(limit_bytes, max(num_bytes * _MAX_RATIO, _RATIO_COUNTS_FROM_BYTES))
        self._num_bytes = 0

    def add(self, num_bytes: int) -> None:
        """Raises ReadError: TOO_LARGE."""
        self._num_bytes += num_bytes
        if self._num_bytes > self._limit:
            detail = f"inflates to more than {self._limit // MIB} MiB"
            raise ReadError(Reason.TOO_LARGE, detail)

    def read(self, stream: Stream) -> bytes:
        """All of `stream`, a chunk at a time: the sizes that a file declares may lie."""
        self.add(0)
        chunks = []
        while chunk := stream.read(_CHUNK_BYTES):
            self.add(len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)


class Package:
    """Parts by name, letters of either case alike. Every method raises ReadError."""

    def __init__(self, data: bytes) -> None:
        """Raises ReadError: ENCRYPTED, TOO_LARGE, UNREADABLE, UNSUPPORTED."""
        import zipfile

        refuse_old_office(data)
        try:
            self._zip = zipfile.ZipFile(BytesIO(data))
        except MemoryError:
            raise
        except Exception as error:
            raise broken(error) from None
        parts = self._zip.infolist()
        if len(parts) > _MAX_PARTS:
            raise ReadError(Reason.TOO_LARGE, f"more than {_MAX_PARTS} parts")
        if any(part.flag_bits & 1 for part in parts):
            raise ReadError(Reason.ENCRYPTED)
        self._parts = {part.filename.replace("\\", "/").lower(): part for part in parts}
        self._inflation = Inflation(len(data))

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._parts

    def read(self, name: str) -> bytes:
        return self._inflation.read(self.stream(name, counted=False))

    def stream(self, name: str, *, counted: bool = True) -> Stream:
        part = self._parts.get(name.lower())
        if part is None:
            raise ReadError(Reason.UNREADABLE, f"the part {one_line(name)} is missing")
        try:
            file = self._zip.open(part)
        except MemoryError:
            raise
        except Exception as error:
            raise broken(error) from None
        return _Guarded(file, self._inflation if counted else None)

    def xml(self, name: str) -> Element:
        return parse_xml(self.read(name))

    def relations(self, name: str) -> dict[str, Relation]:
        """What the part `name` ("" for the package) relates to inside the package, by id."""
        folder, base = posixpath.split(name)
        rels = posixpath.join(folder, "_rels", f"{base}.rels")
        if rels not in self:
            return {}
        found = {}
        for relation in children(self.xml(rels), "Relationship"):
            if attribute(relation, "TargetMode").lower() == "external":
                continue
            role = attribute(relation, "Type").rpartition("/")[2]
            target = unquote(attribute(relation, "Target"))
            path = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
            found[attribute(relation, "Id")] = Relation(role, path)
        return found

    def related(self, name: str, *roles: str) -> list[str]:
        """The parts that play one of `roles` for the part `name`, in the order of their ids."""
        relations = self.relations(name).values()
        targets = [relation.target for relation in relations if relation.role in roles]
        return [target for target in dict.fromkeys(targets) if target in self]

    def main_part(self) -> str:
        """The document itself."""
        parts = self.related("", "officeDocument")
        if not parts:
            raise ReadError(Reason.UNREADABLE, "no document in the package")
        return parts[0]


class _Guarded:
    """Reads from `stream`, counts, and turns a damaged one into a ReadError."""

    def __init__(self, stream: Stream, inflation: Inflation | None) -> None:
        self._stream = stream
        self._inflation = inflation

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._stream.read(size)
        except MemoryError:
            raise
        except Exception as error:
            raise broken(error) from None
        if self._inflation is not None:
            self._inflation.add(len(data))
        return data


def refuse_old_office(data: bytes) -> None:
    """The container of Office 97-2003, which also wraps encrypted files of newer formats."""
    if not data.startswith(OLE_MAGIC):
        return
    if "EncryptedPackage".encode("utf-16-le") in data:
        raise ReadError(Reason.ENCRYPTED)
    for stream, detail in _OLD_FORMATS:
        if stream.encode("utf-16-le") in data:
            raise ReadError(Reason.UNSUPPORTED, detail)
    raise ReadError(Reason.UNSUPPORTED, "old Office file; save it in a newer format")
