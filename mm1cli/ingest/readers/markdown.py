"""Markdown: the text as it stands, and which headings each part of it is under."""

import re
from collections.abc import Iterator
from dataclasses import replace

from mm1cli.ingest.readers.reader import MIB, Reader, Reading
from mm1cli.ingest.readers.text import read_text

_LINE = re.compile(
    r"^ {0,3}(?:(?P<fence>```+|~~~+)|(?P<hashes>#{1,6})[ \t]+(?P<title>[^\n]*)"
    r"|(?P<under>=+|-+)[ \t]*$)",
    re.MULTILINE,
)


def read_markdown(data: bytes) -> Reading:
    """One block; its `outline` names the headings. Raises ReadError: BINARY or EMPTY."""
    reading = read_text(data)
    (block,) = reading.blocks
    outline = tuple(headings_of(block.text))
    return replace(reading, blocks=(replace(block, outline=outline),))


def headings_of(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Where each heading's line begins, and the path of headings from there on."""
    path: dict[int, str] = {}
    fence = ""
    for match in _LINE.finditer(text):
        if mark := match["fence"]:
            if not fence:
                fence = mark
            elif mark.startswith(fence):
                fence = ""
            continue
        if fence:
            continue
        if match["hashes"]:
            start, level, title = match.start(), len(match["hashes"]), match["title"]
        else:
            start = text.rfind("\n", 0, max(match.start() - 1, 0)) + 1
            level, title = 1 if match["under"].startswith("=") else 2, text[start : match.start()]
        title = " ".join(title.rstrip("# \t\n").split())[:200]
        if title:
            path = {above: name for above, name in path.items() if above < level} | {level: title}
            yield start, tuple(path[key] for key in sorted(path))


MARKDOWN = Reader(
    name="markdown",
    version=2,
    kinds=dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), "markdown"),
    max_bytes=64 * MIB,
    sandboxed=False,
    read=read_markdown,
)
