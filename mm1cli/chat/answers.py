"""What a chat asks: documents, with evidence for each answer, or the model alone.

A question that follows has those before it as its history; what was read for them is a fork of the
same context and is not read again.
"""

import time
from collections.abc import Callable
from typing import Protocol

from engine.api import Context, Engine, Turn
from mm1cli.answering.answer import Answerer
from mm1cli.answering.generation import Generator, thinking_tokens
from mm1cli.answering.question import Exchange, Question
from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.result import Answer, Usage
from mm1cli.retrieval.terms import query_terms
from mm1cli.settings import Settings
from mm1cli.sink import Sink

_FEWEST_TERMS = 3  # a shorter question is looked for with the one before it: "And in 2018?"


class Partner(Protocol):
    """Whom the session asks. `ask` raises what stops an answer; the history is as before then."""

    @property
    def corpus(self) -> Corpus: ...

    def ask(self, text: str) -> Answer: ...

    def forget(self) -> None: ...


class Documents:
    """`answerer` answers; the corpus is the one it answers from."""

    def __init__(self, answerer: Answerer, corpus: Corpus) -> None:
        self._answerer, self.corpus = answerer, corpus
        self._history: list[Exchange] = []
        self._before = ""
        answerer.keep_history()

    def ask(self, text: str) -> Answer:
        sought = f"{self._before} {text}" if len(query_terms(text)) < _FEWEST_TERMS else ""
        answer = self._answerer.answer(
            Question(text, history=tuple(self._history), sought=sought.strip())
        )
        if self._answerer.last is not None:
            self._history.append(self._answerer.last)
        self._before = text
        return answer

    def forget(self) -> None:
        self._history.clear()
        self._before = ""


class Alone:
    """The model without documents. Its context grows from turn to turn, thinking left out; where
    it is full, the oldest turns go."""

    corpus = Corpus(())

    def __init__(self, engine: Engine, settings: Settings, sink: Sink) -> None:
        self._engine, self._settings, self._sink = engine, settings, sink
        self._turns: list[Turn] = []
        self._last: Context | None = None
        self._generator = Generator(
            engine,
            settings,
            on_token=sink.token,
            on_thinking=sink.thinking,
            on_progress=sink.progress,
        )

    def ask(self, text: str) -> Answer:
        began = time.perf_counter()
        context, turns, reused = self._read([*self._turns, Turn("user", (text,))])
        read_s = time.perf_counter()
        generation = self._generator.generate(context.fork())
        ended = time.perf_counter()
        said = generation.text
        self._turns = [*turns, Turn("assistant", (said,))]
        self._last = context
        answer = Answer(
            question=text,
            text=said,
            citations=(),
            usage=Usage(
                corpus_tokens=0,
                read_tokens=0,
                context_tokens=len(context),
                reused_tokens=reused,
                output_tokens=len(generation.token_ids),
                prefill_s=read_s - began,
                decode_s=ended - read_s,
                total_s=ended - began,
            ),
            plan=ReadingPlan.WHOLE,
            stop_reason=generation.stop_reason,
            seed=self._settings.seed,
            model_fingerprint=self._engine.fingerprint,
            thinking=generation.thinking,
        )
        self._sink.answer(answer)
        return answer

    def forget(self) -> None:
        self._turns, self._last = [], None

    def _read(self, turns: list[Turn]) -> tuple[Context, list[Turn], int]:
        """A context of `turns`, of as many as there is room for, and what was read already."""
        encode: Callable[[list[Turn]], list[int]] = self._engine.tokenizer.encode_chat
        limit = self._settings.context_tokens or self._engine.max_positions
        thinking = thinking_tokens(self._engine.tokenizer, self._settings)
        # A budget that fills the context must not push out what was said before.
        room = limit - self._settings.max_tokens - min(thinking, limit // 2)
        ids = encode(turns)
        while len(ids) > room and len(turns) > 1:
            turns = turns[2:]
            ids = encode(turns)
        last = self._last
        is_going_on = last is not None and ids[: len(last)] == list(last.token_ids)
        context = last.fork() if last is not None and is_going_on else self._engine.new_context()
        reused = len(context)
        context.extend(
            ids[reused:], lambda done, total: self._sink.progress("prefill", done, total, "tokens")
        )
        return context, turns, reused
