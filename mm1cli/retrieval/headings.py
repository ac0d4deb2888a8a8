"""What a part of a document is read and shown under, besides its own headings: the title of the
document, the header row of its own table, who sent a message and when."""

import re
from collections.abc import Iterator
from itertools import groupby

from mm1cli.code.grammars import is_code
from mm1cli.ingest.corpus import Block, Document
from mm1cli.ingest.readers.rows import REPEATED, column_number

TITLE_CHARS = 120
HEADER_CHARS = 600  # a table has many columns
_MAIL_FIELDS = ("From", "Date", "Subject")
_SENDER_FIELDS = ("From", "Date")
_ROW = {
    "|": re.compile(r"^[ \t]*\|[^\n]*\|[ \t]*$", re.MULTILINE),  # of Markdown
    "\t": re.compile(r"^(?=[^\n]*\S)[^\t\n]*\t[^\n]*$", re.MULTILINE),  # as readers write others
}
_RULE = re.compile(r"[ \t]*\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*\Z")

Tables = tuple[tuple[int, int, str], ...]  # behind its header row, its end, that row


def title_of(document: Document) -> str:
    """What the document begins with, or who wrote what when in a message. "" for source code, whose
    first line is a licence or an import."""
    if is_code(document):
        return ""
    told = _mail_fields(document, _MAIL_FIELDS)
    return told or document.blocks[0].text.lstrip().split("\n", 1)[0][:TITLE_CHARS].strip()


def sender_of(document: Document) -> str:
    """Who sent a message and when; "" for what is no message."""
    return _mail_fields(document, _SENDER_FIELDS)


def header_rows(document: Document) -> list[str]:
    """For each block, the names of its table's columns, cells separated by tabs as in its rows; ""
    for what is no table.

    That is the first row of its own sheet, or of the rows that follow one another down to the block
    where that has no numbers, as a second table on the sheet has. A table that is only numbers
    has its first row as well.
    """
    found: list[str] = []
    for _, blocks in groupby(document.blocks, key=lambda block: (block.place, block.unit)):
        found += _headers(list(blocks))
    return found


def tables_in(document: Document, block: Block) -> Tables:
    """The tables within the running text of a block that have a row with the names of columns: one
    over a rule in Markdown, else one without numbers."""
    if block.unit == "row" or is_code(document):
        return ()
    mark = "\t" if block.unit == "paragraph" or document.kind == "pdf" else "|"
    if mark not in block.text:
        return ()
    found = []
    rows: list[tuple[int, int]] = []
    for match in [*_ROW[mark].finditer(block.text), None]:
        if match is not None and rows and match.start() == rows[-1][1] + 1:
            rows.append(match.span())
            continue
        if header := _header_of([block.text[start:end] for start, end in rows[:2]], mark):
            found.append((rows[0][1], rows[-1][1], header))
        rows = [] if match is None else [match.span()]
    return tuple(found)


def _header_of(rows: list[str], mark: str) -> str:
    """Of the first two rows of a table."""
    if len(rows) < 2:
        return ""
    is_header = _RULE.match(rows[1]) if mark == "|" else _is_header(rows[0])
    return rows[0][:HEADER_CHARS] if is_header else ""


def _headers(sheet: list[Block]) -> Iterator[str]:
    top = sheet[0]
    before: Block | None = None
    for block in sheet:
        if block.unit != "row":
            yield ""
            continue
        if block.mark == REPEATED:
            top = before = block
            yield ""
            continue
        follows = before is not None and (
            before.mark == REPEATED or before.first + before.text.count("\n") + 1 == block.first
        )
        if not follows and _is_header(_first_row(block)):
            top = block
        before = block
        yield _aligned(top, block)


def _is_header(row: str) -> bool:
    cells = [cell for cell in row.split("\t") if cell]
    return len(cells) > 1 and not any(cell[:1].isdigit() for cell in cells)


def _aligned(header: Block, block: Block) -> str:
    """The first row of `header`, moved to the columns of `block`."""
    row = _first_row(header)
    if header.columns is None or block.columns is None:
        return row
    shift = column_number(block.columns[0]) - column_number(header.columns[0])
    cells = row.split("\t")
    return "\t".join(cells[shift:] if shift >= 0 else [""] * -shift + cells)


def _mail_fields(document: Document, names: tuple[str, ...]) -> str:
    head = document.blocks[0]
    if head.place is None or (head.place.kind, head.place.label) != ("part", "headers"):
        return ""
    lines = [line for line in head.text.split("\n") if line.partition(":")[0] in names]
    return ", ".join(lines)[:HEADER_CHARS]


def _first_row(block: Block) -> str:
    return block.text.split("\n", 1)[0]
