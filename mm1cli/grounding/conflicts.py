"""Pieces of evidence from different documents that give different values for what is asked.

Conservative, for a false alarm costs more trust than a missed one: two sentences disagree only if
they are mostly the same words, share words with the question, agree on every number and name in
the question, and each has a number or a name in place of one of the other's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cmp_to_key

from mm1cli.grounding import document_dates
from mm1cli.grounding.citations import numbers
from mm1cli.grounding.dates import MONTH_OF
from mm1cli.grounding.document_dates import Age
from mm1cli.grounding.words import STOPWORDS
from mm1cli.retrieval.passages import Passage, Ranked
from mm1cli.retrieval.retriever import Evidence

NEAR = 1.0  # nats per token: a piece that scores so much below the best does not answer
MOST_SIDES = 3
_LEAST_SHARED = 0.6  # of the shorter sentence's words
_STEM = 5
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CALENDAR = frozenset(word[:_STEM] for word in (*MONTH_OF, *_DAYS))
_STOP = STOPWORDS | {"any", "how", "long", "many", "much", "why"}
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)\b[A-ZÀ-Þ][^\W\d_]+")
_ISO_DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")
_UNIT = re.compile(r"\s?(%|[^\W\d_]+(?:/[^\W\d_]+)?)")
_UNIT_CHARS = 7
_YEAR = re.compile(r"(?:19|20)\d\d")
_ENDS_SENTENCE = re.compile(r"[.!?:;][\"'”’)\]]*$")
_ASKS_NAME = re.compile(r"\b(?:who|whom|whose)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Side:
    piece: Ranked
    value: str
    age: Age


@dataclass(frozen=True, slots=True)
class Conflict:
    """`sides`, the latest first if `known_by` says by what that is known, else the best first."""

    sides: tuple[Side, ...]
    known_by: str


def find(question: str, pieces: Sequence[Ranked]) -> Conflict | None:
    """Whether the best of `pieces` is at odds with another that scores about as well."""
    best, *others = pieces or (None,)
    if best is None:
        return None
    sides: list[Side] = []
    seen = {id(best.passage.document)}
    for other in others:
        if id(other.passage.document) in seen or best.score - other.score > NEAR:
            continue
        if (values := disagreement(question, best.passage, other.passage)) is not None:
            seen.add(id(other.passage.document))
            if not sides:
                sides.append(Side(best, values[0], document_dates.age(best.passage)))
            sides.append(Side(other, values[1], document_dates.age(other.passage)))
    return _ordered(sides[:MOST_SIDES]) if sides else None


def _ordered(sides: Sequence[Side]) -> Conflict:
    def earlier(one: Side, other: Side) -> int:
        return -document_dates.compare(one.age, other.age)[0]

    ordered = sorted(sides, key=cmp_to_key(earlier))
    known_by = {document_dates.compare(ordered[0].age, one.age)[1] for one in ordered[1:]}
    is_known = "" not in known_by
    return Conflict(tuple(ordered if is_known else sides), min(known_by) if is_known else "")


def later_first(evidence: Evidence, conflict: Conflict) -> Evidence:
    """The same evidence, the sides of the conflict before all else and in its order."""
    sides = [side.piece for side in conflict.sides]
    latest = sides[0].passage
    passages = sorted(evidence.passages, key=lambda one: not one.passage.overlaps(latest))
    rest = [piece for piece in evidence.pieces if not any(piece is side for side in sides)]
    return replace(evidence, passages=tuple(passages), pieces=(*sides, *rest))


def disagreement(question: str, one: Passage, other: Passage) -> tuple[str, str] | None:
    """The two values, as the texts have them, of the sentences that are most alike."""
    asked = _stems(question)
    pairs = [
        (len(asked & _stems(a.text) & _stems(b.text)), a.text, b.text)
        for a in _statements(one)
        for b in _statements(other)
        if _asks_both(question, a, b) and _are_alike(question, a, b)
    ]
    for _, a, b in sorted(pairs, key=lambda pair: -pair[0]):
        if values := _values(question, a, b):
            return values
    return None


def _statements(passage: Passage) -> list[Passage]:
    """Its sentences or rows; titles and the lines of a letter's head state nothing."""
    spans = passage.spans(1)
    if passage.block.unit == "row":
        return spans
    return [span for span in spans if _ENDS_SENTENCE.search(span.text)]


def _asks_both(question: str, one: Passage, other: Passage) -> bool:
    """Whether the question is about both sentences and tells neither from the other."""
    texts = [f"{passage.heading} {passage.text}" for passage in (one, other)]
    asked, (a, b) = _stems(question), map(_stems, texts)
    if 2 * len(asked & a & b) < len(asked) or (asked & a) != (asked & b):
        return False
    if not all(set(numbers(question)) <= set(numbers(text)) for text in texts):
        return False
    names, (in_one, in_other) = _NAME.findall(question), texts
    return all((name in in_one) == (name in in_other) for name in names)


def _are_alike(question: str, one: Passage, other: Passage) -> bool:
    asked, (a, b) = _stems(question), (_common_stems(side) for side in (one, other))
    fewest, shared = min(len(a), len(b)), a & b
    if not shared & asked and one.block.unit != "row":
        return False
    return len(shared) >= max(min(2, fewest), _LEAST_SHARED * fewest, 1)


def _values(question: str, one: str, other: str) -> tuple[str, str] | None:
    """What stands in one for what stands in the other: numbers, or else names."""
    order = (_names, _numbers) if _ASKS_NAME.search(question) else (_numbers, _names)
    for found in order:
        a, b = found(one), found(other)
        only = [
            [value for value in mine if value not in theirs and value not in question]
            for mine, theirs in ((a, b), (b, a))
        ]
        if only[0] and only[1]:
            undated = [[value for value in mine if not _is_date(value)] for mine in only]
            only = undated if all(undated) else only
            units = {_unit(value) for value in only[0]} & {_unit(value) for value in only[1]} - {""}
            a, b = ([v for v in mine if not units or _unit(v) in units] for mine in only)
            return ", ".join(a), ", ".join(b)
    return None


def _is_date(value: str) -> bool:
    return _unit(value)[:_STEM].lower() in _CALENDAR or _YEAR.fullmatch(value) is not None


def _unit(value: str) -> str:
    return value.partition(" ")[2] if value[:1].isdigit() else ""


def _numbers(text: str) -> list[str]:
    """With the unit or the month behind each."""
    found = []
    text = _ISO_DATE.sub(" ", text)
    for number in numbers(text):
        behind = _UNIT.match(text, text.find(number) + len(number))
        unit = behind[1] if behind else ""
        is_month = unit[:_STEM].lower() in _CALENDAR
        is_year = _YEAR.fullmatch(number) is not None
        is_short = 0 < len(unit) <= _UNIT_CHARS and unit.lower() not in _STOP
        found.append(
            f"{number} {unit}".strip() if is_month or (is_short and not is_year) else number
        )
    return found


def _names(text: str) -> list[str]:
    """Runs of words with a capital that do not begin the sentence."""
    runs: list[str] = []
    end = -1
    for match in _NAME.finditer(text):
        if match[0][:_STEM].lower() in _CALENDAR:
            continue
        if runs and match.start() == end + 1:
            runs[-1] += f" {match[0]}"
        else:
            runs.append(match[0])
        end = match.end()
    return runs


def _common_stems(passage: Passage) -> set[str]:
    """Without names, which are what two statements may differ in."""
    return _stems(passage.text) - _stems(" ".join(_NAME.findall(passage.text)))


def _stems(text: str) -> set[str]:
    words = (word.lower() for word in _WORD.findall(text))
    return {w[:_STEM] for w in words if w not in _STOP and w[:_STEM] not in _CALENDAR}
