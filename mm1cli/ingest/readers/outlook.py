"""Outlook's own files: messages (.msg) through python-oxmsg, and what it puts into winmail.dat."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Block, Damaged, Place, Reason
from mm1cli.ingest.readers.attachments import Attachments, bare
from mm1cli.ingest.readers.html import html_blocks
from mm1cli.ingest.readers.lines import refuse_flood, tidy
from mm1cli.ingest.readers.markup import broken
from mm1cli.ingest.readers.reader import MIB, Member, Reader, ReadError, Reading, installed
from mm1cli.ingest.readers.tnef import TNEF_MAGIC, read_parts

if TYPE_CHECKING:
    from email.message import EmailMessage

    from oxmsg import Message
    from oxmsg.storage import Storage

_PROPERTIES = "__properties_version1.0"
_ATTACHED_MESSAGE = "__substg1.0_3701000D"
_MAX_DEPTH = 4  # of messages in messages; one more than is read, so that it is named


def read_msg(data: bytes) -> Reading:
    """A block of headers, then the text; HTML where there is no plain text. Attachments are
    members, attached messages as .eml. Raises ReadError: EMPTY, TOO_LARGE, UNREADABLE.
    """
    from olefile import OleFileIO
    from oxmsg import Message
    from oxmsg.storage import Storage

    try:
        with OleFileIO(BytesIO(data)) as ole:
            storage = Storage.from_ole(ole)
        message = Message(storage)
        headers = list(_headers(message))
        body, page = message.body or "", message.html_body or ""
    except MemoryError:
        raise
    except Exception as error:  # a compound file can be broken in more ways than the library names
        raise broken(error) from None
    members, warnings = _attached(storage)
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


def _attached(message: "Storage") -> tuple[list[Member], list[str]]:
    from oxmsg.attachment import Attachment

    found = Attachments()
    warnings: list[str] = []
    for index, storage in enumerate(message.iter_attachment_storages(), 1):
        name = f"attachment {index}"
        try:
            attachment = Attachment(storage)
            name = attachment.file_name or name
            content = attachment.file_bytes
            if content is None and (inner := _message_in(storage)) is not None:
                mail = _as_mail(inner)
                name, content = _name_of(mail, name), mail.as_bytes()
        except MemoryError:
            raise
        except Exception as error:
            name = " ".join(tidy(name).split())
            warnings.append(Damaged(f"{name} cannot be taken out: {broken(error).detail}"))
            continue
        if content is None:  # an object
            found.refuse(name, ReadError(Reason.UNSUPPORTED, "an attached object"))
        elif not found.add(name, content):
            break
    return found.members, warnings


def _message_in(attachment: "Storage") -> "Storage | None":
    """The message that is attached, as if it were a file's own."""
    for inner in attachment.storages:
        if inner.name == _ATTACHED_MESSAGE:
            streams = (
                # The head of its properties is shorter than a file's.
                replace(one, bytes_=one.bytes_[:24] + bytes(8) + one.bytes_[24:])
                if one.name == _PROPERTIES
                else one
                for one in inner.streams
            )
            return replace(inner, streams=tuple(streams))
    return None


def _as_mail(storage: "Storage", depth: int = 1) -> "EmailMessage":
    """An attached message with all that is attached to it, so that it is read as any mail."""
    from email.message import EmailMessage

    from oxmsg import Message
    from oxmsg.attachment import Attachment

    message, mail = Message(storage), EmailMessage()
    for line in _headers(message):
        name, _, value = line.partition(": ")
        mail[name] = value
    body, page = tidy(message.body or "").rstrip(), tidy(message.html_body or "")
    mail.set_content(body or page, subtype="plain" if body else "html")
    held_by = storage.iter_attachment_storages() if depth < _MAX_DEPTH else ()
    for index, held in enumerate(held_by, 1):
        attachment = Attachment(held)
        name = attachment.file_name or f"attachment {index}"
        if (inner := _message_in(held)) is not None:
            attached = _as_mail(inner, depth + 1)
            mail.add_attachment(attached, filename=_name_of(attached, name))
        else:
            data = attachment.file_bytes or b""
            mail.add_attachment(data, "application", "octet-stream", filename=bare(name))
    return mail


def _name_of(mail: "EmailMessage", otherwise: str) -> str:
    return f"{mail['Subject'] or otherwise}.eml".replace("/", " ")


MSG = Reader(
    name="msg",
    version=4,
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
