"""A value an answer gave under a schema, laid out for a page: fields, lists, tables of records."""

import json
from dataclasses import dataclass
from typing import Literal

_DEEPEST = 6  # below it a value is shown as JSON

Shape = Literal["text", "fields", "list", "table"]


@dataclass(frozen=True, slots=True)
class ValueView:
    """text: `text`. fields: `names` and a row of as many items. list: a row of items. table:
    `names` of the columns and rows of as many cells."""

    shape: Shape
    text: str = ""
    names: tuple[str, ...] = ()
    rows: tuple[tuple["ValueView", ...], ...] = ()


def value_view(value: object, depth: int = 0) -> ValueView:
    """Nothing of `value` is lost, but for the marks of JSON; null is a dash."""
    match value:
        case None:
            return ValueView("text", "–")
        case str():
            return ValueView("text", value)
        case dict() | list() if value and depth < _DEEPEST:
            return _nested(value, depth)
    return ValueView("text", json.dumps(value, ensure_ascii=False))


def _nested(value: dict[str, object] | list[object], depth: int) -> ValueView:
    if isinstance(value, dict):
        names = tuple(map(str, value))
        return ValueView(
            "fields", "", names, (tuple(value_view(one, depth + 1) for one in value.values()),)
        )
    if len(value) > 1 and all(isinstance(one, dict) and one for one in value):
        records = [one for one in value if isinstance(one, dict)]
        columns = tuple(dict.fromkeys(name for record in records for name in record))
        rows = tuple(
            tuple(value_view(record.get(name), depth + 1) for name in columns) for record in records
        )
        return ValueView("table", "", columns, rows)
    return ValueView("list", "", (), (tuple(value_view(one, depth + 1) for one in value),))
