"""The text of an HTML tree as people see it: paragraphs, list items, table rows, with headings.

The walk keeps its own stack, so depth costs nothing; pages are not believed to be well nested.
"""

import re
from collections.abc import Iterator

from mm1cli.ingest.readers.lines import HeadingPath, Line, LinkList, as_heading, bullet
from mm1cli.ingest.readers.markup import Element, attribute, local_name, names
from mm1cli.ingest.readers.maths import mathml

# What was deleted is no text; what is struck out is, and says so.
_SIGNS = {"sup": ("^{", "}"), "sub": ("_{", "}"), "s": ("~~", "~~"), "strike": ("~~", "~~")}
_DROPPED = names(
    "del script style template head noembed noframes iframe object embed applet datalist"
)
_BLOCKS = names(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset"
    " figcaption figure footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main"
    " menu nav noscript ol option optgroup p plaintext listing pre search section summary table"
    " tbody td tfoot th thead title tr ul xmp"
)
_HEADINGS = {f"h{level}": level - 1 for level in range(1, 7)}
_PREFORMATTED = names("pre textarea listing xmp plaintext")
# A table with these in its cells arranges a page; its cells are not values of a row. One that names
# its columns may have lists and tables in them; the rows of those follow its own.
_ARRANGED = frozenset([*_HEADINGS, "form", "article"])
_LAYOUT = frozenset([*_ARRANGED, *_PREFORMATTED, "ul", "ol", "dl", "table"])
_HIDING = re.compile(
    r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse)|opacity\s*:\s*0*\.?0+"
    r"|font-size\s*:\s*0*\.?0+(?:px|pt|em|rem|%)?)\s*(?:!important\s*)?(?:;|$)",
    re.IGNORECASE,
)
_LOOKS = re.compile(
    r"(?:^|;)\s*(?:vertical-align|text-decoration(?:-line)?)\s*:\s*(super|sub|line-through)\b",
    re.IGNORECASE,
)
_NAMES = {"super": "sup", "sub": "sub", "line-through": "s"}
_SPACE = re.compile(r"[ \t\n\r\f]+")
_MAX_SPAN = 64
_SAME = "\0"  # a cell that the name before it spans; no text has it
_FIELDS = names("text number date email tel url search time month week datetime-local") | {""}


class HtmlWalk:
    """`lines` are those below `root`, in document order; then `links` are known."""

    def __init__(self, root: Element) -> None:
        self._root = root
        self._layouts = _layout_tables(root)
        self._path = HeadingPath()
        self._done: list[Line] = []
        self._pieces: list[str] = []
        self._after: list[Line] = []
        self._hidden = 0
        self._preformatted = 0
        self._cells: list[str] | None = None  # of the open row of a table of values
        self._lists: list[int | None] = []  # the next number, None where items have none
        self._bullet = ""
        self._heading: int | None = None
        # For each open table, how many rows more a column is taken by a cell from above.
        self._held: list[dict[int, int]] = [{}]
        # For each open table, the row of values that it stands in, and what is read of its cell.
        self._around: list[tuple[list[str], list[str]] | None] = []
        self._below: list[Line] = []  # that row
        self.links = LinkList()

    def lines(self) -> Iterator[Line]:
        stack: list[tuple[Element, bool]] = [(self._root, False)]
        while stack:
            element, is_closing = stack.pop()
            if is_closing:
                self._close(element)
                self._text(element.tail)
            elif local_name(element) == "math":
                self._text(f" {formula} " if (formula := mathml(element)) else "")
                self._text(element.tail)
            elif local_name(element) in _DROPPED or not isinstance(element.tag, str):
                self._text(element.tail)
            else:
                self._open(element)
                self._text(element.text)
                stack.append((element, True))
                stack.extend((inner, False) for inner in reversed(list(element)))
            if self._done:
                yield from self._done
                self._done.clear()
        self._flush()
        yield from self._done

    def _open(self, element: Element) -> None:
        name = local_name(element)
        if name in _BLOCKS:
            self._break()
        if _is_hidden(element):
            self._flush()
            self._hidden += 1
        if sign := _sign(element):
            self._pieces.append(sign[0])
        if name == "br":
            self._break()
        elif name == "img":
            if text := attribute(element, "alt").strip():
                self._after.append(Line(text, "alt text"))
        elif name in _PREFORMATTED:
            self._preformatted += 1
        elif name in {"ul", "menu", "dir"}:
            self._lists.append(None)
        elif name == "ol":
            self._lists.append(_start(element))
        elif name == "li":
            self._bullet = self._next_bullet()
            if self._cells is not None:
                self._pieces.append(self._bullet)
                self._bullet = ""
        elif name in {"input", "option"}:
            self._pieces.append(_entered(element))
        elif name == "tr" and self._is_value(element):
            self._cells = []
        elif name in {"td", "th"} and self._is_value(element):
            self._cells = self._cells if self._cells is not None else []
            # Cells of the rows above reach down to here.
            while self._held[-1].get(len(self._cells), 0):
                self._held[-1][len(self._cells)] -= 1
                self._cells.append("")
        elif name == "table":
            self._held.append({})
            self._around.append(None if self._cells is None else (self._cells, self._pieces))
            if self._cells is not None:
                self._cells, self._pieces = None, []
        elif name in _HEADINGS and self._cells is None:
            self._heading = _HEADINGS[name]

    def _close(self, element: Element) -> None:
        name = local_name(element)
        if sign := _sign(element):
            self._close_sign(*sign)
        elif name == "a":
            self.links.add(" ".join(element.itertext()), attribute(element, "href"))
        if name in {"td", "th"} and self._cells is not None and self._is_value(element):
            text = _SPACE.sub(" ", "".join(self._pieces)).strip()
            self._cells.append(text)
            width = _span(element, "colspan")
            height = _span(element, "rowspan")
            at = len(self._cells) - 1
            if height > 1:
                self._held[-1].update(dict.fromkeys(range(at, at + width), height - 1))
            is_name = name == "th" and width > 1
            self._cells += [_SAME if is_name else ""] * (width - 1)
            self._pieces.clear()
        elif name == "tr" and self._cells is not None and self._is_value(element):
            cells, self._cells = _named(self._cells, element), None
            for at in [at for at, left in self._held[-1].items() if at >= len(cells) and left]:
                self._held[-1][at] -= 1
            self._pieces.clear()
            if any(cells):
                self._emit("\t".join(cells).rstrip())
            self._flush_after()
            if not any(self._around):
                self._done += self._below
                self._below = []
        elif name in _BLOCKS:
            self._break()
        if name in _PREFORMATTED:
            self._preformatted -= 1
        elif name == "table":
            self._held.pop()
            if (around := self._around.pop()) is not None:
                self._cells, self._pieces = around
        elif name in {"ul", "menu", "dir", "ol"} and self._lists:
            self._lists.pop()
        elif name in _HEADINGS:
            self._heading = None
        if _is_hidden(element):
            self._flush()
            self._hidden -= 1

    def _text(self, text: str | None) -> None:
        if not text:
            return
        text = text.replace("\xad", "")  # where a word may be cut, which nobody sees
        if self._preformatted and self._cells is None:
            first, *rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            self._pieces.append(first)
            for line in rest:
                self._break()
                self._pieces.append(line)
        else:
            self._pieces.append(text)

    def _break(self) -> None:
        """Ends the paragraph; inside a row of values, only a word."""
        if self._cells is not None:
            self._pieces.append(" ")
        else:
            self._flush()

    def _flush(self) -> None:
        if self._cells is not None:
            return
        text = "".join(self._pieces)
        self._pieces.clear()
        text = text.rstrip() if self._preformatted else _SPACE.sub(" ", text).strip()
        if text:
            if self._heading is not None and not self._hidden:
                self._path.enter(self._heading, text)
                text = as_heading(text, self._heading)
                self._heading = None
            self._emit(self._bullet + text)
            self._bullet = ""
        self._flush_after()

    def _flush_after(self) -> None:
        for line in self._after:
            self._emit(line.text, line.mark)
        self._after.clear()

    def _emit(self, text: str, mark: str = "") -> None:
        to = self._below if any(self._around) else self._done
        to.append(Line(text, "hidden" if self._hidden else mark, self._path.now))

    def _close_sign(self, opening: str, closing: str) -> None:
        """Nothing at all around no letters."""
        at = len(self._pieces) - 1
        while at >= 0 and not self._pieces[at].strip():
            at -= 1
        if at >= 0 and self._pieces[at] == opening:
            del self._pieces[at:]
        elif at >= 0:
            self._pieces.append(closing)

    def _next_bullet(self) -> str:
        level = len(self._lists) - 1
        if not self._lists or (count := self._lists[-1]) is None:
            return bullet(level)
        self._lists[-1] = count + 1
        return bullet(level, f"{count}.")

    def _is_value(self, element: Element) -> bool:
        """Whether a row or cell belongs to a table of values."""
        up = element.getparent()
        while up is not None and local_name(up) in {"tr", "tbody", "thead", "tfoot"}:
            up = up.getparent()
        return up is not None and local_name(up) == "table" and up not in self._layouts


def _named(cells: list[str], row: Element) -> list[str]:
    """A row of nothing but names has each over every column that it spans, if there are several."""
    inside = [local_name(cell) for cell in row if local_name(cell) in {"td", "th"}]
    is_header = len(inside) > 1 and "td" not in inside
    named = list(cells)
    for at, text in enumerate(cells):
        if text == _SAME:
            named[at] = named[at - 1] if is_header else ""
    return named


def _layout_tables(root: Element) -> set[Element]:
    tables: list[Element] = []
    layouts: set[Element] = set()
    with_lists: set[Element] = set()
    with_names: set[Element] = set()
    stack: list[tuple[Element, bool]] = [(root, False)]
    while stack:
        element, is_closing = stack.pop()
        if is_closing:
            tables.pop()
            continue
        name = local_name(element)
        if tables:
            if name in _ARRANGED:
                layouts.add(tables[-1])
            elif name in _LAYOUT:
                with_lists.add(tables[-1])
            elif name in {"th", "thead"}:
                with_names.add(tables[-1])
        if name == "table":
            tables.append(element)
            stack.append((element, True))
        stack.extend((inner, False) for inner in reversed(list(element)))
    return layouts | (with_lists - with_names)


def _is_hidden(element: Element) -> bool:
    if not element.attrib:
        return False
    return (
        "hidden" in element.attrib
        or bool(_HIDING.search(element.attrib.get("style", "")))
        or (local_name(element) == "input" and element.attrib.get("type") == "hidden")
    )


def _sign(element: Element) -> tuple[str, str] | None:
    """What stands around letters that are raised, lowered or struck, by name or by style."""
    name = local_name(element)
    if name == "span" and (looks := _LOOKS.search(attribute(element, "style"))):
        return _SIGNS[_NAMES[looks[1].lower()]]
    return _SIGNS.get(name)


def _entered(field: Element) -> str:
    """What a field of a form shows as it was saved: ticked or not, chosen or not, its text."""
    kind = attribute(field, "type").lower()
    if local_name(field) == "option":
        up = field.getparent()
        is_choice = up is not None and any("selected" in one.attrib for one in up)
        return _ticked("selected" in field.attrib) if is_choice else ""
    if kind in {"checkbox", "radio"}:
        return _ticked("checked" in field.attrib)
    return f"{attribute(field, 'value')} " if kind in _FIELDS else ""


def _ticked(is_ticked: bool) -> str:
    return "☒ " if is_ticked else "☐ "


def _span(element: Element, name: str) -> int:
    text = attribute(element, name)
    if name == "rowspan" and text == "0":  # to the end
        return _MAX_SPAN
    return max(1, min(int(text), _MAX_SPAN)) if text.isdecimal() and len(text) < 6 else 1


def _start(element: Element) -> int:
    text = attribute(element, "start")
    return int(text) if text.isdecimal() and len(text) < 9 else 1
