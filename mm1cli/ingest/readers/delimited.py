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
_VALUE = re.compile(r"[-+]?\d{1,3}(?:[. ]?\d{3})*,\d{1,2}")
_WORDS = re.compile(r"(?:[^,;|\t\"]|,(?= ))*")
_MOST_PASSES = 8  # over the file in search of the ends of quotes
_LINES_SHOWN = 3
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
    stray: list[int] = []
    # NUL cannot be here: such a file is binary.
    for number, cells in enumerate(_rows(text, delimiter, stray), 1):
        if number > skipped:
            rows.add(number, dict(enumerate(cells, 1)))
    blocks = rows.blocks()
    if not blocks:
        raise ReadError(Reason.EMPTY)
    if stray:
        shown = ", ".join(map(str, stray[:_LINES_SHOWN]))
        more = f" and {len(stray) - _LINES_SHOWN} more" if len(stray) > _LINES_SHOWN else ""
        told = f"line {shown}{more}: a quote is never closed; rows are kept apart there"
        warnings = (*warnings, told)
    return Reading(tuple(blocks), warnings, encoding=encoding)


def _rows(text: str, delimiter: str, stray: list[int]) -> Iterator[list[str]]:
    """The rows. A quote that opens a cell and is never closed, or first within a later row, is a
    letter of its row, which would else take the rows after it; its line is added to `stray`."""
    import csv

    lines = list(StringIO(text, newline=""))
    start = 0
    left = _MOST_PASSES * len(lines)
    while start < len(lines):
        rest = map(lines.__getitem__, range(start, len(lines)))
        reader = csv.reader(rest, delimiter=delimiter, strict=True, skipinitialspace=True)
        end = 0
        try:
            for cells in reader:
                end = reader.line_num
                yield cells
            return
        except csv.Error:
            left -= reader.line_num
        start += end + 1
        line = lines[start - 1]
        if left < 0 or _is_open(line, delimiter):
            stray.append(start)
            yield from csv.reader([line], delimiter=delimiter, quoting=csv.QUOTE_NONE)
        else:
            yield from csv.reader([line], delimiter=delimiter, skipinitialspace=True)


def _is_open(line: str, delimiter: str) -> bool:
    """Whether a quote opens a cell of the line that the line does not end."""
    import csv

    return list(csv.reader([line, "\n"], delimiter=delimiter, skipinitialspace=True))[1:] == []


def delimiter_of(sample: str) -> str:
    """The separator that cuts the most rows into the same number of cells, more than one."""
    lines = sample.splitlines(keepends=True)[:_SAMPLE_LINES]
    if _is_one_column(lines):
        return "\t"
    return max(_DELIMITERS, key=lambda delimiter: _agreement(lines, delimiter))


def _is_one_column(lines: Sequence[str]) -> bool:
    """Whether all below the name are values with a decimal comma, or words with commas. Two columns
    of whole numbers look the same, unless the first counts the rows; in one cell they lose
    nothing."""
    values = [line.strip() for line in lines if line.strip()]
    has_name = bool(values) and not any(sign in values[0] for sign in _DELIMITERS)
    if has_name and _WORDS.fullmatch("\n".join(values[1:])):
        return True
    values = values[has_name:]
    if not values or not all(map(_VALUE.fullmatch, values)):
        return False
    counts = [int(line.partition(",")[0].replace(".", "").replace(" ", "")) for line in values]
    return counts != list(range(counts[0], counts[0] + len(counts)))


def _agreement(lines: Sequence[str], delimiter: str) -> tuple[int, int]:
    """In how many rows, and into how many cells; commas inside of numbers separate nothing where
    semicolons or tabs may."""
    import csv

    if delimiter == "," and all(";" in line or "\t" in line for line in lines[:2]):
        lines = [_DECIMAL.sub("", line) for line in lines]
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    widths = [len(row) for row in rows if row]
    counts = {width: widths.count(width) for width in set(widths) if width > 1}
    if not counts:
        return 0, 0
    return max((count, width) for width, count in counts.items())


DELIMITED = Reader(
    name="csv",
    version=5,
    kinds={".csv": "csv", ".tsv": "csv", ".tab": "csv"},
    max_bytes=_MAX_BYTES,
    sandboxed=True,
    read=read_delimited,
)
