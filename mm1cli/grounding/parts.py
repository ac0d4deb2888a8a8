"""The clauses of a text, each with what it goes on about.

A field ("Date: 3 March") is about the title above it, a row about its table, "and was sold in 1990"
about what its sentence began with; a clause with a subject of its own about that alone.
"""

import re
from dataclasses import dataclass

from mm1cli.grounding.normalize import normalize
from mm1cli.grounding.statements import has_subject, is_heading
from mm1cli.grounding.words import Word, clauses, words

_CARRY_WORDS = 4  # of a sentence's beginning, which its later clauses go on about
_OWN_SUBJECT = re.compile(r"\s*(?:whereas|while|although|though|because|since|unless)\b", re.I)
_PRONOUN = re.compile(r"\s*\b(?:it|they|them|he|she|him|this|these|those|there)\b", re.IGNORECASE)
_ENDS = re.compile(r"[.!?:]\s*$")
_LINES = re.compile(r"\n\s*\n|\n(?=\s*[-*|#])|\n(?=[^\W_]\w*(?:[ -]\w+){0,3}:\s)")
_ROW = re.compile(r"^[^\n]*[^\s][^\n]*\t[^\n]*$", re.MULTILINE)
_FIELD = re.compile(r"\W*[^\W_]\w*(?:[ -]\w+){0,3}:\s")
_MOST_TITLE_WORDS = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A clause: its text, its own words, and of a later one those it goes on about."""

    text: str
    start: int
    words: tuple[Word, ...]
    carried: tuple[Word, ...] = ()
    is_row: bool = False  # of a table, whose first row says what its cells are

    @property
    def stems(self) -> set[str]:
        return {word.stem for word in self.words}

    def stems_about(self, subject: str) -> set[str]:
        """With what it goes on about, if that is `subject`."""
        carried = {word.stem for word in self.carried}
        return self.stems | (carried if self.is_row or subject in carried else set())


def parts_of(text: str) -> list[Part]:
    """The clauses of `text`, each with what its sentence began with, if it goes on about that."""
    parts: list[Part] = []
    lead: tuple[Word, ...] = ()
    before = ""
    all_words = words(text)
    for start, end in clauses(text):
        own = tuple(word for word in all_words if start <= word.start < end)
        inside = text[start:end]
        goes_on = bool(before) and not _ENDS.search(before)
        if ";" in text[end - len(inside) - 2 : start] and not _PRONOUN.match(inside):
            goes_on = False
        if (parts and "|" in text[max(start - 4, 0) : start]) or (
            _FIELD.match(inside) and parts and _is_title(parts[0])
        ):
            head = tuple(word for word in parts[0].words if word.is_content)
            parts.append(Part(inside, start, own, head, is_row=True))
        elif not goes_on or _OWN_SUBJECT.match(inside) or has_subject(inside):
            lead = tuple(word for word in own if word.is_content)[:_CARRY_WORDS]
            parts.append(Part(inside, start, own))
        else:
            parts.append(Part(inside, start, own, lead))
        before = inside + ("." if "\n" in text[end : end + 2] else "")
    return parts


def normalize_lines(text: str) -> str:
    """One line for each paragraph, list item, table row, field and heading."""
    lines = [""]
    for line in _LINES.split(_ROW.sub(_as_row, text)):
        *whole, last = line.split("\n")
        for one in whole:
            lines[-1] += f" {one}"
            if is_heading(one):
                lines.append("")
        lines[-1] += f" {last}"
        lines.append("")
    return "\n".join(filter(None, map(normalize, lines)))


def _as_row(line: re.Match[str]) -> str:
    """A row of cells between tabs as Markdown has it."""
    return f"| {line.group().strip().replace(chr(9), ' | ')} |"


def _is_title(part: Part) -> bool:
    """Whether the fields below are about it."""
    return len(part.words) <= _MOST_TITLE_WORDS and not _FIELD.match(part.text)
