"""The whole context as a strip: its documents in proportion, and for each question a lane below
that shows what was read and where the evidence stands. Positions are per cent of the tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mm1cli.output.citation_context import Sources
from mm1cli.result import Answer, Citation, CitationKind

NUM_HEATS = 4
_NARROWEST = 0.06  # documents narrower than this share a segment, so there are at most 1,700
_NARROWEST_NUMBERED = 4.0  # room for its number
_GAP = 0.05  # spans this close are drawn as one


@dataclass(frozen=True, slots=True)
class Segment:
    """One document, or several small neighbours. `label` is its number where there is room."""

    start: float
    width: float
    first: int
    last: int
    title: str
    label: str


@dataclass(frozen=True, slots=True)
class Span:
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A citation in its place. `heat` goes from 1 to `NUM_HEATS`, the best; 0 is a quotation."""

    start: float
    width: float
    number: int
    heat: int
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    read: list[Span]
    marks: list[Mark]


def segments(sources: Sources) -> list[Segment]:
    """The documents that have tokens, in the order of the context, side by side."""
    whole = sources.first_tokens[-1]
    groups: list[list[int]] = []
    width = 0.0
    for number, tokens in enumerate(sources.tokens):
        if not tokens:
            continue
        share = 100 * tokens / whole
        if groups and width < _NARROWEST and share < _NARROWEST:
            groups[-1].append(number)
            width += share
        else:
            groups.append([number])
            width = share
    return [_segment(sources, group, whole) for group in groups]


def _segment(sources: Sources, group: Sequence[int], whole: int) -> Segment:
    tokens = sum(sources.tokens[number] for number in group)
    first, last = group[0], group[-1]
    width = 100 * tokens / whole
    names = sources.documents[first].path
    if len(group) > 1:
        names = f"{len(group):,} documents, {names} to {sources.documents[last].path}"
    return Segment(
        start=100 * sources.first_tokens[first] / whole,
        width=width,
        first=first,
        last=last,
        title=f"{names}: {tokens:,} tokens",
        label=str(first + 1) if len(group) == 1 and width >= _NARROWEST_NUMBERED else "",
    )


def lane(sources: Sources, answer: Answer) -> Lane:
    """What was in the context for this answer, and its citations that can be placed."""
    whole = sources.first_tokens[-1]
    if not whole:
        return Lane([], [])
    heats = _heats(answer.citations)
    marks = []
    for citation in answer.citations:
        if (spot := sources.find(citation)) is None:
            continue
        start = sources.token_of(spot.number, spot.block, spot.start)
        end = sources.token_of(spot.number, spot.block, spot.end)
        title = f"[{citation.number}] {citation.path}, {citation.locator}"
        heat = heats[citation.number]
        marks.append(
            Mark(100 * start / whole, 100 * (end - start) / whole, citation.number, heat, title)
        )
    return Lane(_merged(_read(sources, answer), whole), marks)


def _read(sources: Sources, answer: Answer) -> Iterable[tuple[float, float]]:
    for part in answer.read:
        for number in sources.numbers(part.path):
            if part.locator is None:
                yield sources.first_tokens[number], sources.first_tokens[number + 1]
            elif (lines := sources.lines_of(number, part.locator)) is not None:
                yield lines


def _merged(spans: Iterable[tuple[float, float]], whole: int) -> list[Span]:
    merged: list[list[float]] = []
    for start, end in sorted((100 * start / whole, 100 * end / whole) for start, end in spans):
        if merged and start - merged[-1][1] <= _GAP:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return [Span(start, end - start) for start, end in merged]


def _heats(citations: Sequence[Citation]) -> dict[int, int]:
    """The first evidence that is shown is the hottest: one order, on the page and on the map."""
    evidence = [one.number for one in citations if one.kind is CitationKind.EVIDENCE]
    steps = max(len(evidence) - 1, 1)
    heats = dict.fromkeys((one.number for one in citations), 0)
    for rank, number in enumerate(evidence):
        heats[number] = NUM_HEATS - round(rank / steps * (NUM_HEATS - 1))
    return heats
