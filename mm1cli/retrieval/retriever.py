"""Which passages carry an answer: candidates by bm25, reranked by the model.

Both scores together are better than either.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from math import nan

from engine.api import Engine
from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.pack import Span
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.definitions import outlines
from mm1cli.retrieval.passages import Passage, Ranked, passages
from mm1cli.retrieval.question_parts import question_parts, search_words
from mm1cli.retrieval.rerank import Reranker

NUM_CANDIDATES = 12  # passages that are ordered, if a question shares no word with as many
NUM_JUDGED = 6  # of these by the model, too; of four the right one was not always one
BM25_WEIGHT = 0.2  # nats for a point of bm25, in the order of passages; see benchmarks/LOG.md
NUM_PASSAGES = 3  # of these, passages whose sentences it judges as well
NUM_PIECES = 5  # of evidence that are told apart
PIECE_SENTENCES = 2  # "It cost 48 million." needs the sentence before it

OnProgress = Callable[[str, int, int, str], None]


@dataclass(frozen=True, slots=True)
class Evidence:
    """`passages` by judgement and bm25 together, those that were not judged (score NaN) by bm25
    behind them; `pieces` (runs of sentences from the best of them) by judgement; best first.

    `score_margin` is how much likelier a passage makes the question, in nats per token of it: the
    highest score over that of no text at all.
    """

    passages: tuple[Ranked, ...]
    pieces: tuple[Ranked, ...]
    score_margin: float
    num_parts: int = 1  # what a question asks; the first passages and pieces are one for each


class Retriever:
    """Finds evidence in one corpus."""

    def __init__(
        self,
        engine: Engine,
        corpus: Corpus,
        on_progress: OnProgress = lambda *_: None,
        reranker: Reranker | None = None,
    ) -> None:
        """`on_progress` gets what is done, how many, of how many, and of what. `reranker` is one
        that corpora share."""

        def on_parsed(done: int, total: int) -> None:
            on_progress("parsing code", done, total, "files")

        self._index = Bm25Index(passages(corpus, outlines(corpus, on_parsed)))
        self._reranker = reranker or Reranker(engine)

    def most_tokens(self, num_passages: int) -> int:
        """So many passages have fewer: a token is at least a byte."""
        return num_passages * self._index.longest_bytes

    def find(
        self,
        question: str,
        on_progress: OnProgress,
        num_passages: int = NUM_PASSAGES,
        selected: Sequence[Span] = (),
    ) -> Evidence:
        """Up to `num_passages` passages that share words with the question (at least
        `NUM_CANDIDATES` passages, if there are so many), and up to `NUM_PIECES` pieces. What the
        model `selected` is judged, too.
        """
        parts = question_parts(question)
        also = [one for span in selected for one in self._holding(span)]
        found = [
            self._find(part, search_words(part, question), on_progress, num_passages, also)
            for part in parts
        ]
        passages = _in_turns([one.passages for one in found])
        pieces = _in_turns([one.pieces for one in found])
        margin = max(one.score_margin for one in found)
        chosen = tuple(non_overlapping(pieces, NUM_PIECES))
        return Evidence(tuple(passages), chosen, margin, len(parts))

    def _holding(self, span: Span) -> list[Passage]:
        return self._index.holding(span.block, span.start, span.end)

    def _find(
        self,
        question: str,
        words: str,
        on_progress: OnProgress,
        num_passages: int,
        also: Sequence[Passage],
    ) -> Evidence:
        candidates = self._index.scored(words, max(NUM_CANDIDATES, num_passages))
        if not self._reranker.judges:
            return self._by_words(candidates, question, words)
        bm25 = {id(one): 0.0 for one in also}
        bm25 |= {id(one.passage): one.score for one in candidates}
        wanted = {id(one): one for one in also}
        first = candidates[:NUM_JUDGED]
        first += [one for one in candidates[NUM_JUDGED:] if id(one.passage) in wanted]
        known = {id(one.passage) for one in first}
        new = [one for key, one in wanted.items() if key not in known]
        judged = self._reranker.rank(
            question,
            [*(one.passage for one in first), *new],
            lambda done, total: on_progress("judging passages", done, total, "passages"),
        )
        ranked = sorted(judged, key=lambda one: -one.score - BM25_WEIGHT * bm25[id(one.passage)])
        # What has no word of the question is read only where there is little else.
        rest = candidates[NUM_JUDGED:NUM_CANDIDATES]
        rest += [one for one in candidates[NUM_CANDIDATES:] if one.score > 0]
        rest = [one for one in rest if id(one.passage) not in wanted]
        ranked += [Ranked(one.passage, nan) for one in rest]
        spans = [
            span for one in ranked[:NUM_PASSAGES] for span in one.passage.spans(PIECE_SENTENCES)
        ]
        pieces = self._reranker.rank(
            question,
            spans,
            lambda done, total: on_progress("finding evidence", done, total, "quotes"),
        )
        margin = judged[0].score - self._reranker.baseline(question) if judged else 0.0
        return Evidence(tuple(ranked), tuple(non_overlapping(pieces, NUM_PIECES)), margin)

    def _by_words(self, candidates: Sequence[Ranked], question: str, words: str) -> Evidence:
        """Ordered by bm25, and by what else the engine has. Whether anything answers the question
        is left to the model."""
        reordered = partial(self._reranker.reordered, question)
        first = reordered(candidates[:NUM_CANDIDATES])
        first += [one.passage for one in candidates[NUM_CANDIDATES:] if one.score > 0]
        spans = [span for one in first[:NUM_PASSAGES] for span in one.spans(PIECE_SENTENCES)]
        found = reordered(Bm25Index(spans).scored(words, len(spans)))
        pieces = non_overlapping([Ranked(span, nan) for span in found], NUM_PIECES)
        return Evidence(tuple(Ranked(one, nan) for one in first), tuple(pieces), 0.0)


def _in_turns(orders: Sequence[Sequence[Ranked]]) -> list[Ranked]:
    """The best of each, the second of each, ..., every passage once."""
    found: dict[tuple[int, int, int], Ranked] = {}
    for turn in zip_longest(*orders):
        for one in filter(None, turn):
            found.setdefault((id(one.passage.block), one.passage.start, one.passage.end), one)
    return list(found.values())


def non_overlapping(ranked: Sequence[Ranked], limit: int) -> list[Ranked]:
    """The best `limit` of `ranked` that do not overlap one another."""
    chosen: list[Ranked] = []
    for one in ranked:
        if len(chosen) < limit and not any(one.passage.overlaps(c.passage) for c in chosen):
            chosen.append(one)
    return chosen
