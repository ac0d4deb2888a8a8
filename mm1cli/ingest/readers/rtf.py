"""RTF: its text in order, with notes, headers, text boxes and hidden text marked."""

import re
from copy import copy
from dataclasses import dataclass, field, replace

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.attachments import Attachments
from mm1cli.ingest.readers.lines import (
    HeadingPath,
    Line,
    LinkList,
    as_heading,
    bullet,
    hidden_warnings,
    lines_to_blocks,
    signed,
)
from mm1cli.ingest.readers.ole_object import file_in_text
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading
from mm1cli.ingest.readers.symbols import in_font, is_of_symbols

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32})(-?[0-9]{1,10})? ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z])|([{}])|[\r\n]+"
    rb"|([^\\{}\r\n]+)",
    re.DOTALL,
)
_SKIPPED = frozenset(
    b"fonttbl colortbl stylesheet info pict themedata colorschememapping latentstyles"
    b" datastore generator shprslt nonshppict bkmkstart bkmkend atnid atnauthor atntime"
    b" atnref atndate xe tc tcn listtable listoverridetable revtbl rsidtbl xmlnstbl filetbl"
    b" nonesttables template sp sn sv blipuid panose falt objclass objname password".split()
)
_MARKED = {
    **dict.fromkeys((b"header", b"headerl", b"headerr", b"headerf"), "header"),
    **dict.fromkeys((b"footer", b"footerl", b"footerr", b"footerf"), "footer"),
    b"footnote": "footnote",
    b"annotation": "comment",
    b"shptxt": "text box",
    # What programs that know no lists show before an item: its sign or number.
    **dict.fromkeys((b"listtext", b"pntext"), "list sign"),
    # Read where the group ends, and no text of the page.
    b"fldinst": "field",
    b"objdata": "object",
}
_CHARACTERS = {
    b"tab": "\t",
    b"line": "\n",
    b"emdash": "—",
    b"endash": "–",
    b"emspace": " ",
    b"enspace": " ",
    b"lquote": "‘",
    b"rquote": "’",
    b"ldblquote": "“",
    b"rdblquote": "”",
    b"bullet": "•",
}
_SIGNS = {b"super": "^", b"sub": "_", b"nosupersub": "", b"strike": "~", b"striked": "~"}
_SYMBOLS = {b"~": "\u00a0", b"_": "-", b"-": "", b"\\": "\\", b"{": "{", b"}": "}", b"\t": "\t"}
_CHARSETS = {
    77: "mac_roman",
    128: "cp932",
    129: "cp949",
    134: "cp936",
    136: "cp950",
    161: "cp1253",
    162: "cp1254",
    163: "cp1258",
    177: "cp1255",
    178: "cp1256",
    186: "cp1257",
    204: "cp1251",
    222: "cp874",
    238: "cp1250",
}
_LINK = re.compile(r'HYPERLINK\s+"([^"]{1,2000})"')
_HUNG = frozenset({"footnote", "endnote", "comment"})
_MAX_DEPTH = 1000
_NO_LEVEL = 9
_MAX_TABLES = 32  # in each other


def read_rtf(data: bytes) -> Reading:
    """Blocks of paragraphs; a table row is one. Deleted text of tracked changes is left out.

    Raises ReadError: EMPTY, TOO_LARGE, UNREADABLE.
    """
    if not data.lstrip()[:5] == b"{\\rtf":
        raise ReadError(Reason.UNREADABLE, "no RTF")
    walk = _Walk()
    walk.run(data)
    links = walk.links.lines([line.text for line in walk.lines])
    blocks = lines_to_blocks([*walk.lines, *links], "paragraph")
    members = tuple(walk.files.members)
    if not blocks and not members:
        raise ReadError(Reason.EMPTY)
    return Reading(tuple(blocks), tuple(walk.warnings() + hidden_warnings(blocks)), members=members)


@dataclass(slots=True)
class _Sink:
    """Where text gathers: a paragraph, the cells before it, what hangs on it."""

    mark: str = ""
    sign: str = ""  # of the item of a list that the paragraph is
    pieces: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    # Of the tables around this one, from outside: what their cells and rows have so far.
    around: list[tuple[list[str], list[str]]] = field(default_factory=list)
    after: list[Line] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)


@dataclass(slots=True)
class _State:
    """What a group inherits and its end restores."""

    sink: _Sink
    skipped: bool = False
    table: bytes = b""
    hidden: bool = False
    deleted: bool = False
    codec: str = ""
    num_fallback: int = 1
    style: int = -1
    outline: int = _NO_LEVEL
    is_cell: bool = False
    num_tables: int = 1  # around the paragraph, if it is in any
    list_level: int = 0
    sign: str = ""  # "^" for raised letters, "_" for lowered ones, "~" for struck ones
    font: str = ""
    link: tuple[str, int] | None = None  # where it leads, and at which piece its text begins


class _Walk:
    def __init__(self) -> None:
        self._body = _Sink()
        self._state = _State(self._body)
        self._stack: list[_State] = []
        self._codec = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font_names: dict[int, str] = {}
        self._target = ""
        self.links = LinkList()
        self.files = Attachments()
        self._font = 0
        self._levels: dict[int, int] = {}
        self._style_name: list[str] = []
        self._path = HeadingPath()
        self._bytes = bytearray()
        self._to_skip = 0
        self._is_starred = False
        self._num_notes: dict[str, int] = {}
        self._num_deleted = 0
        self._num_pictures = 0
        self.lines: list[Line] = self._body.lines

    def run(self, data: bytes) -> None:
        at = 0
        while match := _TOKEN.match(data, at):
            at = match.end()
            word, argument, code, symbol, brace, text = match.groups()
            if word is not None:
                number = None if argument is None else int(argument)
                if word == b"bin":
                    # Raw bytes follow, braces and all.
                    at += max(0, number or 0)
                else:
                    self._word(word, number)
                continue
            if brace is not None:
                self._brace(brace)
            elif code is not None:
                self._octets(bytes([int(code, 16)]))
            elif symbol is not None:
                self._symbol(symbol)
            elif text is not None:
                self._octets(text)
            if symbol != b"*":
                self._is_starred = False
        self._decode()
        while self._stack:
            self._brace(b"}")
        self._end_paragraph(self._body)

    def warnings(self) -> list[str]:
        found = []
        if self._num_deleted:
            found.append(f"tracked changes: {self._num_deleted} deletions left out")
        if self._num_pictures:
            found.append(f"{self._num_pictures} pictures are not read")
        return found

    def _brace(self, brace: bytes) -> None:
        self._decode()
        self._to_skip = 0
        if brace == b"{":
            if len(self._stack) >= _MAX_DEPTH:
                raise ReadError(Reason.UNREADABLE, f"groups nested more than {_MAX_DEPTH} deep")
            self._stack.append(self._state)
            self._state = copy(self._state)
            return
        if not self._stack:
            return
        left = self._state
        self._state = self._stack.pop()
        if left.link is not None and left.link != self._state.link:
            target, start = left.link
            self.links.add("".join(left.sink.pieces[start:]), target)
        self._leave(left.sink, self._state.sink)

    def _leave(self, sink: _Sink, outer: _Sink) -> None:
        if sink.mark == "list sign" and sink is not outer:
            text = "".join(sink.pieces).strip()
            outer.sign = text if any(map(str.isalnum, text)) and text != "o" else "-"
            if self._state.is_cell:
                outer.pieces.append(f"{outer.sign} ")
                outer.sign = ""
        elif sink.mark == "field" and sink is not outer:
            found = _LINK.search("".join(sink.pieces))
            self._target = found[1] if found else ""
        elif sink.mark == "object" and sink is not outer:
            self._take_out("".join(sink.pieces))
        elif sink is not outer:
            self._end_paragraph(sink)
            if sink.lines and sink.mark in _HUNG:
                self._num_notes[sink.mark] = self._num_notes.get(sink.mark, 0) + 1
                mark = f"{sink.mark} {self._num_notes[sink.mark]}"
                sink.lines = [
                    replace(line, mark=mark) if line.mark == sink.mark else line
                    for line in sink.lines
                ]
                outer.pieces.append(f"[{mark}]")
            outer.after += sink.lines
            sink.lines = []

    def _take_out(self, octets: str) -> None:
        """The file in an object, given as hexadecimal digits."""
        name = f"object {len(self.files.members) + 1}"
        try:
            self.files.add(*file_in_text(name, octets))
        except ReadError as error:
            self.files.refuse(name, error)

    def _word(self, word: bytes, number: int | None) -> None:
        if word == b"u" and number is not None:
            # Surrogates come as two of these; `tidy` joins them.
            self._decode()
            self._put(chr(number % 0x10000))
            self._to_skip = self._state.num_fallback
            return
        self._decode()
        starred, self._is_starred = self._is_starred, False
        state = self._state
        if word in _MARKED:
            self._leave(state.sink, self._stack[-1].sink if self._stack else state.sink)
            state.sink, state.skipped, state.num_tables = _Sink(_MARKED[word]), False, 1
        elif word == b"ftnalt" and state.sink.mark == "footnote":
            state.sink.mark = "endnote"
        elif word in _SKIPPED:
            self._num_pictures += word == b"pict" and not state.skipped
            state.skipped = True
            state.table = word if word in {b"fonttbl", b"stylesheet"} else b""
        elif starred and word != b"shppict":
            state.skipped = True
        elif state.table:
            self._in_table(word, number)
        else:
            self._in_text(word, number)

    def _in_table(self, word: bytes, number: int | None) -> None:
        """Fonts have character sets, styles have names and levels."""
        state = self._state
        if state.table == b"fonttbl":
            if word == b"f":
                self._font = number or 0
            elif word == b"fcharset" and (codec := _CHARSETS.get(number or 0)):
                self._fonts[self._font] = codec
        elif word == b"s":
            state.style = number or 0
        elif word == b"outlinelevel" and number is not None:
            self._levels[state.style] = number

    def _in_text(self, word: bytes, number: int | None) -> None:
        state = self._state
        if word == b"par" and state.is_cell:
            # The row ends with \\row; until then a paragraph is a word of its cell.
            state.sink.pieces.append(" ")
        elif word in {b"par", b"sect", b"page"}:
            self._end_paragraph(state.sink)
        elif word in {b"cell", b"nestcell"}:
            sink = state.sink
            self._nest(sink)
            sink.cells.append(" ".join("".join(sink.pieces).split()))
            sink.pieces.clear()
        elif word == b"nestrow" and state.sink.around:
            _end_nested_row(state.sink)
        elif word in {b"row", b"nestrow"}:
            _leave_tables(state.sink, 1)
            state.sink.pieces.clear()
            self._end_paragraph(state.sink)
        elif word in _CHARACTERS:
            self._put(_CHARACTERS[word])
        elif word == b"ansicpg" and number:
            self._codec = f"cp{number}"
        elif word == b"mac":
            self._codec = "mac_roman"
        elif word == b"f":
            state.codec = self._fonts.get(number or 0, "")
            state.font = self._font_names.get(number or 0, "")
        elif word == b"fldrslt":
            state.link = (self._target, len(state.sink.pieces)) if self._target else None
            self._target = ""
        elif word == b"uc":
            state.num_fallback = max(0, number if number is not None else 1)
        elif word == b"v":
            state.hidden = number != 0
        elif word == b"deleted":
            state.deleted = number != 0
            self._num_deleted += state.deleted
        elif word in _SIGNS:
            state.sign = _SIGNS[word] if number != 0 else ""
        elif word == b"plain":
            state.hidden = state.deleted = False
            state.sign = state.font = ""
        elif word == b"pard":
            state.style, state.outline, state.is_cell = -1, _NO_LEVEL, False
            state.list_level, state.num_tables = 0, 1
        elif word == b"intbl":
            state.is_cell = True
        elif word == b"itap":
            state.num_tables = min(max(number or 0, 1), _MAX_TABLES)
        elif word == b"ilvl":
            state.list_level = number or 0
        elif word == b"s":
            state.style = number or 0
        elif word == b"outlinelevel" and number is not None:
            state.outline = number

    def _symbol(self, symbol: bytes) -> None:
        self._decode()
        if symbol == b"*":
            self._is_starred = True
        elif symbol in b"\r\n":
            self._end_paragraph(self._state.sink)
        else:
            self._put(_SYMBOLS.get(symbol, ""))

    def _octets(self, octets: bytes) -> None:
        if self._to_skip:
            # What programs that do not know \\u show in its place.
            count = min(self._to_skip, len(octets))
            self._to_skip -= count
            octets = octets[count:]
        self._bytes += octets

    def _decode(self) -> None:
        if not self._bytes:
            return
        octets = bytes(self._bytes)
        self._bytes.clear()
        try:
            text = octets.decode(self._state.codec or self._codec, "replace")
        except LookupError:
            text = octets.decode("cp1252", "replace")
        if self._state.table == b"stylesheet":
            self._name_style(text)
        elif self._state.table == b"fonttbl":
            self._font_names.setdefault(self._font, text.strip("; "))
        elif is_of_symbols(self._state.font):
            self._put(octets.decode("latin-1"))
        else:
            self._put(text)

    def _name_style(self, text: str) -> None:
        name = text.strip().rstrip(";").lower()
        if name.startswith("heading ") and name[8:] in set("123456789"):
            self._levels.setdefault(self._state.style, int(name[8:]) - 1)

    def _put(self, text: str) -> None:
        state = self._state
        if state.skipped or state.deleted:
            return
        self._nest(state.sink)
        text = in_font(text, state.font)
        to = state.sink.hidden if state.hidden else state.sink.pieces
        to.append(signed(text, state.sign, to) if state.sign else text)

    def _nest(self, sink: _Sink) -> None:
        """Goes into tables in cells, or out of them, to where the paragraph stands."""
        around = sink.around
        while len(around) + 1 < self._state.num_tables:
            around.append((sink.pieces, sink.cells))
            sink.pieces, sink.cells = [], []
        _leave_tables(sink, self._state.num_tables)

    def _end_paragraph(self, sink: _Sink) -> None:
        _leave_tables(sink, 1)
        text = "".join(sink.pieces)
        sink.pieces.clear()
        if sink.cells:
            text = "\t".join([*sink.cells, text.strip()]).rstrip()
            sink.cells.clear()
        elif sink is self._body and text.strip():
            level = min(self._state.outline, self._levels.get(self._state.style, _NO_LEVEL))
            if level < _NO_LEVEL:
                number = f"{sink.sign} " if sink.sign not in {"", "-"} else ""
                self._path.enter(level, number + text.strip())
                text = as_heading(number + text.strip(), level)
                sink.sign = ""
        headings = self._path.now if sink is self._body else ()
        if text.strip():
            text = text if "\t" in text else text.strip()
            if sink.sign:
                text = bullet(self._state.list_level, sink.sign) + text.strip()
            sink.lines.append(Line(text, sink.mark, headings))
        sink.sign = ""
        if hidden := "".join(sink.hidden).strip():
            sink.lines.append(Line(hidden, "hidden", headings))
        sink.hidden.clear()
        sink.lines += [Line(line.text, line.mark, headings) for line in sink.after]
        sink.after.clear()


def _leave_tables(sink: _Sink, num_tables: int) -> None:
    while len(sink.around) + 1 > num_tables:
        _end_nested_row(sink)
        sink.pieces, sink.cells = sink.around.pop()


def _end_nested_row(sink: _Sink) -> None:
    """It stands below the row around it."""
    cells = [*sink.cells, "".join(sink.pieces).strip()]
    if any(cells) and sink.around:
        sink.after.append(Line("\t".join(cells).rstrip(), sink.mark))
        sink.cells.clear()
        sink.pieces.clear()


RTF = Reader(
    name="rtf",
    version=6,
    kinds={".rtf": "rtf"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_rtf,
)
