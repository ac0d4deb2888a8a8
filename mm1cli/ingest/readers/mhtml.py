"""MHTML: a web page saved as one file, its HTML and what it shows as parts of a message."""

from mm1cli.ingest.corpus import Block, Place, Reason
from mm1cli.ingest.readers.html import html_blocks
from mm1cli.ingest.readers.lines import hidden_warnings, picture_warnings, refuse_flood, tidy
from mm1cli.ingest.readers.mail import (
    MAX_PARTS,
    inner_parts,
    kind_of_part,
    parse_message,
    read_mail,
    text_of_part,
)
from mm1cli.ingest.readers.markup import lxml_version
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading

_ADDRESS = "snapshot-content-location"  # of the page, as browsers write it
_LONGEST_ADDRESS = 2000


def read_mhtml(data: bytes) -> Reading:
    """The page as any HTML is read, then its frames by number of their part; pictures are counted.
    A message without a page is read as an e-mail. Raises ReadError: EMPTY, ENCRYPTED, TOO_LARGE.
    """
    message = parse_message(data)
    blocks: list[Block] = []
    num_parts = num_pictures = num_pages = 0
    waiting = [message]
    while waiting:
        part = waiting.pop()
        num_parts += 1
        if num_parts > MAX_PARTS:
            raise ReadError(Reason.TOO_LARGE, f"more than {MAX_PARTS} parts")
        waiting += reversed(inner_parts(part))
        kind = kind_of_part(part)
        num_pictures += kind.startswith("image/")
        if kind == "text/html":
            place = Place("part", num_parts, "frame") if num_pages else None
            num_pages += 1
            blocks += html_blocks(text_of_part(part), place)[0]
            refuse_flood(sum(len(block.text) for block in blocks))
    if not blocks:
        return read_mail(data)
    headers = {name.lower(): str(value) for name, value in message.raw_items()}
    if address := " ".join(tidy(headers.get(_ADDRESS, "")).split())[:_LONGEST_ADDRESS]:
        blocks.insert(0, Block(f"Address: {address}", place=Place("part", 0, "headers")))
    warnings = (*hidden_warnings(blocks), *picture_warnings(num_pictures))
    return Reading(tuple(blocks), warnings, lxml_version())


MHTML = Reader(
    name="mhtml",
    version=2,
    kinds={".mht": "html", ".mhtml": "html"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_mhtml,
)
