"""CSV and its relatives: rows with the columns a spreadsheet would give them."""

import re
from collections.abc import Iterator, Sequence
from io import StringIO

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.encoding import decode
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading
from mm1cli.ingest.readers.rows import RowBlocks

_DELIMITERS = ",;\t|"
_MAX_BYTES = 64 * MIB
_DECIMAL = re.compile(r"(?<=\d),(?=\d{1,2}(?!\d))")
_LONGEST_ROW = 20  # in lines; what is longer and runs to the end of the file is no row
_MOST_STRAY = 3
_SAMPLE_LINES = 50
_SAMPLE_CHARS = 64 * 1024


def read_delimited(data: bytes) -> Reading:
    """Blocks of rows, cells separated by tabs; rows count as a spreadsheet counts them.

    Raises ReadError: BINARY, EMPTY, TOO_LARGE.
    """
    import csv

    # No cell is too long; the file's size is the limit.
    csv.field_size_limit(_MAX_BYTES)
    text, encoding, warnings = decode(data)
    # Excel's own way to name the separator.
    skipped = 0
    if text[:4].lower() == "sep=" and text[5:6] in {"\n", "\r"}:
        delimiter = text[4]
        skipped = 1
    else:
        delimiter = delimiter_of(text[:_SAMPLE_CHARS])
    rows = RowBlocks()
    # NUL cannot be here: such a file is binary.
    for number, cells in enumerate(_rows(text, delimiter), 1):
        if number > skipped:
            rows.add(number, dict(enumerate(cells, 1)))
    blocks = rows.blocks()
    if not blocks:
        raise ReadError(Reason.EMPTY)
    return Reading(tuple(blocks), warnings, encoding=encoding)


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """The rows; a quote that opens a cell and is never closed is a letter of its row, which would
    else take all rows after it."""
    import csv

    lines = list(StringIO(text, newline=""))
    start = 0
    for restarts in range(_MOST_STRAY + 1):
        reader = csv.reader(lines[start:], delimiter=delimiter)
        end = 0
        for cells in reader:
            first, end = end, reader.line_num
            is_open = end - first > _LONGEST_ROW and end == len(lines) - start
            if is_open and restarts < _MOST_STRAY and not lines[-1].rstrip().endswith('"'):
                line = lines[start + first : start + first + 1]
                yield from csv.reader(line, delimiter=delimiter, quoting=csv.QUOTE_NONE)
                start += first + 1
                break
            yield cells
        else:
            return


def delimiter_of(sample: str) -> str:
    """The separator that cuts the most rows into the same number of cells, more than one."""
    lines = sample.splitlines(keepends=True)[:_SAMPLE_LINES]
    return max(_DELIMITERS, key=lambda delimiter: _agreement(lines, delimiter))


def _agreement(lines: Sequence[str], delimiter: str) -> tuple[int, int]:
    """In how many rows, and into how many cells; commas inside of numbers separate nothing where
    semicolons or tabs may."""
    import csv

    if delimiter == "," and all(";" in line or "\t" in line for line in lines[:2]):
        lines = [_DECIMAL.sub("", line) for line in lines]
    widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    counts = {width: widths.count(width) for width in set(widths) if width > 1}
    if not counts:
        return 0, 0
    return max((count, width) for width, count in counts.items())


DELIMITED = Reader(
    name="csv",
    version=4,
    kinds={".csv": "csv", ".tsv": "csv", ".tab": "csv"},
    max_bytes=_MAX_BYTES,
    sandboxed=True,
    read=read_delimited,
)
