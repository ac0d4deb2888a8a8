"""DrawingML, which Word, PowerPoint and Excel share: text bodies, tables, charts and diagrams."""

from collections.abc import Iterator

from mm1cli.ingest.readers.lines import Line, signed
from mm1cli.ingest.readers.markup import (
    Element,
    attribute,
    child,
    children,
    descendants,
    is_maths,
    local_name,
    number,
)
from mm1cli.ingest.readers.maths import omml
from mm1cli.ingest.readers.package import Package
from mm1cli.ingest.readers.reader import ReadError

_CHARACTERS = {"br": "\n", "tab": "\t"}
_NOT_TEXT = frozenset({"pPr", "rPr", "endParaRPr", "Fallback"})


def paragraphs(body: Element) -> Iterator[str]:
    """The paragraphs of a text body that have text."""
    return (text for text, _ in leveled_paragraphs(body))


def leveled_paragraphs(body: Element) -> Iterator[tuple[str, Element | None]]:
    """The paragraphs that have text, each with its properties."""
    for paragraph in descendants(body, "p"):
        pieces = list(_runs(paragraph))
        if text := "".join(pieces).strip():
            yield text, child(paragraph, "pPr")


def table_rows(table: Element) -> Iterator[str]:
    """One line for each row, its cells separated by tabs."""
    for row in descendants(table, "tr"):
        cells = [
            " ".join(text.replace("\t", " ") for text in paragraphs(cell))
            for cell in children(row, "tc")
        ]
        if any(cells):
            yield "\t".join(cells).rstrip()


def graphic_lines(package: Package, part: str) -> list[Line]:
    """The lines of a chart or diagram; none, and no error, where the part cannot be read."""
    if part not in package:
        return []
    try:
        root = package.xml(part)
    except ReadError as error:
        return [Line(f"(cannot be read: {error.detail})", "chart")]
    if local_name(root) == "dataModel":
        texts = (text for body in descendants(root, "t") for text in paragraphs(body))
        return [Line(text, "diagram") for text in texts]
    return [Line(text, "chart") for text in _chart(root)]


def _runs(element: Element) -> Iterator[str]:
    for inner in element:
        name = local_name(inner)
        if name == "t":
            yield inner.text or ""
        elif name in _CHARACTERS:
            yield _CHARACTERS[name]
        elif name in {"oMath", "oMathPara"} and is_maths(inner):
            yield omml(inner)
        elif name == "r" and (properties := child(inner, "rPr")) is not None:
            yield _signed("".join(_runs(inner)), properties)
        elif name not in _NOT_TEXT:
            yield from _runs(inner)


def _signed(text: str, properties: Element) -> str:
    """Raised, lowered and struck letters with their signs."""
    if offset := number(properties, "baseline"):
        return signed(text, "^" if offset > 0 else "_")
    is_struck = attribute(properties, "strike") in {"sngStrike", "dblStrike"}
    return signed(text, "~") if is_struck else text


def _chart(root: Element) -> Iterator[str]:
    """Titles, then a table of what the chart shows: categories down, series across."""
    for title in descendants(root, "title"):
        yield from paragraphs(title)
    series = list(descendants(root, "ser"))
    names = [" ".join(_values(child(one, "tx")).values()) for one in series]
    categories = [_values(child(one, "cat")) | _values(child(one, "xVal")) for one in series]
    values = [_values(child(one, "val")) | _values(child(one, "yVal")) for one in series]
    if any(names):
        yield "\t".join(["", *names])
    labels = {index: text for found in reversed(categories) for index, text in found.items()}
    for index in sorted({index for found in values for index in found} | set(labels)):
        yield "\t".join([labels.get(index, ""), *(found.get(index, "") for found in values)])


def _values(data: Element | None) -> dict[int, str]:
    """The values that were last shown, by their index."""
    if data is None:
        return {}
    if levels := list(descendants(data, "lvl")):
        return _labels([_points(level) for level in levels])
    values = _points(data)
    if not values and (v := child(data, "v")) is not None:
        return {0: v.text or ""}
    return values


def _points(data: Element) -> dict[int, str]:
    points = {number(point, "idx"): child(point, "v") for point in descendants(data, "pt")}
    return {index: v.text or "" for index, v in points.items() if v is not None}


def _labels(levels: list[dict[int, str]]) -> dict[int, str]:
    """Categories in groups: a group's name stands at its first category and holds to the next."""
    inner, *groups = levels
    labels = {}
    for index, text in sorted(inner.items()):
        names = [text]
        for group in groups:
            begun = [first for first in group if first <= index]
            names[:0] = [group[max(begun)]] if begun else []
        labels[index] = " ".join(names)
    return labels
