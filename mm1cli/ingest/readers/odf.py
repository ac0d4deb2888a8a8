"""OpenDocument: text, presentations and spreadsheets, packed or as one flat XML file."""

import posixpath
from dataclasses import replace
from io import BytesIO

from mm1cli.ingest.corpus import Block, Damaged, Place, Reason
from mm1cli.ingest.readers.inflation import Stream
from mm1cli.ingest.readers.lines import (
    Line,
    as_heading,
    hidden_warnings,
    lines_to_blocks,
    one_paragraph,
    picture_warnings,
    ranges,
)
from mm1cli.ingest.readers.markup import (
    Element,
    attribute,
    child,
    children,
    descendants,
    local_name,
    lxml_version,
    parse_xml,
)
from mm1cli.ingest.readers.maths import mathml
from mm1cli.ingest.readers.odf_text import TextWalk, looks_of
from mm1cli.ingest.readers.ods import Spreadsheet
from mm1cli.ingest.readers.package import Package
from mm1cli.ingest.readers.reader import MIB, Member, Reader, ReadError, Reading

_CONTENT, _STYLES, _MANIFEST = "content.xml", "styles.xml", "META-INF/manifest.xml"
_SPREADSHEET = b"opendocument.spreadsheet"
_SNIFFED_BYTES = 2000
_MARGINS = {
    "header": "header",
    "header-left": "header",
    "header-first": "header",
    "footer": "footer",
    "footer-left": "footer",
    "footer-first": "footer",
}


def read_odf(data: bytes) -> Reading:
    """Text: paragraphs counted through, headers and footers last. Presentations: slide after
    slide. Spreadsheets: rows, with the values that were stored.

    Raises ReadError: EMPTY, ENCRYPTED, TOO_LARGE, UNREADABLE, UNSUPPORTED.
    """
    if data.lstrip()[:5] in {b"<?xml", b"<offi"}:
        if _SPREADSHEET in data[:_SNIFFED_BYTES]:
            return _spreadsheet(BytesIO(data))
        root = parse_xml(data)
        return _document(root, root, None)
    package = Package(data)
    if _is_locked(package):
        raise ReadError(Reason.ENCRYPTED)
    mimetype = package.read("mimetype") if "mimetype" in package else b""
    if _SPREADSHEET in mimetype:
        return _warned(_spreadsheet(package.stream(_CONTENT)), package)
    warnings: list[str] = []
    styles = package.secondary(_STYLES, warnings) if _STYLES in package else None
    reading = _document(package.xml(_CONTENT), styles, package)
    return _warned(replace(reading, warnings=(*reading.warnings, *warnings)), package)


def _warned(reading: Reading, package: Package) -> Reading:
    return replace(reading, warnings=(*package.warnings, *reading.warnings))


def _spreadsheet(stream: Stream) -> Reading:
    sheets = Spreadsheet()
    try:
        sheets.read(stream)
    except ReadError as error:
        if error.reason is not Reason.UNREADABLE or not sheets.blocks:
            raise
        sheets.warnings.append(Damaged(f"cannot be read to its end: {error.detail}"))
    if not sheets.blocks:
        raise ReadError(Reason.EMPTY)
    sheets.warnings += hidden_warnings(sheets.blocks)
    return Reading(tuple(sheets.blocks), tuple(sheets.warnings), lxml_version())


def _document(root: Element, styles: Element | None, package: Package | None) -> Reading:
    def graphic(path: str) -> list[Line]:
        return [] if package is None else _object_lines(package, path)

    walk = TextWalk(graphic, looks_of(root, styles if styles is not root else None))
    warnings: list[str] = []
    body = child(root, "body")
    kind = next((inner for inner in (() if body is None else body) if local_name(inner)), None)
    if kind is None:
        raise ReadError(Reason.UNREADABLE, "no body in the document")
    if local_name(kind) in {"presentation", "drawing"}:
        blocks = _slides(kind, _hidden_pages(root), walk, warnings)
    elif local_name(kind) == "text":
        lines = [*walk.body(kind), *_margins(styles, walk)]
        lines += walk.links.lines([line.text for line in lines])
        blocks = lines_to_blocks(lines, "paragraph")
    else:
        raise ReadError(Reason.UNSUPPORTED, f"OpenDocument {local_name(kind)}")
    pictures = {attribute(picture, "href") for picture in descendants(kind, "image")}
    # A chart or sheet also has a picture of itself.
    replaced = {path for path in pictures if "ObjectReplacements" in path}
    warnings += hidden_warnings(blocks) + picture_warnings(len(pictures - replaced))
    if walk.num_deleted:
        warnings.append(f"tracked changes: {walk.num_deleted} deletions left out")
    hrefs = (attribute(inner, "href") for inner in descendants(kind, "object-ole"))
    paths = (posixpath.normpath(posixpath.join("/", href)).lstrip("/") for href in hrefs)
    members: tuple[Member, ...] = ()
    if package is not None:
        members, lost = package.embedded(path for path in dict.fromkeys(paths) if path in package)
        warnings += lost
    if not blocks and not members:
        raise ReadError(Reason.EMPTY)
    return Reading(tuple(blocks), tuple(warnings), lxml_version(), members=members)


def _slides(body: Element, hidden: set[str], walk: TextWalk, warnings: list[str]) -> list[Block]:
    blocks: list[Block] = []
    blank: list[int] = []
    for index, page in enumerate(children(body, "page")):
        title = ""
        lines: list[Line] = []
        for shape in page:
            if local_name(shape) == "notes":
                notes = [line for inner in shape for line in walk.drawn(inner)]
                lines += [Line(line.text, line.mark or "notes") for line in notes]
                continue
            found = list(walk.drawn(shape))
            if attribute(shape, "class") == "title" and found and not title:
                # The title first, wherever it stands in the drawing order.
                title = one_paragraph(found[0].text)
                lines[:0] = [replace(found[0], text=as_heading(title, 0)), *found[1:]]
            else:
                lines += found
        mark = "hidden slide" if attribute(page, "style-name") in hidden else ""
        headings = (title,) if title else ()
        place = Place("slide", index)
        blocks_here = lines_to_blocks(
            [Line(line.text, line.mark or mark, headings) for line in lines], "paragraph", place
        )
        blocks += blocks_here
        if not blocks_here:
            blank.append(index)
    if blank:
        warnings.append(f"without text: slide {ranges(blank)}")
    return blocks


def _hidden_pages(root: Element) -> set[str]:
    return {
        attribute(style, "name")
        for style in descendants(root, "style")
        for properties in children(style, "drawing-page-properties")
        if attribute(properties, "visibility") == "hidden"
    }


def _margins(styles: Element | None, walk: TextWalk) -> list[Line]:
    found: dict[tuple[str, str], Line] = {}
    for master in () if styles is None else descendants(styles, "master-page"):
        for margin in master:
            if mark := _MARGINS.get(local_name(margin)):
                for line in walk.marked(margin, mark):
                    found.setdefault((line.text, line.mark), line)
    return list(found.values())


def _object_lines(package: Package, path: str) -> list[Line]:
    part = posixpath.normpath(posixpath.join("/", path, _CONTENT)).lstrip("/")
    if part not in package:
        return []
    try:
        root = package.xml(part)
    except ReadError as error:
        if error.reason is not Reason.UNREADABLE:
            raise
        return []
    if local_name(root) == "math":
        return [Line(mathml(root), "formula")]
    is_chart = any(True for _ in descendants(root, "chart"))
    return TextWalk().marked(root, "chart" if is_chart else "embedded")


def _is_locked(package: Package) -> bool:
    if _MANIFEST not in package:
        return False
    return any(True for _ in descendants(package.xml(_MANIFEST), "encryption-data"))


ODF = Reader(
    name="odf",
    version=6,
    kinds={
        **dict.fromkeys((".odt", ".ott", ".fodt"), "odt"),
        **dict.fromkeys((".odp", ".otp", ".fodp", ".odg", ".fodg"), "odp"),
        **dict.fromkeys((".ods", ".ots", ".fods"), "ods"),
    },
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_odf,
)
