"""The prompt stage: from a question and its evidence to a context that ends where the answer
begins."""

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

from engine.api import Context, Engine
from mm1cli.answering.context_source import ContextSource, PrefixContext, Uncached
from mm1cli.answering.generation import thinking_tokens
from mm1cli.answering.prompt import (
    Focus,
    PromptMap,
    as_prompt_text,
    asked_parts,
    question_prompt,
)
from mm1cli.answering.question import Exchange
from mm1cli.answering.read_budget import read_tokens
from mm1cli.errors import BudgetError
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed
from mm1cli.result import PassageRead
from mm1cli.retrieval.attended import Attended
from mm1cli.retrieval.passages import Passage
from mm1cli.retrieval.retriever import NUM_PASSAGES, Evidence
from mm1cli.retrieval.widen import BESIDE_CHARS, select
from mm1cli.settings import Settings
from mm1cli.sink import Sink

_SHORT_PASSAGE_TOKENS = 64
_MOST_CANDIDATES = 1_000
_TOOL_TOKENS = 1024  # left free for what tools tell, of a large context


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A context that ends where the answer begins, how much of it was there, what is in it and
    where. `passages` are those that were read, None where every document was. `unread_tokens` are
    of passages that were found, not read, and would have fitted."""

    context: Context
    reused_tokens: int
    parts: tuple[PassageRead, ...]
    map: PromptMap
    passages: tuple[Passage, ...] | None = None
    seconds: float = 0.0
    unread_tokens: int = 0
    asked: tuple[str, ...] = ()

    @property
    def really_reused_tokens(self) -> int:
        """Once the answer is there: by what the engine told, where it is one that tells."""
        told = self.context.reused_tokens
        return self.reused_tokens if told is None else min(self.reused_tokens, told)

    @property
    def read_tokens(self) -> int:
        return sum(part.tokens for part in self.parts)


class Prefiller:
    """Reads prompts about one corpus. Where it is read whole, that is done once."""

    def __init__(
        self,
        engine: Engine,
        packed: Packed,
        plan: ReadingPlan,
        settings: Settings,
        sink: Sink,
        source: ContextSource | None = None,
        *,
        beside_chars: int = BESIDE_CHARS,
        stage: str = "prefill",
    ) -> None:
        """`source` is where the context of the documents comes from; None reads them.
        `beside_chars` are read on either side of a passage; `stage` is what progress is of."""
        self._engine, self._packed, self._plan = engine, packed, plan
        self._settings, self._sink = settings, sink
        self._source = source or Uncached(engine)
        self._focus = Focus.of(settings.focus)
        self._beside_chars, self._stage = beside_chars, stage
        self.read_tokens = read_tokens(engine, settings)  # of passages, the context aside
        self._documents: PrefixContext | None = None
        self.keeps_last = False  # for a question that follows
        self._last: Context | None = None  # up to where the last answer began
        self._asked: tuple[str, Context] | None = None  # a question, and where it was searched for
        self._seconds = 0.0  # spent for the next question already
        self._was_there = 0  # tokens of it that the next question need not have read

    @property
    def limit(self) -> int:
        return self._settings.context_tokens or self._engine.max_tokens

    @property
    def answer_tokens(self) -> int:
        thinking = thinking_tokens(self._engine.tokenizer, self._settings)
        return self._settings.max_tokens + thinking

    @property
    def num_candidates(self) -> int:
        """How many passages to look for: where passages are read, all there could be room for."""
        if self._plan is ReadingPlan.WHOLE:
            return self._focus.num_passages or NUM_PASSAGES
        return min(self.limit // _SHORT_PASSAGE_TOKENS, _MOST_CANDIDATES)

    def with_sink(self, sink: Sink) -> "Prefiller":
        """This for one question, whose answer `sink` is told; whoever is next reuses more."""
        twin = copy(self)
        twin._sink = sink
        self._was_there = 0 if self._documents is None else len(self._documents.context)
        return twin

    def with_settings(self, settings: Settings) -> "Prefiller":
        """This for one question with other settings of its answer; documents are read for all."""
        self.documents()
        twin = copy(self)
        twin._settings = settings
        return twin

    def documents(self) -> PrefixContext | None:
        """What all questions share, read now if it was not yet; None where they share nothing."""
        if self._documents is None and self._plan is ReadingPlan.WHOLE:
            prompt = question_prompt(self._engine.tokenizer, self._packed, "")
            found = self._source.get(prompt.prefix, prompt.document_ends, self._on_prefill)
            self._documents, self._was_there = found, found.reused_tokens
        return self._documents

    def attended(self, question: str) -> Attended | None:
        """What the question attends to in documents that it selects from, which are read if they
        were not; None where it sees all of them."""
        if not self._engine.capabilities.selects or (documents := self.documents()) is None:
            return None
        began = time.perf_counter()
        # By the question alone: what is read again beside it would be looked for, too.
        prompt = question_prompt(self._engine.tokenizer, self._packed, question)
        first = len(prompt.head.token_ids)
        context = documents.context.fork()
        context.end_of_documents()
        shares = context.search(prompt.rest.token_ids, first)
        self._asked = (question, context)
        self._seconds += time.perf_counter() - began
        return None if shares is None else Attended(self._packed, shares.tolist(), first)

    def prefill(
        self,
        question: str,
        evidence: Evidence,
        history: Sequence[Exchange] = (),
        tools: str = "",
    ) -> Prefilled:
        """Raises BudgetError where not even one passage fits. The oldest of `history` is left out
        where there is no room for it. `tools` says what may be called."""
        began = time.perf_counter()
        documents = self.documents()
        if documents is None:
            read = self._retrieved(question, evidence, history, tools)
        else:
            read = self._whole(documents.context, question, evidence, history, tools)
        spent, self._seconds = self._seconds, 0.0
        return replace(read, seconds=spent + time.perf_counter() - began)

    def _whole(
        self,
        documents: Context,
        question: str,
        evidence: Evidence,
        history: Sequence[Exchange],
        tools: str,
    ) -> Prefilled:
        """Everything: the corpus is forked for each question; where one follows another, what that
        one read."""
        self._note_long(question)
        again = self._focus.repeated_evidence(evidence, self._packed.fence, are_passages_read=False)
        room = self.limit - len(documents) - self.answer_tokens
        while True:
            prompt = question_prompt(
                self._engine.tokenizer, self._packed, question, again, history, tools
            )
            if len(prompt.rest.token_ids) <= room or not (again or history):
                break
            history, again = history[1:], again if history else again[1:]  # the best stand last
        if len(again) < (self._focus.num_passages or 0):
            self._sink.note(f"--focus: there is room to repeat {len(again)} passages, no more")
        base = self._said_before(documents, prompt.rest.token_ids)
        reused, self._was_there = self._was_there, len(documents)
        context = self._where_asked(base, documents, question)
        context.extend(prompt.rest.token_ids[len(base) - len(documents) :])
        if self.keeps_last:
            self._last = context
        read = zip(self._packed.corpus.documents, self._packed.token_ids, strict=True)
        parts = tuple(PassageRead(document.path, None, len(ids)) for document, ids in read)
        asked = asked_parts(question, again, tools)
        reused = max(reused, len(base) if base is not documents else 0)
        return Prefilled(context, reused, parts, prompt.map, asked=asked)

    def _note_long(self, question: str) -> None:
        """Where most layers see a window only, that is all they see of a question."""
        window = self._engine.capabilities.window_tokens
        if window is None or len(question) <= window:  # no token is less than a character
            return
        if (count := len(self._engine.tokenizer.encode(question))) > window:
            self._sink.note(
                f"the question has {count:,} tokens, and with --fit select most layers see the "
                f"last {window:,} only: its beginning may count for less; ask in fewer words"
            )

    def _where_asked(self, base: Context, documents: Context, question: str) -> Context:
        """A fork of `base` in which the documents end, and `question` has selected."""
        asked, self._asked = self._asked, None
        if asked is not None and asked[0] == question and base is documents:
            context = asked[1]  # which knows what it attends to
        else:
            context = base.fork()
            context.end_of_documents()
        if self._engine.capabilities.selects:
            prompt = question_prompt(self._engine.tokenizer, self._packed, question)
            context.select(prompt.rest.token_ids, len(prompt.head.token_ids))
        return context

    def _said_before(self, documents: Context, rest: Sequence[int]) -> Context:
        """What the last question read, if `rest` begins with it behind the documents."""
        if self._last is None or len(self._last) - len(documents) >= len(rest):
            return documents
        said = list(self._last.token_ids[len(documents) :])
        return self._last if list(rest[: len(said)]) == said else documents

    def _retrieved(
        self, question: str, evidence: Evidence, history: Sequence[Exchange], tools: str
    ) -> Prefilled:
        """The best passages, as many and as wide as there is room for, the best one next to the
        question."""
        tokenizer = self._engine.tokenizer
        again = self._focus.repeated_evidence(evidence, self._packed.fence, are_passages_read=True)
        while True:
            frame = question_prompt(tokenizer, (), question, again, history, tools)
            free = self.limit - self.answer_tokens - len(frame.token_ids)
            free -= min(_TOOL_TOKENS, self.limit // 8) if tools else 0
            if free >= self.limit // 2 or not history:
                break
            history = history[1:]
        found = [one.passage for one in evidence.passages]
        chosen = select(
            found,
            min(free, max(self.read_tokens, self._least_tokens(found))),
            self._cost,
            most=self._focus.most_passages,
            beside_chars=self._beside_chars,
        )
        if not chosen.passages:
            raise BudgetError(
                f"one passage, the question and {self._settings.max_tokens:,} tokens of answer "
                f"need more than the context of {self.limit:,} tokens; lower --max-tokens"
            )
        texts = [
            as_prompt_text(passage, self._packed.fence) for passage in reversed(chosen.passages)
        ]
        prompt = question_prompt(tokenizer, texts, question, again, history, tools)
        context = self._engine.new_context()
        context.extend(prompt.token_ids, self._on_prefill)
        more = select(chosen.left, free - chosen.num_tokens, self._cost, beside_chars=0)
        read, map_ = chosen.passages, prompt.map
        parts = self._passages_read(read)
        asked = asked_parts(question, again, tools)
        unread = more.num_tokens
        reused = context.reused_tokens or 0
        return Prefilled(context, reused, parts, map_, read, unread_tokens=unread, asked=asked)

    def _cost(self, passage: Passage) -> int:
        # One more than it may have: texts side by side can be cut otherwise than each alone.
        return len(self._engine.tokenizer.encode(as_prompt_text(passage, self._packed.fence))) + 1

    def _least_tokens(self, found: Sequence[Passage]) -> int:
        """Of passages that are read however slow the machine is."""
        most = self._focus.most_passages
        return sum(map(self._cost, found[: NUM_PASSAGES if most is None else most]))

    def _passages_read(self, passages: Sequence[Passage]) -> tuple[PassageRead, ...]:
        tokenizer = self._engine.tokenizer
        return tuple(
            PassageRead(one.document.path, one.locator, len(tokenizer.encode(one.text)))
            for one in passages
        )

    def _on_prefill(self, done: int, total: int) -> None:
        self._sink.progress(self._stage, done, total, "tokens")
