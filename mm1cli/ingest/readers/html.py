"""HTML through lxml's lenient parser: no script runs, nothing is fetched."""

import codecs
import re
from html import entities

from mm1cli.ingest.corpus import Block, Place, Reason
from mm1cli.ingest.readers.encoding import decode
from mm1cli.ingest.readers.html_text import HtmlWalk
from mm1cli.ingest.readers.lines import Line, hidden_warnings, lines_to_blocks, tidy
from mm1cli.ingest.readers.markup import (
    Element,
    broken,
    descendants,
    local_name,
    lxml_version,
    parse_xml,
)
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE
)
_XML_DECLARED = re.compile(rb"""^\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]{2,40})""")
_DECLARED_WITHIN_BYTES = 4096
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,200}\?>")
_XHTML = "http://www.w3.org/1999/xhtml"
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,31});")
_DELETION = re.compile(r"<del\b", re.IGNORECASE)
_SELF_CLOSED = re.compile(
    r"<(title|script|style|textarea|iframe|a|div|span|p|i|b|em)\b([^<>]{0,500})/>", re.IGNORECASE
)
# The standard says so.
_BROWSERS_READ_AS = {"iso8859-1": "cp1252", "ascii": "cp1252"}


def read_html(data: bytes) -> Reading:
    """Blocks of paragraphs with their headings; the title comes first, hidden text is marked.

    Raises ReadError: BINARY, EMPTY, UNREADABLE.
    """
    text, encoding, warnings = decode_html(data)
    blocks, _ = html_blocks(text)
    if not blocks:
        raise ReadError(Reason.EMPTY)
    warnings = (*warnings, *hidden_warnings(blocks))
    if num_deleted := len(_DELETION.findall(text)):
        warnings = (*warnings, f"{num_deleted} deletions left out")
    return Reading(tuple(blocks), warnings, lxml_version(), encoding)


def html_blocks(text: str, place: Place | None = None) -> tuple[list[Block], str]:
    """The blocks of a page or of a piece of one, and its title. Raises ReadError: UNREADABLE."""
    root = parse_html(text)
    if root is None:
        return [], ""
    titles = (" ".join(tidy("".join(found.itertext())).split()) for found in _titles(root))
    title = next(titles, "")
    walk = HtmlWalk(root)
    lines = list(walk.lines())
    lines += walk.links.lines([line.text for line in lines])
    if title and place is None:
        lines.insert(0, Line(title, "title"))
    return lines_to_blocks(lines, "paragraph", place), title


def parse_html(text: str) -> Element | None:
    """The root; None where there is no element at all. Raises ReadError: UNREADABLE."""
    from lxml import etree

    text = _XML_DECLARATION.sub("", text)
    if _XHTML in text[:_DECLARED_WITHIN_BYTES]:
        # <title/> closes itself only in XML; an HTML parser would take the page for the title.
        try:
            return parse_xml(_ENTITY.sub(_character, text).encode("utf-8", "ignore"))
        except ReadError:
            text = _SELF_CLOSED.sub(r"<\1\2></\1>", text)
    # huge_tree, because depth does not hurt: the walks keep their own stacks.
    parser = etree.HTMLParser(
        encoding="utf-8", no_network=True, huge_tree=True, remove_comments=True, remove_pis=True
    )
    try:
        root: Element | None = etree.fromstring(text.encode("utf-8", "ignore"), parser)
    except etree.LxmlError as error:
        if not text.strip():
            return None
        raise broken(error) from None
    if any(entry.level_name == "FATAL" for entry in parser.error_log):
        # The parser stops there, and what comes after it would be lost in silence.
        raise ReadError(Reason.TOO_DEEP, "elements nested more than 2,000 deep")
    return root


def decode_html(data: bytes) -> tuple[str, str, tuple[str, ...]]:
    """Text, encoding and warnings. UTF-8 where the bytes are that, whatever the page declares."""
    declared = _declared(data)
    is_marked = data.startswith(_MARKS)
    if declared and not is_marked and not _is_utf8(data):
        try:
            text = data.decode(declared)
        except (UnicodeDecodeError, LookupError):
            pass
        else:
            return text, declared, ()
    return decode(data)


def _character(entity: re.Match[str]) -> str:
    if entity[1] in {"amp", "lt", "gt", "quot", "apos"}:
        return entity[0]
    return entities.html5.get(f"{entity[1]};", entity[0])


def _declared(data: bytes) -> str:
    head = data[:_DECLARED_WITHIN_BYTES]
    found = _XML_DECLARED.search(head) or _DECLARED.search(head)
    if found is None:
        return ""
    try:
        codec = codecs.lookup(found[1].decode("ascii"))
    except (LookupError, UnicodeDecodeError, ValueError):
        return ""
    # A page in which this could be found is not UTF-16.
    if codec.name.startswith(("utf-16", "utf-32", "utf-7")):
        return ""
    return _BROWSERS_READ_AS.get(codec.name, codec.name)


def _is_utf8(data: bytes) -> bool:
    """Whether `data` is UTF-8 and shows it; plain ASCII may be an encoding with escapes."""
    if data.isascii():
        return b"\x1b" not in data
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _titles(root: Element) -> list[Element]:
    return [
        title
        for title in descendants(root, "title")
        if (up := title.getparent()) is not None and local_name(up) in {"head", "html"}
    ]


HTML = Reader(
    name="html",
    version=5,
    kinds={".html": "html", ".htm": "html", ".xhtml": "html"},
    max_bytes=64 * MIB,
    sandboxed=True,
    read=read_html,
)
