"""The model's half of retrieval: texts ordered by the likelihood of the question given each.

Likelihood, never free text: a model that is too small to write well still ranks well. It is told
where a text stands, since twins differ in nothing else: log p(question | path, title, headings,
text).
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import nan
from statistics import fmean

from engine.api import Context, Engine, Turn
from mm1cli.prompts import prompt
from mm1cli.retrieval.passages import Passage, Ranked, with_heading

OnProgress = Callable[[int, int], None]


class Reranker:
    """Orders texts by log p(question | text), as one model gives it. Not to be asked unless it
    `judges`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._head: Context | None = None  # what every judgement begins with, read once

    @property
    def judges(self) -> bool:
        """Whether the engine tells logprobs."""
        return self._engine.capabilities.has_logprobs

    def rank(
        self, question: str, candidates: Sequence[Passage], on_progress: OnProgress
    ) -> list[Ranked]:
        """`candidates`, best first; `on_progress` gets how many are judged, and of how many."""
        num_done, asked = 0, self._engine.tokenizer.encode(question)

        def judged(passage: Passage, read: list[int]) -> Ranked:
            nonlocal num_done
            ranked = Ranked(passage, self._likelihood(asked, read))
            num_done += 1
            on_progress(num_done, len(candidates))
            return ranked

        num_head = len(self._read_head())
        read = [self._behind_head(with_heading(passage)) for passage in candidates]
        works = [partial(judged, *one) for one in zip(candidates, read, strict=True)]
        most = num_head + max(map(len, read), default=0) + len(asked)
        ranked = self._engine.map_requests(works, most)
        return sorted(ranked, key=lambda one: -one.score)

    def score(self, question: str, text: str) -> float:
        """Mean log p of the question's tokens; of an empty `text`, as if nothing were there."""
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
