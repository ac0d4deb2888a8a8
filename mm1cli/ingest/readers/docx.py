"""DOCX: the package is checked, python-docx opens it, `docx_text` walks its XML.

Entities cannot expand: python-docx parses with `resolve_entities=False`.
"""

import zipfile
from io import BytesIO
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Block, Reason
from mm1cli.ingest.names import one_line
from mm1cli.ingest.readers.docx_text import Element, TextWalk, attribute, local_name
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading

if TYPE_CHECKING:
    from docx.opc.part import Part

_OLE = b"\xd0\xcf\x11\xe0"
_OLD_WORD = "WordDocument".encode("utf-16-le")
_MAX_INFLATED_BYTES = 512 * MIB
_MAX_PARTS = 20_000
_MAX_RATIO = 200
_RATIO_COUNTS_FROM_BYTES = 32 * MIB
_CHUNK_BYTES = MIB


def read_docx(data: bytes) -> Reading:
    """One block whose lines are the paragraphs that have text; a table row counts as one.

    Headers and footers come last, each line once; notes follow the paragraph that refers to them.
    Raises ReadError: EMPTY, ENCRYPTED, TOO_LARGE, UNREADABLE, UNSUPPORTED.
    """
    refuse_bomb(data)
    import docx
    from docx.opc.package import OpcPackage

    try:
        part = OpcPackage.open(BytesIO(data)).main_document_part
        walk = TextWalk(_notes(part))
        lines = list(walk.lines(_root(part)))
        margins = [
            line
            for role in ("header", "footer")
            for related in _related(part, role)
            for line in walk.lines(_root(related))
        ]
        num_comments = sum(len(_root(related)) for related in _related(part, "comments"))
    except MemoryError:
        raise
    except Exception as error:
        message = one_line(str(error).strip("'\" \n") or type(error).__name__)[:200]
        raise ReadError(Reason.UNREADABLE, message) from None
    lines += dict.fromkeys(margins)
    if not lines:
        raise ReadError(Reason.EMPTY)
    warnings = (f"{num_comments} comments are not read",) if num_comments else ()
    block = Block("\n".join(lines), unit="paragraph")
    return Reading((block,), warnings, f"python-docx {docx.__version__}")


def refuse_bomb(data: bytes) -> None:
    """Inflates every part once, a chunk at a time, and counts: a zip's own sizes may lie."""
    if data.startswith(_OLE):
        if _OLD_WORD in data:
            raise ReadError(Reason.UNSUPPORTED, "Word 97-2003 document")
        raise ReadError(Reason.ENCRYPTED)
    limit = _MAX_INFLATED_BYTES
    if len(data) * _MAX_RATIO < limit:
        limit = max(len(data) * _MAX_RATIO, _RATIO_COUNTS_FROM_BYTES)
    num_bytes = 0
    try:
        with zipfile.ZipFile(BytesIO(data)) as package:
            parts = package.infolist()
            if len(parts) > _MAX_PARTS:
                raise ReadError(Reason.TOO_LARGE, f"more than {_MAX_PARTS} parts")
            if any(part.flag_bits & 1 for part in parts):
                raise ReadError(Reason.ENCRYPTED)
            for part in parts:
                with package.open(part) as file:
                    while chunk := file.read(_CHUNK_BYTES):
                        num_bytes += len(chunk)
                        if num_bytes > limit:
                            detail = f"inflates to more than {limit // MIB} MiB"
                            raise ReadError(Reason.TOO_LARGE, detail)
    except (ReadError, MemoryError):
        raise
    except Exception as error:
        raise ReadError(Reason.UNREADABLE, one_line(str(error))[:200]) from None


def _related(part: "Part", role: str) -> list["Part"]:
    """The parts that play `role` ("header", "footnotes") for `part`, by name."""
    found = {
        str(relation.target_part.partname): relation.target_part
        for relation in part.rels.values()
        if not relation.is_external and relation.reltype.endswith(f"/{role}")
    }
    return [found[name] for name in sorted(found)]


def _root(part: "Part") -> Element:
    from docx.oxml.parser import parse_xml

    root: Element = parse_xml(part.blob)
    return root


def _notes(part: "Part") -> dict[tuple[str, str], Element]:
    return {
        (local_name(note), attribute(note, "id")): note
        for role in ("footnotes", "endnotes")
        for related in _related(part, role)
        for note in _root(related)
        if not attribute(note, "type")
    }


DOCX = Reader(
    name="docx",
    version=1,
    kinds={".docx": "docx", ".docm": "docx", ".dotx": "docx"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_docx,
)
