"""Workbooks of Excel 97-2003 (.xls) and binary ones (.xlsb), through calamine."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from io import BytesIO
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Block, Damaged, Place, Reason
from mm1cli.ingest.readers.lines import hidden_warnings, one_paragraph
from mm1cli.ingest.readers.markup import broken
from mm1cli.ingest.readers.package import is_locked
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading, installed
from mm1cli.ingest.readers.rows import RowBlocks

if TYPE_CHECKING:
    from python_calamine import CalamineWorkbook

_AS_STORED = "numbers are given as stored, without the formats of their cells"


def read_xls(data: bytes) -> Reading:
    """Blocks of rows with their columns, sheet after sheet. Raises ReadError: EMPTY, ENCRYPTED,
    TOO_LARGE, UNREADABLE.
    """
    blocks: list[Block] = []
    warnings: list[str] = []
    workbook = _opened(data)
    from python_calamine import SheetVisibleEnum

    for index, sheet in enumerate(workbook.sheets_metadata):
        label = one_paragraph(sheet.name)
        mark = "" if sheet.visible == SheetVisibleEnum.Visible else "hidden sheet"
        rows = RowBlocks(Place("sheet", index, label))
        try:
            for row, cells in _rows(workbook, index):
                rows.add(row, cells, mark)
        except (ReadError, MemoryError):
            raise
        except Exception as error:  # whatever the library raises is about this sheet
            warnings.append(Damaged(f"sheet {label} cannot be read: {broken(error).detail}"))
        blocks += rows.blocks()
    if not blocks:
        raise ReadError(Reason.UNREADABLE, warnings[0]) if warnings else ReadError(Reason.EMPTY)
    return Reading(
        tuple(blocks),
        (*warnings, *hidden_warnings(blocks), _AS_STORED),
        installed("python-calamine"),
    )


def _opened(data: bytes) -> "CalamineWorkbook":
    from python_calamine import CalamineWorkbook, PasswordError

    if is_locked(data):
        raise ReadError(Reason.ENCRYPTED)
    try:
        return CalamineWorkbook.from_filelike(BytesIO(data))
    except PasswordError:
        raise ReadError(Reason.ENCRYPTED) from None
    except MemoryError:
        raise
    except Exception as error:
        raise broken(error) from None


def _rows(workbook: "CalamineWorkbook", index: int) -> Iterator[tuple[int, dict[int, str]]]:
    """Row numbers, and their cells by column, both from 1."""
    sheet = workbook.get_sheet_by_index(index)
    left = 0 if sheet.start is None else sheet.start[1]
    for row, values in enumerate(sheet.iter_rows(), 1):
        shown = ((column, shown_value(value)) for column, value in enumerate(values, left + 1))
        cells = {column: text for column, text in shown if text}
        if cells:
            yield row, cells


def shown_value(value: object) -> str:
    """As a sheet without formats shows it."""
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            return format(value, ".15g")
        case datetime() if not (value.hour or value.minute or value.second):
            return value.date().isoformat()
        case datetime():
            return value.replace(microsecond=0).isoformat(" ")
        case date() | time():
            return value.isoformat()
        case timedelta():
            seconds = round(value.total_seconds())
            return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        case _:
            return str(value)


XLS = Reader(
    name="xls",
    version=1,
    kinds={".xls": "xls", ".xlt": "xls", ".xlsb": "xlsb"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_xls,
)
