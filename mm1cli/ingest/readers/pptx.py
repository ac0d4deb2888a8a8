"""PPTX: slides in the order they are shown, each with its shapes, notes and comments."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mm1cli.ingest.corpus import Block, Damaged, Place, Reason
from mm1cli.ingest.readers.drawing import graphic_lines, leveled_paragraphs, paragraphs, table_rows
from mm1cli.ingest.readers.lines import (
    Line,
    LinkList,
    as_heading,
    bullet,
    hidden_warnings,
    lines_to_blocks,
    one_paragraph,
    picture_warnings,
    ranges,
)
from mm1cli.ingest.readers.markup import (
    Element,
    alternative,
    attribute,
    child,
    children,
    descendants,
    is_true,
    local_name,
    lxml_version,
    number,
    relation_id,
)
from mm1cli.ingest.readers.package import Package, Relation
from mm1cli.ingest.readers.reader import MIB, Member, Reader, ReadError, Reading

_TITLES = frozenset({"title", "ctrTitle"})
_LISTS = frozenset({"body", "obj"})
_FURNITURE = {"dt": "footer", "ftr": "footer", "sldNum": "footer", "hdr": "header"}
_MAX_GROUPS = 64
_COMMENTS = ("comments", "comment")
_AUTHORS = ("commentAuthors", "authors")


def read_pptx(data: bytes) -> Reading:
    """One or more blocks for each slide; its title is the heading. Text that stands on a layout or
    master comes last, each line once.

    Raises ReadError: EMPTY, ENCRYPTED, TOO_LARGE, UNREADABLE, UNSUPPORTED.
    """
    package = Package(data)
    name = package.main_part()
    root = package.xml(name)
    if local_name(root) != "presentation":
        raise ReadError(Reason.UNREADABLE, f"no presentation, but a {local_name(root)}")
    deck = _Deck(package, name, root)
    blocks: list[Block] = []
    warnings: list[str] = []
    blank: list[int] = []
    for index, part in enumerate(deck.slides):
        try:
            lines = list(deck.slide(part))
        except ReadError as error:
            if error.reason is not Reason.UNREADABLE:
                raise
            warnings.append(Damaged(f"slide {index + 1} cannot be read: {error.detail}"))
            continue
        found = lines_to_blocks(lines, "paragraph", Place("slide", index))
        blocks += found
        if not found:
            blank.append(index)
    links = deck.links.lines([block.text for block in blocks])
    blocks += lines_to_blocks([*deck.backgrounds(), *links], "paragraph")
    if blank:
        warnings.append(f"without text: slide {ranges(blank)}")
    if not blocks and len(warnings) > bool(blank):
        raise ReadError(Reason.UNREADABLE, warnings[0])
    warnings += hidden_warnings(blocks) + picture_warnings(len(deck.pictures))
    members, lost = deck.members()
    warnings += [*deck.warnings, *lost]
    if not blocks and not members:
        raise ReadError(Reason.EMPTY)
    return Reading(tuple(blocks), (*package.warnings, *warnings), lxml_version(), members=members)


@dataclass(frozen=True, slots=True)
class _Size:
    width: int
    height: int


class _Deck:
    def __init__(self, package: Package, name: str, root: Element) -> None:
        self._package = package
        relations = package.relations(name)
        listed = child(root, "sldIdLst")
        keys = () if listed is None else map(relation_id, children(listed, "sldId"))
        self.slides = [relations[key].target for key in keys if key in relations]
        self.warnings: list[str] = []
        self.links = LinkList()
        size = child(root, "sldSz")
        self._size = None if size is None else _Size(number(size, "cx"), number(size, "cy"))
        self._authors = self._names(name)
        self._layouts: dict[str, None] = {}
        self._embedded: dict[str, None] = {}
        self.pictures: set[str] = set()

    def slide(self, part: str) -> Iterator[Line]:
        root = self._package.xml(part)
        relations = self._package.relations(part)
        lines = list(self._shapes(root, relations))
        links = self._package.links(part)
        for run in descendants(root, "r"):
            if (link := child(run, "rPr", "hlinkClick")) is not None:
                self.links.add("".join(run.itertext()), links.get(relation_id(link), ""))
        title = next((line.text for line in lines if line.mark == "title"), "")
        headings = tuple(filter(None, [one_paragraph(title)]))
        # The title first, wherever it stands in the drawing order.
        lines.sort(key=lambda line: line.mark != "title")
        hidden = not is_true(attribute(root, "show"), default=True)
        for line in lines:
            is_title = line.mark == "title"
            text = as_heading(one_paragraph(line.text), 0) if is_title else line.text
            mark = "" if is_title else line.mark
            yield Line(text, mark or ("hidden slide" if hidden else ""), headings)
        for relation in relations.values():
            yield from (replace(line, headings=headings) for line in self._extras(relation))

    def backgrounds(self) -> list[Line]:
        """What layouts and masters show on every slide, other than empty places to fill."""
        found: dict[str, Line] = {}
        for layout in self._layouts:
            for part in (layout, *self._package.related(layout, "slideMaster")):
                try:
                    root = self._package.xml(part)
                    relations = self._package.relations(part)
                except ReadError:
                    continue
                for line in self._shapes(root, relations, is_background=True):
                    found.setdefault(line.text, Line(line.text, "layout"))
        return list(found.values())

    def members(self) -> tuple[tuple[Member, ...], list[str]]:
        return self._package.embedded(self._embedded)

    def _extras(self, relation: Relation) -> Iterator[Line]:
        if relation.target not in self._package:
            return
        if relation.role == "slideLayout":
            self._layouts[relation.target] = None
        elif relation.role == "image":
            self.pictures.add(relation.target)
        elif relation.is_embedded:
            self._embedded[relation.target] = None
        elif relation.role == "notesSlide":
            notes = self._package.secondary(relation.target, self.warnings)
            for shape in () if notes is None else descendants(notes, "sp"):
                if _placeholder(shape) == "body":
                    yield from (Line(text, "notes") for text in paragraphs(shape))
        elif relation.role in _COMMENTS:
            root = self._package.secondary(relation.target, self.warnings)
            yield from () if root is None else self._comments(root)

    def _comments(self, root: Element) -> Iterator[Line]:
        for name in ("cm", "reply"):
            for comment in descendants(root, name):
                texts = [text.text or "" for text in children(comment, "text")]
                for body in children(comment, "txBody"):
                    texts += paragraphs(body)
                author = self._authors.get(attribute(comment, "authorId"))
                text = " ".join(texts)
                yield Line(f"{author}: {text}" if author else text, "comment")

    def _names(self, name: str) -> dict[str, str]:
        parts = self._package.related(name, *_AUTHORS)
        return {
            attribute(author, "id"): attribute(author, "name")
            for part in parts
            if (root := self._package.secondary(part, self.warnings)) is not None
            for author in root
        }

    def _shapes(
        self, root: Element, relations: dict[str, Relation], *, is_background: bool = False
    ) -> Iterator[Line]:
        for tree in descendants(root, "spTree"):
            yield from self._tree(tree, relations, is_background, depth=0)

    def _tree(
        self, tree: Element, relations: dict[str, Relation], is_background: bool, depth: int
    ) -> Iterator[Line]:
        for shape in tree:
            name = local_name(shape)
            if name == "AlternateContent":
                yield from self._tree(alternative(shape), relations, is_background, depth)
            elif name == "grpSp" and depth < _MAX_GROUPS:
                mark = self._mark(shape, depth)
                for line in self._tree(shape, relations, is_background, depth + 1):
                    yield replace(line, mark=mark or line.mark)
            elif name in {"sp", "cxnSp", "pic", "graphicFrame"}:
                if is_background and _placeholder(shape):
                    continue
                mark = self._mark(shape, depth)
                for line in _shape_lines(shape, relations, self._package):
                    yield replace(line, mark=mark or line.mark)

    def _mark(self, shape: Element, depth: int) -> str:
        properties = _properties(shape)
        if properties is not None and is_true(attribute(properties, "hidden")):
            return "hidden"
        # Inside a group the coordinates are the group's own.
        if self._size is not None and depth == 0 and _is_outside(shape, self._size):
            return "off page"
        return ""


def _shape_lines(
    shape: Element, relations: dict[str, Relation], package: Package
) -> Iterator[Line]:
    kind = _placeholder(shape)
    mark = "title" if kind in _TITLES else _FURNITURE.get(kind, "")
    for body in children(shape, "txBody"):
        texts = list(_items(body, is_list=kind in _LISTS))
        if mark == "title" and texts:
            texts = [" ".join(texts)]
        yield from (Line(text, mark) for text in texts)
    graphic = child(shape, "graphic", "graphicData")
    for inner in () if graphic is None else graphic:
        name = local_name(inner)
        if name == "tbl":
            yield from (Line(row) for row in table_rows(inner))
        elif name in {"chart", "relIds"}:
            key = attribute(inner, "id" if name == "chart" else "dm")
            if key in relations:
                yield from graphic_lines(package, relations[key].target)
    properties = _properties(shape)
    if properties is not None and (text := attribute(properties, "descr")):
        yield Line(text, "alt text")


def _items(body: Element, *, is_list: bool) -> Iterator[str]:
    """Paragraphs with the signs of lists: places for text show them unless told not to."""
    counts: dict[int, int] = {}
    for text, properties in leveled_paragraphs(body):
        level = 0 if properties is None else number(properties, "lvl")
        names = () if properties is None else tuple(map(local_name, properties))
        if "buNone" in names or not (is_list or {"buChar", "buAutoNum"} & set(names)):
            yield text
            continue
        counts = {at: count for at, count in counts.items() if at <= level}
        if "buAutoNum" not in names:
            counts.pop(level, None)
            yield bullet(level) + text
            continue
        counts[level] = counts.get(level, 0) + 1
        yield bullet(level, f"{counts[level]}.") + text


def _properties(shape: Element) -> Element | None:
    """What PowerPoint calls the non-visual properties: name, description, hidden."""
    for inner in shape:
        if local_name(inner).startswith("nv"):
            return child(inner, "cNvPr")
    return None


def _placeholder(shape: Element) -> str:
    """The kind of place this shape fills ("title", "body"); "" for a free one."""
    for inner in shape:
        if local_name(inner).startswith("nv") and (place := child(inner, "nvPr", "ph")) is not None:
            return attribute(place, "type") or "obj"
    return ""


def _is_outside(shape: Element, size: _Size) -> bool:
    frame = next((frame for frame in _frames(shape) if frame is not None), None)
    offset = None if frame is None else child(frame, "off")
    extent = None if frame is None else child(frame, "ext")
    if offset is None or extent is None:
        return False
    x, y = number(offset, "x"), number(offset, "y")
    return (
        x >= size.width
        or y >= size.height
        or x + number(extent, "cx") <= 0
        or y + number(extent, "cy") <= 0
    )


def _frames(shape: Element) -> Iterator[Element | None]:
    yield child(shape, "spPr", "xfrm")
    yield child(shape, "grpSpPr", "xfrm")
    yield child(shape, "xfrm")


PPTX = Reader(
    name="pptx",
    version=6,
    kinds={".pptx": "pptx", ".pptm": "pptx", ".ppsx": "pptx", ".potx": "pptx"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_pptx,
)
