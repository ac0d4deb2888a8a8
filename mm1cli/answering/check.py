"""The last stage: what an answer says, held against the documents."""

import re
from collections.abc import Callable, Sequence
from functools import partial

from mm1cli.grounding import citations, claims
from mm1cli.grounding.attribution import Attributed
from mm1cli.grounding.claims import Candidate
from mm1cli.grounding.facts import Facts, unknown_facts
from mm1cli.grounding.judgement import Judgement
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.result import Citation, CitationKind, CitationStatus, Claim
from mm1cli.retrieval.headings import TITLE_CHARS, sender_of, title_of
from mm1cli.retrieval.passages import Passage, with_heading

_RUNS_ON = re.compile(r"[.!?]\s")


def check(
    text: str, evidence: Sequence[Attributed], quotable: QuoteIndex, *read: Callable[[], Facts]
) -> tuple[list[Citation], list[str]]:
    """The evidence, then what `text` quotes, as citations numbered from 1; and the quotations of
    `text` that stand nowhere, the dates and numbers that do not stand in what was `read`.

    Each of `read` is asked only for those that `evidence` and the ones before do not have."""
    cited = [
        citations.cite(
            number,
            one.passage,
            CitationStatus.EXACT,
            CitationKind.EVIDENCE,
            score=one.score,
            gain=None if one.gain is None else one.gain.mean,
            attention=one.attention,
        )
        for number, one in enumerate(evidence, 1)
    ]
    quoted = []
    unverified = []
    for quote in citations.quotations(text):
        if found := quotable.find(quote) or quotable.find_anywhere(quote):
            quoted.append(found)
        else:
            unverified.append(quote)
    if found := quotable.find(citations.unfinished(text)):
        quoted.append(found)
    for number, found in enumerate(quoted, len(cited) + 1):
        cited.append(citations.cite(number, found, found.status, CitationKind.QUOTE))
    shown = partial(Facts.of, [with_heading(one.passage) for one in evidence])
    unverified += unknown_facts(text, shown, *read)
    return cited, unverified


def claims_of(
    text: str,
    cited: Sequence[Citation],
    evidence: Sequence[Attributed],
    judgement: Judgement,
    question: str = "",
) -> tuple[Claim, ...]:
    """`cited` is what `check` gave: evidence stands first, in the same order."""
    pieces = [
        Candidate(citation.number, _text_held(one.passage), one.gain)
        for citation, one in zip(cited, evidence, strict=False)
    ]
    pieces += [Candidate(citation.number, citation.text) for citation in cited[len(evidence) :]]
    return claims.claims(text, pieces, judgement, question)


def _text_held(passage: Passage) -> str:
    """With what it stands under, but for a first line of running text: that would carry, beside
    every passage of its document, what it says itself."""
    title = title_of(passage.document)
    is_running = len(title) >= TITLE_CHARS - 1 or _RUNS_ON.search(title)
    text = with_heading(passage)
    return (
        text.replace(f": {title}", "", 1)
        if is_running and not sender_of(passage.document)
        else text
    )
