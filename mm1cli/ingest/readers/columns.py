"""Tables of columns (Parquet, Arrow, Feather) through pyarrow, which is an extra."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Reason, Unread
from mm1cli.ingest.readers.markup import broken
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading, installed
from mm1cli.ingest.readers.rows import RowBlocks
from mm1cli.ingest.readers.xls import shown_value

if TYPE_CHECKING:
    import pyarrow

_LOCKED = b"PARE"
_PARQUET = b"PAR1"
_FEATHER = (b"ARROW1", b"FEA1")
_MAX_ROWS = 100_000
_MAX_CHARS = 16 * MIB
_BATCH_ROWS = 1_000
_MISSING = "a table of columns; pip install 'mm1[parquet]' reads it, or export it as .csv"


def read_columns(data: bytes) -> Reading:
    """Blocks of rows below a row of the columns' names, as an export to a sheet has them; what is
    beyond the first 100,000 rows, or 16 M characters, is named. Raises ReadError: EMPTY, ENCRYPTED,
    UNREADABLE, UNSUPPORTED.
    """
    if data.startswith(_LOCKED):
        raise ReadError(Reason.ENCRYPTED)
    try:
        import pyarrow
    except ImportError:
        raise ReadError(Reason.UNSUPPORTED, _MISSING) from None
    pyarrow.set_cpu_count(1)
    rows = RowBlocks()
    num_rows = num_chars = 0
    warnings: list[str] = []
    try:
        names, total, batches = _opened(data)
        rows.add(1, dict(enumerate(names, 1)))
        for batch in batches:
            for values in zip(*map(_shown_column, batch.columns), strict=True):
                num_rows += 1
                num_chars += sum(map(len, values))
                rows.add(num_rows + 1, dict(enumerate(values, 1)))
            if num_rows >= _MAX_ROWS or num_chars > _MAX_CHARS:
                break
        if num_rows < total:
            warnings.append(Unread(f"only the first {num_rows:,} of {total:,} rows are read"))
    except (ReadError, MemoryError):
        raise
    except Exception as error:  # whatever the library raises is about this file
        raise broken(error) from None
    if not names:
        raise ReadError(Reason.EMPTY)
    if not num_rows:
        warnings.append("no rows: the names of its columns are all that it has")
    return Reading(tuple(rows.blocks()), tuple(warnings), installed("pyarrow"))


def _opened(data: bytes) -> "tuple[list[str], int, Iterator[pyarrow.RecordBatch]]":
    """The names of the columns, how many rows there are, and the rows."""
    import pyarrow

    source = pyarrow.BufferReader(data)
    if data.startswith(_PARQUET):
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(source, pre_buffer=False)
        batches = file.iter_batches(_BATCH_ROWS, use_threads=False)
        return file.schema_arrow.names, file.metadata.num_rows, batches
    if data.startswith(_FEATHER):
        import pyarrow.feather

        table = pyarrow.feather.read_table(source, use_threads=False, memory_map=False)
    else:
        table = pyarrow.ipc.open_stream(source).read_all()
    return table.schema.names, table.num_rows, iter(table.to_batches(_BATCH_ROWS))


def _shown_column(column: "pyarrow.Array") -> list[str]:
    import pyarrow

    if pyarrow.types.is_float32(column.type):
        return ["" if one is None else f"{one:.7g}" for one in column.to_pylist()]
    try:
        values = column.to_pylist()
    except ValueError:  # nanoseconds, which Python's own times do not hold
        values = _as_text(column)
    return list(map(_shown, values))


def _as_text(column: "pyarrow.Array") -> list[object]:
    import pyarrow

    kind = column.type
    try:
        if pyarrow.types.is_timestamp(kind):
            in_utc = column.cast(pyarrow.timestamp(kind.unit)).cast(pyarrow.string()).to_pylist()
            return [one and f"{one} UTC" if kind.tz else one for one in in_utc]
        if pyarrow.types.is_duration(kind):
            counts = column.cast(pyarrow.int64()).to_pylist()
            return [None if one is None else f"{one} {kind.unit}" for one in counts]
        return list(column.cast(pyarrow.string()).to_pylist())
    except pyarrow.ArrowException:
        return [f"({kind} that cannot be shown)"] * len(column)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"({len(value):,} bytes)"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=shown_value)
    return shown_value(value)


COLUMNS = Reader(
    name="columns",
    version=2,
    kinds=dict.fromkeys((".parquet", ".arrow", ".feather"), "table"),
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_columns,
)
