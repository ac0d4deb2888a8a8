"""Text on its way out: made safe, measured in terminal cells, and written to a stream.

Everything written here may come from a hostile document or a model, so `Channel.write` is the
only door to a stream and it escapes what could drive a terminal. Colour is put on afterwards.
"""

import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TextIO

from mm1cli.ingest.display_names import UNSEEN

_VISIBLE = {code: f"\\x{code:02x}" for code in range(0x20) if chr(code) not in "\n\t"}
# What JSON may hold raw is spelled as JSON spells it, so that an answer in JSON stays what it was.
_VISIBLE |= {code: json.dumps(chr(code))[1:-1] for code in (*range(0x7F, 0xA0), *map(ord, UNSEEN))}
_VISIBLE_ON_ONE_LINE = _VISIBLE | {
    0x09: "\\t",
    0x0A: "\\n",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
FALLBACK_COLUMNS = 80
COMPLETE = frozenset({"end", "stop", "stop text"})  # reasons to stop that leave nothing unsaid


def safe(text: str) -> str:
    """`text` with control and unseen characters spelled out; newline and tab stay."""
    return text.translate(_VISIBLE)


def safe_line(text: str) -> str:
    """As `safe`, with line breaks and tabs spelled out too: for paths and messages."""
    return text.translate(_VISIBLE_ON_ONE_LINE)


def cell_width(text: str) -> int:
    """The terminal columns that `text` takes."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def pad(text: str, width: int) -> str:
    return text + " " * (width - cell_width(text))


def elide_end(text: str, width: int) -> str:
    """`text` in at most `width` columns; an ellipsis stands for the rest."""
    return text if cell_width(text) <= width else f"{_head(text, max(width - 1, 0)).rstrip()}…"


def elide_middle(text: str, width: int) -> str:
    """`text` in at most `width` columns; the end, which tells more of a path, keeps the most."""
    if cell_width(text) <= width:
        return text
    room = max(width - 1, 0)
    tail = _head(text[::-1], room - room // 3)[::-1]
    return f"{_head(text, room - cell_width(tail))}…{tail}"


def _head(text: str, width: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += _char_width(char)
        if used > width:
            return text[:index]
    return text


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns. Only white space is lost, at the breaks."""
    width = max(width, 2)  # the widest character takes two columns
    return [line for source in text.expandtabs(4).split("\n") for line in _wrap_line(source, width)]


def _wrap_line(source: str, width: int) -> Iterator[str]:
    source = source.rstrip()
    if cell_width(source) <= width:
        yield source
        return
    indent = source[: len(source) - len(source.lstrip())]
    line = indent if cell_width(indent) <= width // 2 else ""
    line_is_empty = True
    for word in source.split():
        room = width - cell_width(line) - (not line_is_empty)
        if cell_width(word) > room and not line_is_empty:
            yield line
            line, line_is_empty = "", True
        while cell_width(word) > width - cell_width(line):
            piece = _head(word, width - cell_width(line))
            yield line + piece
            line, word = "", word[len(piece) :]
        line += word if line_is_empty else f" {word}"
        line_is_empty = False
    yield line


class Style(StrEnum):
    """How a piece of text looks where colour is welcome; the value is the terminal's SGR code."""

    PLAIN = ""
    BOLD = "1"
    DIM = "2"
    ERROR = "1;31"
    WARNING = "33"
    MARK = "36"


@dataclass(frozen=True, slots=True)
class Channel:
    """A stream and what is known of it. `width` None asks the terminal each time, as it may be
    resized; a stream that is no terminal is then 80 columns wide."""

    stream: TextIO
    is_terminal: bool = False
    color: bool = False
    width: int | None = None

    @classmethod
    def from_environment(cls, stream: TextIO, environ: Mapping[str, str]) -> "Channel":
        """Honours NO_COLOR, TERM=dumb and COLUMNS."""
        is_terminal = stream.isatty() and environ.get("TERM") not in ("dumb", "unknown")
        columns = environ.get("COLUMNS", "")
        return cls(
            stream,
            is_terminal=is_terminal,
            color=is_terminal and not environ.get("NO_COLOR"),
            width=int(columns) if columns.isdecimal() and int(columns) > 0 else None,
        )

    @property
    def columns(self) -> int:
        if self.width is not None:
            return self.width
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or FALLBACK_COLUMNS
        except (OSError, ValueError):
            return FALLBACK_COLUMNS

    def write(self, text: str, style: Style = Style.PLAIN, url: str | None = None) -> None:
        """Write `text` now, made safe; what the encoding lacks is spelled out, never an error.

        Where colour is welcome, `text` is a link to `url`, if that is nothing but printable ASCII.
        """
        if not text:
            return
        encoding = self.stream.encoding or "utf-8"
        plain = safe(text).encode(encoding, "backslashreplace").decode(encoding)
        is_styled = self.color and style is not Style.PLAIN
        shown = f"\x1b[{style}m{plain}\x1b[0m" if is_styled else plain
        if self.color and url is not None and url.isascii() and url.isprintable():
            shown = f"\x1b]8;;{url}\x1b\\{shown}\x1b]8;;\x1b\\"
        self.stream.write(shown)
        self.stream.flush()

    def glyph(self, glyph: str, plain: str) -> str:
        """`glyph` if the stream's encoding has it, else `plain`."""
        try:
            glyph.encode(self.stream.encoding or "utf-8")
        except UnicodeEncodeError:
            return plain
        return glyph


def for_json(text: str, channel: Channel) -> str:
    """A part of JSON text: characters that other programs would not read as UTF-8 as escapes."""
    if (channel.stream.encoding or "utf-8").lower().startswith("utf"):
        return text
    return _BEYOND_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text)


def clock_time(seconds: float) -> str:
    """As a clock counts down: 0:42, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """As people say it: 9.1 s, 2 min 5 s, 1 h 2 min."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def write_parts(parts: list[str], channel: Channel) -> None:
    """One line with dots between the parts; a terminal that is too narrow breaks at the dots."""
    between = f" {channel.glyph('·', '|')} "
    lines = [""]
    for part in filter(None, map(safe_line, parts)):
        longer = f"{lines[-1]}{between}{part}" if lines[-1] else part
        if channel.is_terminal and lines[-1] and cell_width(longer) > channel.columns:
            lines.append(part)
        else:
            lines[-1] = longer
    for line in lines:
        for piece in wrap(line, channel.columns) if channel.is_terminal else [line]:
            channel.write(f"{piece}\n", Style.DIM)


def write_hanging(text: str, channel: Channel, style: Style) -> None:
    """`text`, which is safe, under the line before it; wrapped on a terminal, whole in a pipe."""
    first, *rest = wrap(text, channel.columns - 4) if channel.is_terminal else [text]
    channel.write(f"  {first}\n", style)
    for line in rest:
        channel.write(f"    {line}\n", style)


def write_led(lead: str, style: Style, text: str, channel: Channel) -> None:
    """`text`, which is safe, behind a word that says what it is; a terminal breaks at words."""
    whole = f"{lead}: {text}"
    lines = wrap(whole, channel.columns) if channel.is_terminal else [whole]
    channel.write(f"{lead}:", style)
    channel.write("\n".join(lines).removeprefix(f"{lead}:") + "\n")
