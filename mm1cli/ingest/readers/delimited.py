"""CSV and its relatives: rows with the columns a spreadsheet would give them."""

from collections.abc import Sequence
from io import StringIO

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.encoding import decode
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading
from mm1cli.ingest.readers.rows import RowBlocks

_DELIMITERS = ",;\t|"
_MAX_BYTES = 64 * MIB
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
    for number, cells in enumerate(csv.reader(StringIO(text, newline=""), delimiter=delimiter), 1):
        if number > skipped:
            rows.add(number, dict(enumerate(cells, 1)))
    blocks = rows.blocks()
    if not blocks:
        raise ReadError(Reason.EMPTY)
    return Reading(tuple(blocks), warnings, encoding=encoding)


def delimiter_of(sample: str) -> str:
    """The separator that cuts the most rows into the same number of cells, more than one."""
    lines = sample.splitlines(keepends=True)[:_SAMPLE_LINES]
    return max(_DELIMITERS, key=lambda delimiter: _agreement(lines, delimiter))


def _agreement(lines: Sequence[str], delimiter: str) -> tuple[int, int]:
    import csv

    widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    counts = {width: widths.count(width) for width in set(widths) if width > 1}
    if not counts:
        return 0, 0
    return max((count, width) for width, count in counts.items())


DELIMITED = Reader(
    name="csv",
    version=3,
    kinds={".csv": "csv", ".tsv": "csv", ".tab": "csv"},
    max_bytes=_MAX_BYTES,
    sandboxed=True,
    read=read_delimited,
)
