"""Answers as Markdown with footnotes (`[^1]`, as GitHub and pandoc have them).

Nothing of a document or a model means anything to Markdown or HTML: what looks like an image or a
link is text.
"""

import re
from collections.abc import Sequence

from mm1cli.output import footnotes
from mm1cli.output.answer_text import AnswerText, Block, Piece
from mm1cli.output.markdown import fenced, markdown
from mm1cli.output.page import Collected
from mm1cli.output.text import safe, safe_line
from mm1cli.result import Answer

_MEANING = re.compile(r"[\\`*_\[\]<>|~&$@]|:(?=//)|^[-+=#]")
_LIST_NUMBER = re.compile(r"^(\d{1,9})([.)])")


def answers_markdown(collected: Collected) -> str:
    parts = [f"*{_prose(footnotes.imprint(collected))}*\n\n"]
    parts += [f"**The run ended with an error:** {_prose(one)}\n\n" for one in collected.errors]
    if collected.review is not None:
        parts.append(markdown(collected.review))
    count = len(collected.answers)
    for index, answer in enumerate(collected.answers, 1):
        parts.append(_answer(answer, f"{index}-" if count > 1 else ""))
    return "".join(parts)


def _answer(answer: Answer, prefix: str) -> str:
    parts = [f"## {_prose(' '.join(answer.question.split()))}\n\n"]
    told: set[int] = set()
    if answer.is_json:
        parts.append(fenced(safe(answer.text), "json") + "\n")
    else:
        for block, rows in AnswerText(answer).layout():
            told.update(
                number for row in rows for cell in row for one in cell for number in one.refs
            )
            parts.append(_block(block, rows, prefix))
    parts += [f"{_prose(text)}\n\n" for text in footnotes.remarks(answer)]
    if others := footnotes.others(answer, told):
        marks = "".join(f"[^{prefix}{one.number}]" for one in others)
        label = "Evidence" if answer.is_found else "Not found; these passages come nearest"
        parts.append(f"{label}: {marks}\n\n")
    for one in answer.citations:
        where, text = _prose(footnotes.place(one)), _prose(footnotes.words(one))
        parts.append(f"[^{prefix}{one.number}]: **{where}**: {text}\n")
    return "".join(parts) + "\n"


def _block(block: Block, rows: Sequence[Sequence[Sequence[Piece]]], prefix: str) -> str:
    cells = [[_cell(cell, prefix) for cell in row] for row in rows]
    if block.kind == "table":
        lines = [f"| {' | '.join(row)} |\n" for row in cells]
        lines.insert(1, "|---" * len(cells[0]) + "|\n")
        return "".join(lines) + "\n"
    if block.kind == "code":
        return fenced(safe("".join(piece.text for piece in rows[0][0]))) + "\n"
    text = cells[0][0]
    if block.kind == "heading":
        return f"### {text}\n\n"
    if block.kind == "item":
        return f"{block.lead if block.lead[0].isdigit() else '-'} {text}\n\n"
    return f"{text}\n\n"


def _cell(pieces: Sequence[Piece], prefix: str) -> str:
    parts = []
    for piece in pieces:
        text = _prose(" ".join(piece.text.split("\n")))
        if "strong" in piece.classes and text.strip():
            text = f"**{text}**"
        flag = f" *({piece.flag})*" if piece.flag else ""
        parts.append(text + "".join(f"[^{prefix}{number}]" for number in piece.refs) + flag)
    return "".join(parts).strip()


def _prose(text: str) -> str:
    """`text` on one line in which nothing means anything to Markdown or HTML, and which reads well
    as it is."""
    escaped = _MEANING.sub(lambda match: f"\\{match[0]}", safe_line(text))
    return _LIST_NUMBER.sub(r"\1\\\2", escaped)
