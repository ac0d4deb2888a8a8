"""E-mail: headers and text of a message; attachments and the messages of an mbox are members."""

import re
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Block, Place, Reason, Unread
from mm1cli.ingest.readers.attachments import bare, unused
from mm1cli.ingest.readers.encoding import decode
from mm1cli.ingest.readers.html import decode_html, html_blocks
from mm1cli.ingest.readers.lines import refuse_flood, tidy
from mm1cli.ingest.readers.reader import (
    MAX_MEMBER_BYTES,
    MAX_MEMBERS,
    MIB,
    Member,
    Reader,
    ReadError,
    Reading,
    beyond,
)

if TYPE_CHECKING:
    from email.message import EmailMessage

_HEADERS = ("From", "To", "Cc", "Bcc", "Reply-To", "Date", "Subject")
_LOCKED = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_SIGNATURES = frozenset(
    {"application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature"}
)
_RECEIPT = "message/delivery-status"
_EXTENSIONS = {"message/rfc822": ".eml", "text/html": ".html", "text/calendar": ".ics"}
MAX_PARTS = 1000
_MAX_NEW_WORDS = 0.2
_WORD = re.compile(r"\w{3,}")
_FROM_LINE = re.compile(rb"(?:\A|\n\r?\n)From [^\r\n]{1,300}\r?\n(?=[!-9;-~]{1,80}:)")


def read_mail(data: bytes) -> Reading:
    """A block of headers, then one for each part of text. HTML is read where there is no plain
    text, or where it says more. Attachments are members. Raises ReadError: EMPTY, ENCRYPTED.
    """
    message = parse_message(data)
    walk = _Walk()
    headers = _headers(message)
    if headers:
        walk.blocks.append(Block(headers, place=Place("part", 0, "headers")))
    walk.part(message)
    if not walk.blocks and not walk.members:
        raise ReadError(Reason.ENCRYPTED if walk.is_locked else Reason.EMPTY)
    if walk.is_locked:
        walk.warnings.append(Unread("the text is encrypted and not read"))
    return Reading(tuple(walk.blocks), tuple(walk.warnings), members=tuple(walk.members))


def read_mbox(data: bytes) -> Reading:
    """No text of its own: every message is a member. Raises ReadError: EMPTY, UNREADABLE."""
    starts = list(_FROM_LINE.finditer(data))
    if not starts:
        raise ReadError(Reason.UNREADABLE, "no message in the mailbox")
    members: list[Member] = []
    for index, start in enumerate(starts):
        end = starts[index + 1].start() if index + 1 < len(starts) else len(data)
        if index == MAX_MEMBERS - 1:
            members.append(beyond(f"only the first {index} of {len(starts)} messages are read"))
            break
        members.append(Member(f"{index + 1:05}.eml", data[start.end() : end]))
    return Reading((), members=tuple(members))


def parse_message(data: bytes) -> "EmailMessage":
    from email import policy
    from email.parser import BytesParser

    return BytesParser(policy=policy.default).parsebytes(data)


def _headers(message: "EmailMessage") -> str:
    lines = []
    for name in _HEADERS:
        for value in _values(message, name):
            if text := " ".join(tidy(value).split()):
                lines.append(f"{name}: {text}")
    return "\n".join(lines)


def _values(message: "EmailMessage", name: str) -> list[str]:
    # The parser of structured headers fails in many ways on what no one should send.
    try:
        return [str(value) for value in message.get_all(name, [])]
    except MemoryError:
        raise
    except Exception:
        pairs = message.raw_items()
        return [str(value) for key, value in pairs if key.lower() == name.lower()]


class _Walk:
    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.members: list[Member] = []
        self.warnings: list[str] = []
        self.is_locked = False
        self._num_parts = 0
        self._num_chars = 0
        self._num_bytes = 0
        self._names: set[str] = set()

    def part(self, message: "EmailMessage") -> None:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise ReadError(Reason.TOO_LARGE, f"more than {MAX_PARTS} parts")
        kind = kind_of_part(message)
        name = _file_name(message)
        if kind == "multipart/encrypted" or kind in _LOCKED:
            self.is_locked = True
        elif kind in _SIGNATURES:
            pass
        elif kind == _RECEIPT:
            self._add(self._receipt(message))
        elif kind == "multipart/alternative":
            self._alternatives(message)
        elif message.is_multipart() and kind != "message/rfc822":
            for inner in inner_parts(message):
                self.part(inner)
        elif _is_attached(message) or name or kind not in {"text/plain", "text/html"}:
            self._attach(message, kind, name)
        elif kind == "text/html":
            self._add(self._page(message))
        else:
            self._add(self._text(message))

    def _alternatives(self, message: "EmailMessage") -> None:
        """The same text more than once, by convention; where it is not the same, all of it. A page
        whose rows of a table are no lines of the plain text stands for both."""
        parts = [inner for part in inner_parts(message) for inner in _with_page(part)]
        plain = [
            part for part in parts if kind_of_part(part) == "text/plain" and not _is_attached(part)
        ]
        found = [block for part in plain for block in self._text(part)]
        known = _words(found)
        others: list[EmailMessage] = []
        pages: list[Block] = []
        for part in parts:
            if part in plain:
                continue
            if kind_of_part(part) != "text/html" or _is_attached(part):
                others.append(part)
                continue
            page = self._page(part)
            words = _words(page)
            if len(words - known) > _MAX_NEW_WORDS * len(words):
                pages += page
            elif len(known - words) <= _MAX_NEW_WORDS * len(known) and _breaks_rows(found, page):
                found = page
        self._add(found + pages)
        for part in others:
            self.part(part)

    def _add(self, blocks: list[Block]) -> None:
        self._num_chars += sum(len(block.text) for block in blocks)
        refuse_flood(self._num_chars)
        self.blocks += blocks

    def _text(self, message: "EmailMessage") -> list[Block]:
        text = tidy(text_of_part(message)).strip("\n")
        place = Place("part", self._num_parts, kind_of_part(message))
        return [Block(text, place=place)] if text and not text.isspace() else []

    def _receipt(self, message: "EmailMessage") -> list[Block]:
        """Whom a mail did not reach, and why: fields, in groups of one for each recipient."""
        groups = (
            "\n".join(f"{name}: {' '.join(str(value).split())}" for name, value in part.raw_items())
            for part in inner_parts(message)
        )
        text = tidy("\n\n".join(filter(None, groups)))
        place = Place("part", self._num_parts, _RECEIPT)
        return [Block(text, place=place)] if text else []

    def _page(self, message: "EmailMessage") -> list[Block]:
        place = Place("part", self._num_parts, kind_of_part(message))
        return html_blocks(text_of_part(message), place)[0]

    def _attach(self, message: "EmailMessage", kind: str, name: str) -> None:
        if len(self.members) == MAX_MEMBERS:
            raise ReadError(Reason.TOO_LARGE, f"more than {MAX_MEMBERS} attachments")
        if not name:
            extension = _EXTENSIONS.get(kind, f".{kind.rpartition('/')[2]}")
            name = f"part {self._num_parts}{extension}"
        name = unused(name, self._names)
        data = _attached_bytes(message)
        self._num_bytes += len(data)
        if self._num_bytes > MAX_MEMBER_BYTES:
            limit = f"attachments of more than {MAX_MEMBER_BYTES // MIB} MiB"
            self.members.append(Member(name, refusal=ReadError(Reason.TOO_LARGE, limit)))
        else:
            self.members.append(Member(name, data))


def kind_of_part(message: "EmailMessage") -> str:
    try:
        return message.get_content_type()
    except MemoryError:
        raise
    except Exception:
        return "text/plain"


def inner_parts(message: "EmailMessage") -> list["EmailMessage"]:
    from email.message import EmailMessage

    payload = message.get_payload()
    return (
        [part for part in payload if isinstance(part, EmailMessage)]
        if isinstance(payload, list)
        else []
    )


def _is_attached(message: "EmailMessage") -> bool:
    try:
        return message.get_content_disposition() == "attachment"
    except MemoryError:
        raise
    except Exception:
        return True


def _file_name(message: "EmailMessage") -> str:
    try:
        name = message.get_filename() or ""
    except MemoryError:
        raise
    except Exception:
        return ""
    return bare(name)


def _bytes(message: "EmailMessage") -> bytes:
    payload = message.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _attached_bytes(message: "EmailMessage") -> bytes:
    if not message.is_multipart():
        return _bytes(message)
    inner = inner_parts(message)
    try:
        return inner[0].as_bytes() if inner else b""
    except MemoryError:
        raise
    except Exception:
        return b""


def text_of_part(message: "EmailMessage") -> str:
    """The text in its declared character set, or in the one that fits."""
    data = _bytes(message)
    try:
        charset = message.get_content_charset() or ""
        if charset:
            return data.decode(charset)
    except (LookupError, UnicodeError, ValueError, AttributeError, IndexError):
        pass
    try:
        text, _, _ = decode_html(data) if kind_of_part(message) == "text/html" else decode(data)
    except ReadError:
        return data.decode("utf-8", "replace")
    return text


def _with_page(part: "EmailMessage") -> list["EmailMessage"]:
    """A page and the pictures in it, or the part itself."""
    return inner_parts(part) if kind_of_part(part) == "multipart/related" else [part]


def _breaks_rows(blocks: list[Block], page: list[Block]) -> bool:
    """Whether a row of the page's tables is no line of the text in `blocks`."""
    lines = {tuple(line.split()) for block in blocks for line in block.text.split("\n")}
    rows = (line for block in page for line in block.text.split("\n") if "\t" in line)
    return any(tuple(row.split()) not in lines for row in rows)


def _words(blocks: list[Block]) -> set[str]:
    return {word.lower() for block in blocks for word in _WORD.findall(block.text)}


MAIL = Reader(
    name="mail",
    version=5,
    kinds={".eml": "e-mail"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_mail,
)
MBOX = Reader(
    name="mbox",
    version=2,
    kinds={".mbox": "mailbox"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_mbox,
)
