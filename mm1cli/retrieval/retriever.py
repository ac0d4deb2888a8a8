"""Which passages carry an answer: candidates by bm25, reranked by the model.

Both scores together are better than either. Of a context that was read whole candidates are also
what the question attends to, and fewer need a judgement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import zip_longest
from math import nan

from engine.api import Engine
from mm1cli.ingest.corpus import Corpus
from mm1cli.retrieval.attended import Attended
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.definitions import outlines
from mm1cli.retrieval.passages import Passage, Ranked, passages
from mm1cli.retrieval.question_parts import question_parts, search_words
from mm1cli.retrieval.rerank import Judgement, Reranker

NUM_CANDIDATES = 12  # passages that are ordered, if a question shares no word with as many
NUM_JUDGED = 6  # of these by the model, too; of four the right one was not always one
NUM_ATTENDED_JUDGED = 4  # where the order is also that of attention
BM25_WEIGHT = 0.2  # nats for a point of bm25, in the order of passages; see benchmarks/LOG.md
ATTENDED_BM25_WEIGHT = 0.4  # nats of attention for a point of bm25
NUM_PASSAGES = 3  # of these, passages whose sentences it judges as well
NUM_PIECES_JUDGED = 4  # of each, where the model shows at which sentences it looks
NUM_PIECES = 5  # of evidence that are told apart
PIECE_SENTENCES = 2  # "It cost 48 million." needs the sentence before it


class Search(StrEnum):
    """What orders passages."""

    BM25 = "bm25"
    MODEL = "model"
    BOTH = "both"


OnProgress = Callable[[str, int, int, str], None]
Attend = Callable[[str], Attended | None]  # None where that is not known


@dataclass(frozen=True, slots=True)
class Evidence:
    """`passages` by judgement and bm25 together, those that were not judged (score NaN) behind
    them; `pieces` (runs of sentences from the best of them) by judgement; best first.

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
        search: str = Search.BOTH,
        reranker: Reranker | None = None,
    ) -> None:
        """`on_progress` gets what is done, how many, of how many, and of what. `reranker` is one
        that corpora share."""

        def on_parsed(done: int, total: int) -> None:
            on_progress("parsing code", done, total, "files")

        self._index = Bm25Index(passages(corpus, outlines(corpus, on_parsed)))
        self._reranker = reranker or Reranker(engine)
        self._search = Search(search)

    def most_tokens(self, num_passages: int) -> int:
        """So many passages have fewer: a token is at least a byte."""
        return num_passages * self._index.longest_bytes

    def search(self, text: str, num_passages: int) -> list[Passage]:
        """The passages that share most words with `text`, best first; no model is asked."""
        return self._index.search(text, num_passages)

    def find(
        self,
        question: str,
        on_progress: OnProgress,
        num_passages: int = NUM_PASSAGES,
        attend: Attend = lambda _: None,
    ) -> Evidence:
        """Up to `num_passages` passages that share words with the question (at least
        `NUM_CANDIDATES` passages, if there are so many) or are what it attends to, and up to
        `NUM_PIECES` pieces.
        """
        parts = question_parts(question)
        found = [
            self._find(part, search_words(part, question), on_progress, num_passages, attend)
            for part in parts
        ]
        passages = _in_turns([one.passages for one in found])
        pieces = _in_turns([one.pieces for one in found])
        margin = max(one.score_margin for one in found)
        chosen = tuple(non_overlapping(pieces, NUM_PIECES))
        return Evidence(tuple(passages), chosen, margin, len(parts))

    def _find(
        self,
        question: str,
        words: str,
        on_progress: OnProgress,
        num_passages: int,
        attend: Attend,
    ) -> Evidence:
        candidates = self._index.scored(words, max(NUM_CANDIDATES, num_passages))
        attended = None if self._search is Search.BM25 else attend(words)
        if attended is not None:
            candidates = self._with_attended(candidates, attended)
        if not self._reranker.judges:
            return self._by_words(candidates, question, words)
        if self._search is Search.BM25:
            return self._judged_by_words(candidates, question, words, on_progress)
        num_judged = NUM_JUDGED if attended is None else NUM_ATTENDED_JUDGED
        first, rest = candidates[:num_judged], candidates[num_judged:]
        judged = self._reranker.judge(
            question,
            [one.passage for one in first],
            PIECE_SENTENCES,
            lambda done, total: on_progress("judging passages", done, total, "passages"),
        )
        bm25 = {id(one.passage): one.score for one in first}

        def score(one: Judgement) -> float:
            return self._both(one.passage.score, BM25_WEIGHT, bm25[id(one.passage.passage)])

        best = sorted(judged, key=score, reverse=True)
        ranked = [one.passage for one in best]
        # What has no word of the question is read only where there is little else.
        few = max(NUM_CANDIDATES - num_judged, 0)
        ranked += [
            Ranked(one.passage, nan) for at, one in enumerate(rest) if at < few or one.score > 0
        ]
        pieces = self._pieces(question, best[:NUM_PASSAGES], on_progress)
        margin = judged[0].passage.score - self._reranker.baseline(question) if judged else 0.0
        return Evidence(tuple(ranked), tuple(non_overlapping(pieces, NUM_PIECES)), margin)

    def _pieces(
        self, question: str, best: Sequence[Judgement], on_progress: OnProgress
    ) -> list[Ranked]:
        """Of these passages, the best first. Where the model shows at which sentences it looks,
        only those of each at which it looks most are judged."""
        spans: list[Passage] = []
        for one in best:
            looked_at = sorted(one.pieces, key=lambda pair: -pair[1])[:NUM_PIECES_JUDGED]
            spans += [piece for piece, _ in looked_at] or one.passage.passage.spans(PIECE_SENTENCES)
        return self._reranker.rank(
            question,
            spans,
            lambda done, total: on_progress("finding evidence", done, total, "quotes"),
        )

    def _with_attended(self, candidates: Sequence[Ranked], attended: Attended) -> list[Ranked]:
        """These and what is attended to, with bm25 as their score, ordered by both."""
        found = {id(one.passage): one for one in candidates}
        for span in attended.best():
            for passage in self._index.holding(span.block, span.start, span.end):
                found.setdefault(id(passage), Ranked(passage, 0.0))

        def score(one: Ranked) -> float:
            return self._both(attended.log_share(one.passage), ATTENDED_BM25_WEIGHT, one.score)

        return sorted(found.values(), key=score, reverse=True)

    def _both(self, by_model: float, weight: float, bm25: float) -> float:
        """Nats."""
        return by_model + (weight * bm25 if self._search is Search.BOTH else 0.0)

    def _judged_by_words(
        self, candidates: Sequence[Ranked], question: str, words: str, on_progress: OnProgress
    ) -> Evidence:
        """Ordered by bm25 alone; how likely the pieces make the question only says whether anything
        answers it, and which of them are at odds."""
        found = self._by_words(candidates, question, words)
        judged = self._reranker.rank(
            question,
            [one.passage for one in found.pieces],
            lambda done, total: on_progress("judging evidence", done, total, "quotes"),
        )
        score = {id(one.passage): one.score for one in judged}
        pieces = tuple(Ranked(one.passage, score[id(one.passage)]) for one in found.pieces)
        margin = judged[0].score - self._reranker.baseline(question) if judged else 0.0
        return Evidence(found.passages, pieces, margin)

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
