"""A model's half of retrieval: texts ordered by the likelihood of the question given each.

Likelihood, never free text: a model that is too small to write well still ranks well. It is told
where a text stands, since twins differ in nothing else: log p(question | path, title, headings,
text). Over a server that tells no likelihoods another model of its own may order texts.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from math import nan
from statistics import fmean
from typing import TypeVar

from engine.api import Context, Engine, Turn
from mm1cli.models import ability
from mm1cli.prompts import prompt
from mm1cli.retrieval.passages import Passage, Ranked, with_heading

# Of scores from 0 to 1, beside bm25's: Bruch, Gai and Ingber, "An analysis of fusion functions for
# hybrid retrieval", 2023.
RELEVANCE_WEIGHT = 0.8
_MOST_BASELINES = 1000


OnProgress = Callable[[int, int], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judgement:
    """A passage, and its runs of sentences with the share that each has of the attention that the
    question gives the passage."""

    passage: Ranked
    pieces: tuple[tuple[Passage, float], ...] = ()


class Reranker:
    """Orders texts by log p(question | text), as one model gives it, of whatever corpus they are.
    Not to be asked unless it `judges`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._baselines: dict[str, float] = {}
        self._head: Context | None = None  # what every judgement begins with, read once
        known = ability.measured(engine.fingerprint) if engine.capabilities.has_attention else None
        self._sees = None if known is None else known.head

    @property
    def judges(self) -> bool:
        """Whether the engine tells logprobs."""
        return self._engine.capabilities.has_logprobs

    def rank(
        self, question: str, candidates: Sequence[Passage], on_progress: OnProgress
    ) -> list[Ranked]:
        """`candidates`, best first; `on_progress` gets how many are judged, and of how many."""
        asked = self._engine.tokenizer.encode(question)

        def judged(passage: Passage, read: list[int]) -> Ranked:
            return Ranked(passage, self._likelihood(asked, read))

        ranked = self._map(judged, len(asked), candidates, on_progress)
        return sorted(ranked, key=lambda one: -one.score)

    def judge(
        self,
        question: str,
        candidates: Sequence[Passage],
        num_sentences: int,
        on_progress: OnProgress,
    ) -> list[Judgement]:
        """As `rank`; where a head of the model is known that looks at what is asked, each with its
        runs of so many sentences, from the same pass."""
        tokenizer, head = self._engine.tokenizer, self._sees
        if head is None:
            ranked = self.rank(question, candidates, on_progress)
            return [Judgement(one) for one in ranked]
        asked = tokenizer.encode(question)

        def judged(passage: Passage, read: list[int]) -> Judgement:
            found = self._read_head().judge(asked, read, head)
            score = fmean(found.log_p.tolist() or [nan])
            sums = list(accumulate(found.shares.tolist(), initial=0.0))
            text = with_heading(passage)
            shown = len(text) - len(passage.text) - passage.start
            offsets = tokenizer.offsets(text)

            def attended(span: Passage) -> float:
                first = bisect_right(offsets, span.start + shown, key=lambda one: one[1])
                last = bisect_left(offsets, span.end + shown, key=lambda one: one[0])
                return sums[last] - sums[first]

            pieces = [(span, attended(span)) for span in passage.spans(num_sentences)]
            return Judgement(Ranked(passage, score), tuple(pieces))

        found = self._map(judged, len(asked), candidates, on_progress)
        return sorted(found, key=lambda one: -one.passage.score)

    def _map(
        self,
        judged: Callable[[Passage, list[int]], T],
        num_asked: int,
        candidates: Sequence[Passage],
        on_progress: OnProgress,
    ) -> list[T]:
        num_done = 0

        def work(passage: Passage, read: list[int]) -> T:
            nonlocal num_done
            found = judged(passage, read)
            num_done += 1
            on_progress(num_done, len(candidates))
            return found

        num_head = len(self._read_head())
        read = [self._behind_head(with_heading(passage)) for passage in candidates]
        works = [partial(work, *one) for one in zip(candidates, read, strict=True)]
        most = num_head + max(map(len, read), default=0) + num_asked
        return self._engine.map_requests(works, most)

    def reordered(self, question: str, found: Sequence[Ranked]) -> list[Passage]:
        """What bm25 found, best first: by that and the engine's `relevance` together, if it has
        one."""
        passages = [one.passage for one in found]
        if not passages or not self._engine.capabilities.has_relevance:
            return passages
        told = self._engine.relevance(question, [with_heading(one) for one in passages])
        words = _from_0_to_1([one.score for one in found])
        both = [
            RELEVANCE_WEIGHT * a + (1 - RELEVANCE_WEIGHT) * b
            for a, b in zip(_from_0_to_1(told), words, strict=True)
        ]
        return [passages[at] for at in sorted(range(len(both)), key=lambda at: -both[at])]

    def baseline(self, question: str) -> float:
        """Mean log p of the question's tokens as if no text were there."""
        if question not in self._baselines:
            if len(self._baselines) >= _MOST_BASELINES:
                self._baselines.clear()
            self._baselines[question] = self.score(question, "")
        return self._baselines[question]

    def score(self, question: str, text: str) -> float:
        """Mean log p of the question's tokens behind `text`."""
        return self._likelihood(self._engine.tokenizer.encode(question), self._behind_head(text))

    def _likelihood(self, asked: list[int], read: list[int]) -> float:
        return fmean(self._read_head().score(asked, given=read).tolist() or [nan])

    def _behind_head(self, text: str) -> list[int]:
        tokenizer = self._engine.tokenizer
        _, *rest = tokenizer.chat([Turn("user", (text, prompt("judge")))])
        return [i for piece in rest for i in tokenizer.encode_piece(piece)]

    def _read_head(self) -> Context:
        if self._head is None:
            tokenizer = self._engine.tokenizer
            head, *_ = tokenizer.chat([Turn("user", (prompt("judge"), prompt("judge")))])
            context = self._engine.new_context()
            context.extend(tokenizer.encode_piece(head))
            self._head = context  # not before it is read: others may wait for the model, too
        return self._head


def _from_0_to_1(scores: Sequence[float]) -> list[float]:
    lowest, highest = min(scores), max(scores)
    spread = highest - lowest
    return [(one - lowest) / spread if spread else 0.0 for one in scores]
