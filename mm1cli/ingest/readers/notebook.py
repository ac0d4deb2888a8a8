"""Jupyter notebooks: cells with what they printed; nothing is run."""

import json
import re
from collections.abc import Iterator
from typing import Any

from mm1cli.ingest.corpus import Block, Place, Reason, Unread
from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.readers.encoding import decode
from mm1cli.ingest.readers.html import html_blocks
from mm1cli.ingest.readers.lines import HeadingPath, ranges, refuse_flood, tidy
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading

_MAX_OUTPUT_LINES = 100
_MAX_OUTPUT_CHARS = 10_000
_HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t#]*")
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_INLINE_DATA = re.compile(r"data:[\w/+.;=-]{1,80};base64,[A-Za-z0-9+/=\s]{40,}")
_NO_TEXT = "<IPython.core.display."  # how a rich output prints itself
_FENCE = re.compile(r"\s*(```|~~~)")


def read_notebook(data: bytes) -> Reading:
    """One block for each cell and one for its output, marked, cut after `_MAX_OUTPUT_LINES`.

    Pictures and other encoded data are left out. Raises ReadError: BINARY, EMPTY, TOO_LARGE,
    UNREADABLE.
    """
    text, encoding, warnings = decode(data)
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(Reason.UNREADABLE, one_line(str(error))[:200]) from None
    cells = _cells(notebook)
    if cells is None:
        raise ReadError(Reason.UNREADABLE, "no list of cells in the notebook")
    walk = _Walk()
    blocks = [block for index, cell in enumerate(cells) for block in walk.cell(index, cell)]
    if not blocks:
        raise ReadError(Reason.EMPTY)
    return Reading(tuple(blocks), (*warnings, *walk.warnings()), encoding=encoding)


def _cells(notebook: Any) -> list[Any] | None:  # noqa: ANN401
    """Of format 4, or of format 3, whose cells lie on worksheets."""
    if not isinstance(notebook, dict):
        return None
    if isinstance(cells := notebook.get("cells"), list):
        return cells
    if isinstance(sheets := notebook.get("worksheets"), list):
        found = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)]
        return [cell for cells in found if isinstance(cells, list) for cell in cells]
    return None


class _Walk:
    def __init__(self) -> None:
        self._path = HeadingPath()
        self._cut: list[int] = []
        self._num_pictures = 0
        self._num_chars = 0

    def cell(self, index: int, cell: Any) -> Iterator[Block]:  # noqa: ANN401
        if not isinstance(cell, dict):
            return
        kind = cell.get("cell_type") if isinstance(cell.get("cell_type"), str) else ""
        place = Place("cell", index, one_line(kind or ""))
        source = _joined(cell.get("source", cell.get("input")))
        if kind == "heading":
            level = cell.get("level")
            self._path.enter(level if isinstance(level, int) else 1, source)
        elif kind == "markdown":
            self._enter_headings(source)
        yield from self._block(source, place)
        attachments = cell.get("attachments")
        self._num_pictures += len(attachments) if isinstance(attachments, dict) else 0
        outputs = cell.get("outputs")
        if isinstance(outputs, list):
            texts = [text for output in outputs if (text := self._output(output))]
            yield from self._block(self._capped("\n".join(texts), index), place, "output")

    def warnings(self) -> Iterator[str]:
        if self._cut:
            yield Unread(f"output cut after {_MAX_OUTPUT_LINES} lines: cell {ranges(self._cut)}")
        if self._num_pictures:
            yield f"{self._num_pictures} pictures are not read"

    def _block(self, text: str, place: Place, mark: str = "") -> Iterator[Block]:
        text, num_pictures = _INLINE_DATA.subn("", tidy(text).rstrip("\n"))
        self._num_pictures += num_pictures
        if text and not text.isspace():
            self._num_chars += len(text)
            refuse_flood(self._num_chars)
            yield Block(text, "line", 1, place, self._path.now, mark=mark)

    def _enter_headings(self, markdown: str) -> None:
        is_code = False
        for line in markdown.splitlines():
            is_code ^= bool(_FENCE.match(line))
            if not is_code and (heading := _HEADING.fullmatch(line)):
                self._path.enter(len(heading[1]), heading[2])

    def _output(self, output: Any) -> str:  # noqa: ANN401
        if not isinstance(output, dict):
            return ""
        kind = output.get("output_type")
        if kind == "stream":
            return _plain(_joined(output.get("text"))).rstrip("\n")
        if kind in {"error", "pyerr"}:
            traceback = _plain("\n".join(_strings(output.get("traceback"))))
            message = f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"
            return traceback if message in traceback else f"{traceback}\n{message}".strip()
        # Format 3 has no "data": its kinds stand beside "output_type".
        data = output.get("data") if isinstance(output.get("data"), dict) else output
        assert isinstance(data, dict)
        self._num_pictures += sum(
            key.startswith(("image/", "audio/", "video/")) or key in {"png", "jpeg", "pdf"}
            for key in data
        )
        for key in ("text/plain", "text/markdown", "text/latex", "text"):
            text = _plain(_joined(data.get(key))).strip("\n")
            if text and not text.startswith(_NO_TEXT):
                return text
        page = _joined(data.get("text/html", data.get("html")))
        return "\n".join(block.text for block in html_blocks(page)[0]) if page.strip() else ""

    def _capped(self, text: str, index: int) -> str:
        kept = "\n".join(text.split("\n")[:_MAX_OUTPUT_LINES])[:_MAX_OUTPUT_CHARS]
        if len(kept) < len(text):
            self._cut.append(index)
        return kept


def _plain(text: str) -> str:
    """What a terminal would show at the end: without colours, and lines that were redrawn."""
    text = _TERMINAL_CODES.sub("", text).replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


def _joined(source: Any) -> str:  # noqa: ANN401
    """Multi-line strings are lists of lines, or strings in older files."""
    return source if isinstance(source, str) else "".join(_strings(source))


def _strings(source: Any) -> list[str]:  # noqa: ANN401
    return [line for line in source if isinstance(line, str)] if isinstance(source, list) else []


NOTEBOOK = Reader(
    name="notebook",
    version=3,
    kinds={".ipynb": "notebook"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_notebook,
)
