"""Answers as a table for a spreadsheet: the rows of a template, the fields of a schema, or one row
a question. The last column names the sources.

A byte order mark tells spreadsheets that it is UTF-8, and no cell is a formula: one that begins as
formulas do gets an apostrophe before it, as the spreadsheets themselves write text.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from mm1cli.output import footnotes
from mm1cli.output.page import Collected
from mm1cli.result import Answer

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def answers_csv(collected: Collected) -> bytes:
    answers = collected.answers
    tables = [one.value for one in answers if isinstance(one.value, dict) and "rows" in one.value]
    if len(answers) == 1 and tables:
        columns, rows = _table(answers[0], tables[0])
    else:
        columns, rows = _questions(answers)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*map(_harmless, columns), "sources"])
    writer.writerows([*map(_harmless, row)] for row in rows)
    return text.getvalue().encode("utf-8-sig", "backslashreplace")


def _table(answer: Answer, value: Mapping[str, object]) -> tuple[list[str], list[list[str]]]:
    places = {one.number: footnotes.place(one) for one in answer.citations}
    columns, found = value["columns"], value["rows"]
    assert isinstance(columns, list) and isinstance(found, list)
    rows = []
    for row in found:
        cells = [row[name] for name in columns]
        numbers = dict.fromkeys(number for cell in cells for number in cell["citations"])
        sources = "; ".join(places[number] for number in numbers)
        rows.append([*(_text(cell["text"]) for cell in cells), sources])
    return columns, rows


def _questions(answers: Sequence[Answer]) -> tuple[list[str], list[list[str]]]:
    fields = dict.fromkeys(name for answer in answers for name, _ in _fields(answer))
    rows = []
    for answer in answers:
        sources = "; ".join(map(footnotes.place, answer.citations))
        told = dict(_fields(answer))
        rows.append([answer.question, *(told.get(name, "") for name in fields), sources])
    return ["question", *fields], rows


def _fields(answer: Answer) -> Iterator[tuple[str, str]]:
    if answer.is_json and isinstance(answer.value, dict):
        for name, value in answer.value.items():
            yield name, _text(value)
    else:
        yield "answer", answer.text


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list():
            return "; ".join(map(_text, value))
        case dict():
            return "; ".join(f"{name}: {_text(one)}" for name, one in value.items())
    return str(value)


def _harmless(cell: str) -> str:
    if not cell.startswith(_FORMULA_STARTS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
