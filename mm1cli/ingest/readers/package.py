"""A zip of parts, inflated one by one and counted, and the relations between them (OPC)."""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import unquote

from mm1cli.ingest.corpus import Damaged, Reason
from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.readers.attachments import Attachments
from mm1cli.ingest.readers.inflation import Inflation, Stream
from mm1cli.ingest.readers.markup import Element, attribute, broken, children, parse_xml
from mm1cli.ingest.readers.ole_object import inner_file
from mm1cli.ingest.readers.reader import Member, ReadError
from mm1cli.ingest.readers.zip_salvage import open_zip, unlisted_members

OLE_MAGIC = b"\xd0\xcf\x11\xe0"
_OLD_FORMATS = (
    ("WordDocument", "Word 97-2003 document; save it as .docx"),
    ("Workbook", "Excel 97-2003 workbook; save it as .xlsx"),
    ("PowerPoint Document", "PowerPoint 97-2003 presentation; save it as .pptx"),
)
_MAX_PARTS = 20_000
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


class Package:
    """Parts by name, letters of either case alike. Every method raises ReadError.

    Of a file without its end, the parts before it are there, the last one as far as it goes;
    `warnings` then says so.
    """

    def __init__(self, data: bytes) -> None:
        """Raises ReadError: ENCRYPTED, TOO_LARGE, UNREADABLE, UNSUPPORTED."""
        import zipfile

        refuse_old_office(data)
        self._salvaged: dict[str, Member] = {}
        self._known_relations: dict[str, list[Element]] = {}
        self.warnings: tuple[str, ...] = ()
        parts: list[zipfile.ZipInfo] = []
        try:
            self._zip = open_zip(data)
            parts = self._zip.infolist()
        except MemoryError:
            raise
        except Exception as error:
            self._salvage(data, broken(error))
        if len(parts) > _MAX_PARTS:
            raise ReadError(Reason.TOO_LARGE, f"more than {_MAX_PARTS} parts")
        if any(part.flag_bits & 1 for part in parts):
            raise ReadError(Reason.ENCRYPTED)
        self._parts = {part.filename.replace("\\", "/").lower(): part for part in parts}
        self._inflation = Inflation(len(data))

    def _salvage(self, data: bytes, error: ReadError) -> None:
        for part in unlisted_members(data, Inflation(len(data))):
            if part.refusal is not None and part.refusal.reason is not Reason.UNREADABLE:
                raise part.refusal
            if part.refusal is None and len(self._salvaged) < _MAX_PARTS:
                self._salvaged.setdefault(part.name.lower(), part)
        if not self._salvaged:
            raise error
        self.warnings = (Damaged(f"damaged, text may be missing: {error.detail}"),)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._parts or name.lower() in self._salvaged

    def read(self, name: str) -> bytes:
        return self._inflation.read(self.stream(name, counted=False))

    def stream(self, name: str, *, counted: bool = True) -> Stream:
        if (salvaged := self._salvaged.get(name.lower())) is not None:
            return _Guarded(BytesIO(salvaged.data), self._inflation if counted else None)
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
        salvaged = self._salvaged.get(name.lower())
        return parse_xml(self.read(name), is_cut=salvaged is not None and bool(salvaged.damage))

    def relations(self, name: str) -> dict[str, Relation]:
        """What the part `name` ("" for the package) relates to inside the package, by id."""
        found = {}
        folder = posixpath.dirname(name)
        for relation in self._relations(name):
            if attribute(relation, "TargetMode").lower() == "external":
                continue
            role = attribute(relation, "Type").rpartition("/")[2]
            target = unquote(attribute(relation, "Target"))
            path = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
            found[attribute(relation, "Id")] = Relation(role, path)
        return found

    def links(self, name: str) -> dict[str, str]:
        """Where the links of the part `name` lead, by id."""
        return {
            attribute(relation, "Id"): attribute(relation, "Target")
            for relation in self._relations(name)
            if attribute(relation, "Type").endswith("/hyperlink")
        }

    def _relations(self, name: str) -> list[Element]:
        if name not in self._known_relations:
            folder, base = posixpath.split(name)
            rels = posixpath.join(folder, "_rels", f"{base}.rels")
            found = children(self.xml(rels), "Relationship") if rels in self else ()
            self._known_relations[name] = list(found)
        return self._known_relations[name]

    def related(self, name: str, *roles: str) -> list[str]:
        """The parts that play one of `roles` for the part `name`, in the order of their ids."""
        relations = self.relations(name).values()
        targets = [relation.target for relation in relations if relation.role in roles]
        return [target for target in dict.fromkeys(targets) if target in self]

    def embedded(self, parts: Iterable[str]) -> tuple[tuple[Member, ...], list[str]]:
        """The files inside, those in objects of OLE taken out of them, and a warning for each that
        cannot be."""
        found = Attachments()
        warnings: list[str] = []
        for part in parts:
            name = part.rpartition("/")[2]
            try:
                data = self.read(part)
                if data.startswith(OLE_MAGIC):
                    name, data = inner_file(name, data)
            except ReadError as error:
                if error.reason in {Reason.UNSUPPORTED, Reason.ENCRYPTED}:
                    found.refuse(name, error)
                    continue
                detail = error.detail or error.reason
                warnings.append(Damaged(f"{one_line(name)} cannot be taken out: {detail}"))
                continue
            if not found.add(name, data):
                break
        return tuple(found.members), warnings

    def secondary(self, name: str, warnings: list[str]) -> Element | None:
        """The root of a part that the document can do without, or a warning that names it."""
        try:
            return self.xml(name)
        except ReadError as error:
            if error.reason is not Reason.UNREADABLE:
                raise
            warnings.append(Damaged(f"{one_line(name)} cannot be read: {error.detail}"))
            return None

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


def is_locked(data: bytes) -> bool:
    """Whether it is the container in which Office wraps files with a password."""
    return data.startswith(OLE_MAGIC) and "EncryptedPackage".encode("utf-16-le") in data


def refuse_old_office(data: bytes) -> None:
    """The container of Office 97-2003, which also wraps encrypted files of newer formats."""
    if not data.startswith(OLE_MAGIC):
        return
    if is_locked(data):
        raise ReadError(Reason.ENCRYPTED)
    for stream, detail in _OLD_FORMATS:
        if stream.encode("utf-16-le") in data:
            raise ReadError(Reason.UNSUPPORTED, detail)
    raise ReadError(Reason.UNSUPPORTED, "old Office file; save it in a newer format")
