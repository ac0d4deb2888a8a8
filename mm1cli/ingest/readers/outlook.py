"""Outlook's own files: messages (.msg) through python-oxmsg, and what it puts into winmail.dat."""

from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Block, Damaged, Place, Reason
from mm1cli.ingest.readers.attachments import Attachments
from mm1cli.ingest.readers.html import html_blocks
from mm1cli.ingest.readers.lines import refuse_flood, tidy
from mm1cli.ingest.readers.markup import broken
from mm1cli.ingest.readers.reader import MIB, Member, Reader, ReadError, Reading, installed
from mm1cli.ingest.readers.tnef import TNEF_MAGIC, read_parts

if TYPE_CHECKING:
    from oxmsg import Message


def read_msg(data: bytes) -> Reading:
    """A block of headers, then the text; HTML where there is no plain text. Attachments are
    members. Raises ReadError: EMPTY, TOO_LARGE, UNREADABLE.
    """
    from oxmsg import Message

    try:
        message = Message.load(BytesIO(data))
        headers = list(_headers(message))
        body, page = message.body or "", message.html_body or ""
    except MemoryError:
        raise
    except Exception as error:  # a compound file can be broken in more ways than the library names
        raise broken(error) from None
    members, warnings = _attached(message)
    return _reading(headers, body, page, members, warnings, installed("python-oxmsg"))


def read_winmail(data: bytes) -> Reading:
    """The subject, the text and the files of a winmail.dat. Raises ReadError: EMPTY, UNREADABLE."""
    if not data.startswith(TNEF_MAGIC):
        raise ReadError(Reason.UNREADABLE, "no winmail.dat")
    parts = read_parts(data)
    headers = [f"Subject: {parts.subject}"] if parts.subject else []
    return _reading(headers, parts.body, parts.page, parts.files.members, parts.warnings, "")


def _reading(
    headers: list[str],
    body: str,
    page: str,
    members: list[Member],
    warnings: list[str],
    library: str,
) -> Reading:
    blocks: list[Block] = []
    if headers:
        blocks.append(Block("\n".join(headers), place=Place("part", 0, "headers")))
    refuse_flood(len(body) + len(page))
    if text := tidy(body).lstrip("\n").rstrip():
        blocks.append(Block(text, place=Place("part", 1, "text/plain")))
    elif page.strip():
        blocks += html_blocks(page, Place("part", 1, "text/html"))[0]
    if not blocks and not members:
        raise ReadError(Reason.EMPTY)
    return Reading(tuple(blocks), tuple(warnings), library, members=tuple(members))


def _headers(message: "Message") -> Iterator[str]:
    people = (
        f"{one.name} <{one.email_address}>" if one.name != one.email_address else one.name
        for one in message.recipients
    )
    sent = message.sent_date
    values = {
        "From": message.sender or "",
        "To": ", ".join(people),
        "Date": "" if sent is None else sent.isoformat(" "),
        "Subject": message.subject or "",
    }
    for name, value in values.items():
        if text := " ".join(tidy(value).split()):
            yield f"{name}: {text}"


def _attached(message: "Message") -> tuple[list[Member], list[str]]:
    found = Attachments()
    warnings: list[str] = []
    for index, attachment in enumerate(message.attachments, 1):
        name = f"attachment {index}"
        try:
            name = attachment.file_name or name
            content = attachment.file_bytes
        except MemoryError:
            raise
        except Exception as error:
            name = " ".join(tidy(name).split())
            warnings.append(Damaged(f"{name} cannot be taken out: {broken(error).detail}"))
            continue
        if content is None:  # an object
            found.refuse(name, ReadError(Reason.UNSUPPORTED, "an attached message"))
        elif not found.add(name, content):
            break
    return found.members, warnings


MSG = Reader(
    name="msg",
    version=3,
    kinds={".msg": "e-mail"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_msg,
)
WINMAIL = Reader(
    name="winmail",
    version=2,
    kinds={},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_winmail,
)
