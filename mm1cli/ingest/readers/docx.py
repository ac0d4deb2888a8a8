"""DOCX: the parts of the package that hold text, walked by `docx_text`."""

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.docx_numbering import Numbering
from mm1cli.ingest.readers.docx_styles import Styles
from mm1cli.ingest.readers.docx_text import Revisions, TextWalk
from mm1cli.ingest.readers.drawing import graphic_lines
from mm1cli.ingest.readers.lines import (
    Line,
    hidden_warnings,
    lines_to_blocks,
    one_paragraph,
    picture_warnings,
)
from mm1cli.ingest.readers.markup import (
    Element,
    attribute,
    local_name,
    lxml_version,
)
from mm1cli.ingest.readers.package import Package
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading

_NOT_NOTES = frozenset({"separator", "continuationSeparator", "continuationNotice"})


def read_docx(data: bytes) -> Reading:
    """Blocks whose lines are the paragraphs that have text, counted through; a table row is one.

    Headers and footers come last, each line once. Tracked insertions are read, deletions are not.
    Raises ReadError: EMPTY, ENCRYPTED, TOO_LARGE, UNREADABLE, UNSUPPORTED.
    """
    package = Package(data)
    name = package.main_part()
    root = package.xml(name)
    if local_name(root) != "document":
        raise ReadError(Reason.UNREADABLE, f"no Word document, but a {local_name(root)}")
    warnings = list(package.warnings)
    relations = package.relations(name)
    links = package.links(name)

    def graphic(key: str) -> list[Line]:
        return graphic_lines(package, relations[key].target) if key in relations else []

    walk = TextWalk(
        _notes(package, name, warnings),
        _styles(package, name, warnings),
        graphic,
        _numbering(package, name, warnings),
        lambda key: links.get(key, ""),
    )
    lines = list(walk.body(root))
    lines += walk.left_notes()
    lines += _margins(package, name, walk, warnings)
    lines += walk.links.lines([line.text for line in lines])
    blocks = lines_to_blocks(lines, "paragraph")
    warnings += _changes(walk.revisions) + hidden_warnings(blocks)
    warnings += picture_warnings(sum(part.role == "image" for part in relations.values()))
    members, lost = package.embedded(
        relation.target
        for relation in relations.values()
        if relation.is_embedded and relation.target in package
    )
    warnings += lost
    if not blocks and not members:
        raise ReadError(Reason.EMPTY)
    return Reading(tuple(blocks), tuple(warnings), lxml_version(), members=members)


def _styles(package: Package, name: str, warnings: list[str]) -> Styles:
    for part in package.related(name, "styles"):
        if (root := package.secondary(part, warnings)) is not None:
            return Styles.of(root)
    return Styles()


def _numbering(package: Package, name: str, warnings: list[str]) -> Numbering:
    for part in package.related(name, "numbering"):
        return Numbering(package.secondary(part, warnings))
    return Numbering()


def _notes(package: Package, name: str, warnings: list[str]) -> dict[tuple[str, str], Element]:
    found = {}
    for part in package.related(name, "footnotes", "endnotes", "comments"):
        root = package.secondary(part, warnings)
        for note in () if root is None else root:
            if attribute(note, "type") not in _NOT_NOTES:
                found[local_name(note), attribute(note, "id")] = note
    return found


def _margins(package: Package, name: str, walk: TextWalk, warnings: list[str]) -> list[Line]:
    lines: dict[tuple[str, str], Line] = {}
    for role in ("header", "footer"):
        for part in sorted(package.related(name, role)):
            if (root := package.secondary(part, warnings)) is not None:
                for line in walk.marked(root, role):
                    lines.setdefault((one_paragraph(line.text), line.mark), line)
    return list(lines.values())


def _changes(revisions: Revisions) -> list[str]:
    if not revisions.num_inserted and not revisions.num_deleted:
        return []
    inserted, deleted = revisions.num_inserted, revisions.num_deleted
    return [f"tracked changes: {inserted} insertions read, {deleted} deletions left out"]


DOCX = Reader(
    name="docx",
    version=8,
    kinds={".docx": "docx", ".docm": "docx", ".dotx": "docx", ".dotm": "docx"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_docx,
)
