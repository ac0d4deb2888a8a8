"""The report as one HTML page: what a run collected, laid out by `report.html.jinja`, a review in
it by `review.html.jinja`.

The page loads nothing and runs nothing: its policy forbids all but the one style sheet, which is
named by its hash. Every text is escaped, and control and bidi-override characters are spelled out.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING

from mm1cli.ingest.manifest import Entry, Manifest, ReadingPlan
from mm1cli.output.answer_text import AnswerText, Block, Piece
from mm1cli.output.citation_context import Sources, Spot, Surroundings, around, flowing, head_of
from mm1cli.output.context_map import Lane, Segment, lane, segments
from mm1cli.output.quoted_text import caption_line, shown_text
from mm1cli.output.text import COMPLETE, duration, safe
from mm1cli.output.value_view import ValueView, value_view
from mm1cli.result import Answer, Citation, CitationKind, CitationStatus, Form, Mark
from mm1cli.sink import RunInfo

if TYPE_CHECKING:
    import jinja2

    from mm1cli.output.review_page import ReviewPage
    from mm1cli.review.finding import Review

MOST_LISTED = 3_000  # documents, and files that were left out
FEW_DOCUMENTS = 40  # so many are listed without being asked for
_QUOTE_CHARS = 1_500  # shown before the passage is opened
_PLAN_WORDS = {ReadingPlan.WHOLE: "whole", ReadingPlan.RETRIEVAL: "by retrieval"}
_PROSE = frozenset({"markdown", "text", "pdf", "docx", "html", "epub", "e-mail", "mailbox", "rtf"})
_STATUS_WORDS = {
    CitationStatus.EXACT: "verbatim in the file",
    CitationStatus.NORMALISED: "in the file in these words; spacing or letter forms differ",
    CitationStatus.NOT_FOUND: "not found in the file",
}


@dataclass(frozen=True, slots=True)
class Option:
    """A setting of the run and where it came from."""

    name: str
    value: str
    origin: str


@dataclass(slots=True)
class Collected:
    """What the sink was told. `made` is when the run began; `version` is mm1's."""

    made: datetime
    version: str
    options: Sequence[Option] = ()
    run: RunInfo = field(default_factory=lambda: RunInfo("", ""))
    manifest: Manifest | None = None
    sources: Sources | None = None
    notes: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    review: "Review | None" = None
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Footnote:
    citation: Citation
    quote: str
    around: Surroundings | None
    where: list[str]
    judged: list[str]
    is_code: bool


@dataclass(frozen=True, slots=True)
class _Shown:
    """An answer as the page shows it."""

    number: int
    answer: Answer
    laid: list[tuple[Block, list[list[list[Piece]]]]]
    value: ValueView | None  # instead, where the text is JSON
    evidence: list[_Footnote]
    lane: Lane
    num_claims: int
    num_unsupported: int
    num_contradicted: int
    is_cut: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """A document of the context, and the footnotes that stand in it."""

    number: int
    path: str
    kind: str
    pages: int
    tokens: int
    share: float  # per cent of the context
    cited: list[tuple[int, int]]  # question, footnote
    warnings: tuple[str, ...]


def render(collected: Collected) -> str:
    """The page. Its size is bounded but for the questions and answers themselves: passages are
    shown with a page of text around them, lists end after `MOST_LISTED`."""
    sources = collected.sources
    shown = [_shown(number, answer, sources) for number, answer in enumerate(collected.answers, 1)]
    manifest = collected.manifest or Manifest((), 0)
    left_out = sorted(manifest.left_out, key=lambda entry: str(entry.reason))
    rows = _rows(collected.answers, manifest, sources) if sources is not None else []
    cited = [row for row in rows if row.cited or row.warnings]
    strip: list[Segment] = segments(sources) if sources is not None else []
    css = _style()
    return _template().render(
        css=css,
        css_hash=base64.b64encode(hashlib.sha256(css.encode()).digest()).decode(),
        collected=collected,
        manifest=manifest,
        shown=shown,
        page=_review_page(collected),
        segments=strip,
        rows=rows[:MOST_LISTED],
        cited=cited[:MOST_LISTED],
        num_rows=len(rows),
        is_short=len(rows) <= FEW_DOCUMENTS,
        left_out=[
            (reason, list(group))
            for reason, group in groupby(left_out[:MOST_LISTED], key=lambda e: str(e.reason))
        ],
        more_left_out=max(len(left_out) - MOST_LISTED, 0),
        plans=_PLAN_WORDS,
        statuses=_STATUS_WORDS,
        most_listed=MOST_LISTED,
    )


def _review_page(collected: Collected) -> "ReviewPage | None":
    if collected.review is None:
        return None
    from mm1cli.output.review_page import ReviewPage

    return ReviewPage(collected.review, collected.sources)


def _shown(number: int, answer: Answer, sources: Sources | None) -> _Shown:
    marks = [claim.mark for claim in answer.claims]
    return _Shown(
        number=number,
        answer=answer,
        laid=AnswerText(answer).layout(),
        value=value_view(answer.value) if answer.is_json else None,
        evidence=[_footnote(citation, sources) for citation in answer.citations],
        lane=lane(sources, answer) if sources is not None else Lane([], []),
        num_claims=len(answer.claims),
        num_unsupported=marks.count(Mark.NOT_CARRIED),
        num_contradicted=marks.count(Mark.CONTRADICTED),
        is_cut=_is_cut(answer),
    )


def _is_cut(answer: Answer) -> bool:
    is_own = answer.form is Form.WRITTEN and not answer.words
    return is_own and answer.stop_reason not in COMPLETE


def _footnote(citation: Citation, sources: Sources | None) -> _Footnote:
    spot = sources.find(citation) if sources is not None else None
    is_code = _is_code(citation, spot)
    flow = flowing if citation.locator.unit == "line" and not is_code else str
    beside = around(spot) if spot is not None else None
    if beside is not None:
        beside = Surroundings(flow(beside.before), flow(beside.quote), flow(beside.after))
    return _Footnote(
        citation=citation,
        quote=flow(head_of(shown_text(citation), _QUOTE_CHARS)),
        around=beside,
        where=_where(citation),
        judged=_judged(citation),
        is_code=is_code,
    )


def _is_code(citation: Citation, spot: Spot | None) -> bool:
    prose = spot is None or spot.document.kind in _PROSE
    return citation.locator.unit == "row" or (citation.locator.unit == "line" and not prose)


def _where(citation: Citation) -> list[str]:
    """The place in full: file page and printed page, lines, headings."""
    locator = citation.locator
    place = locator.place
    words = []
    if place is not None and place.kind == "page":
        printed = f", printed as “{place.label}”" if place.label else ""
        words.append(f"page {place.index + 1} of the file{printed}")
    elif place is not None:
        words.append(str(place))
    unit = {"line": "line", "paragraph": "paragraph", "row": "row"}[locator.unit]
    one = locator.first == locator.last
    span = f"{locator.first:,}" if one else f"{locator.first:,} to {locator.last:,}"
    on_it = " of it" if place is not None else ""
    words.append(f"{unit}{'' if one else 's'} {span}{on_it}")
    if locator.columns is not None:
        words.append(f"columns {locator.columns[0]} to {locator.columns[1]}")
    if locator.headings:
        words.append("under “" + "” › “".join(locator.headings) + "”")
    if (caption := caption_line(citation)) and not locator.headings:
        words.append(caption)
    if locator.mark:
        words.append(f"a reader of the page may not see it ({locator.mark})")
    return words


def _judged(citation: Citation) -> list[str]:
    """The model's judgement of a passage, in words; nothing for what was not measured."""
    words = []
    if citation.kind is CitationKind.QUOTE:
        words.append("the answer itself quotes it")
    elif math.isfinite(citation.score):
        words.append(f"log-likelihood of the question after it: {citation.score:.2f} per token")
    if citation.gain is not None and math.isfinite(citation.gain):
        how = "likelier" if citation.gain > 0 else "no likelier"
        words.append(f"makes the answer {how} ({citation.gain:+.2f} nats per token)")
    if citation.attention is not None and math.isfinite(citation.attention):
        words.append(f"drew {100 * citation.attention:.0f} % of the answer’s attention")
    return words


def _rows(answers: Sequence[Answer], manifest: Manifest, sources: Sources) -> list[_Row]:
    entries: dict[str, Entry] = {entry.path: entry for entry in manifest.read}
    cited: dict[str, list[tuple[int, int]]] = {}
    for question, answer in enumerate(answers, 1):
        for citation in answer.citations:
            cited.setdefault(citation.path, []).append((question, citation.number))
    whole = max(sources.first_tokens[-1], 1)
    return [
        _Row(
            number=number,
            path=document.path,
            kind=document.kind,
            pages=entries[document.path].num_pages if document.path in entries else 0,
            tokens=tokens,
            share=100 * tokens / whole,
            cited=cited.get(document.path, []),
            warnings=document.warnings,
        )
        for number, (document, tokens) in enumerate(
            zip(sources.documents, sources.tokens, strict=True), 1
        )
        if tokens
    ]


@cache
def _style() -> str:
    return _source("report.css")


@cache
def _template() -> "jinja2.Template":
    import jinja2  # slow to import, and few runs need it

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: safe(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    environment.filters["head"] = head_of
    environment.filters["number"] = lambda value: f"{value:,}"
    environment.filters["per_cent"] = lambda value: f"{value:.3f}%"
    return environment.get_template("report.html.jinja")


def _source(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
