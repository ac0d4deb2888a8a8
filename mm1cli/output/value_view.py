"""A value an answer gave under a schema, laid out for a page: fields, lists, tables of records."""

import json
from dataclasses import dataclass
from typing import Literal

_DEEPEST = 6  # below it a value is shown as JSON

Shape = Literal["text", "fields", "list", "table"]


@dataclass(frozen=True, slots=True)
class Laid:
    """text: `text`. fields: `names` and a row of as many items. list: a row of items. table:
    `names` of the columns and rows of as many cells."""

    shape: Shape
    text: str = ""
    names: tuple[str, ...] = ()
    rows: tuple[tuple["Laid", ...], ...] = ()


def lay(value: object, depth: int = 0) -> Laid:
    """Nothing of `value` is lost, but for the marks of JSON; null is a dash."""
    match value:
        case None:
            return Laid("text", "–")
        case str():
            return Laid("text", value)
        case dict() | list() if value and depth < _DEEPEST:
            return _nested(value, depth)
    return Laid("text", json.dumps(value, ensure_ascii=False))


def _nested(value: dict[str, object] | list[object], depth: int) -> Laid:
    if isinstance(value, dict):
        names = tuple(map(str, value))
        return Laid("fields", "", names, (tuple(lay(one, depth + 1) for one in value.values()),))
    if len(value) > 1 and all(isinstance(one, dict) and one for one in value):
        records = [one for one in value if isinstance(one, dict)]
        columns = tuple(dict.fromkeys(name for record in records for name in record))
        rows = tuple(
            tuple(lay(record.get(name), depth + 1) for name in columns) for record in records
        )
        return Laid("table", "", columns, rows)
    return Laid("list", "", (), (tuple(lay(one, depth + 1) for one in value),))
