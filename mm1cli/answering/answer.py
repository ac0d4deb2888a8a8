"""The one path from (corpus, question) to `Answer`.

reading plan -> evidence (bm25, then the model's judgement) -> context -> decode -> what carries the
answer (gain, attention, claims) -> checked quotes.
"""

import json
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial

from engine.api import Context, Engine, Piece
from mm1cli.answering import abstention, json_schema
from mm1cli.answering.context_source import ContextSource, Uncached
from mm1cli.answering.generation import Generator, thinking_tokens
from mm1cli.answering.in_order import in_order
from mm1cli.answering.prompt import (
    Focus,
    PromptMap,
    as_prompt_text,
    head_ids,
    joined,
    layout,
    messages,
    prompt_map,
)
from mm1cli.errors import BudgetError
from mm1cli.grounding import citations
from mm1cli.grounding.attribution import Attributed, attribute
from mm1cli.grounding.claims import Candidate, claims
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed
from mm1cli.prompts import prompt
from mm1cli.result import (
    Answer,
    Citation,
    CitationKind,
    CitationStatus,
    Claim,
    PassageRead,
    Usage,
    unverified_note,
)
from mm1cli.retrieval.passages import with_heading
from mm1cli.retrieval.retriever import Evidence, Retriever
from mm1cli.settings import Settings
from mm1cli.sink import Sink

NUM_QUOTES = 3  # pieces of evidence shown


@dataclass(frozen=True, slots=True)
class _Read:
    """A context that ends where the answer begins, how much of it was there, what is in it."""

    context: Context
    reused_tokens: int
    parts: list[PassageRead]
    laid: PromptMap


class Answerer:
    """Answers questions about one corpus. What does not depend on the question is done once."""

    def __init__(
        self,
        engine: Engine,
        packed: Packed,
        plan: ReadingPlan,
        settings: Settings,
        sink: Sink,
        source: ContextSource | None = None,
        quotable: QuoteIndex | None = None,
        finder: Retriever | None = None,
        num_quotes: int = NUM_QUOTES,
    ) -> None:
        """`source` is where the context of the documents comes from; None reads them. `quotable`
        is what may be quoted from them, and `finder` finds evidence in them, if they are at hand
        already.
        """
        self._engine, self._packed, self._plan = engine, packed, plan
        self._settings, self._sink = settings, sink
        self._focus = Focus.of(settings.focus)
        self._finder = finder or Retriever(engine, packed.corpus)
        self._num_quotes = num_quotes
        self._quotable = quotable or QuoteIndex(packed.corpus)
        self._documents = source or Uncached(engine)
        self._shared: Context | None = None  # the whole corpus, read once
        self._was_there = 0  # tokens of it that the next question need not have read
        self._schema = json_schema.load(settings.schema) if settings.schema else None
        self._grammar = engine.grammar(self._schema) if self._schema is not None else None
        if self._grammar is not None:
            # Too few tokens for any answer: told before the reading, not after it.
            self._grammar.check_room(settings.max_tokens)
        self._generator = self._generator_to(sink)

    def _generator_to(self, sink: Sink) -> Generator:
        return Generator(
            self._engine,
            self._settings,
            on_token=sink.token,
            on_thinking=sink.thinking,
            on_progress=sink.progress,
            quotable=lambda: self._quotable.suffixes,
        )

    def answers(self, questions: Sequence[str]) -> list[Answer]:
        """An answer to each question, told in their order.

        Where the engine prefers batches they are written at the same time, so that weights are
        read once for all of them; each is what it is alone, and its times are those of all.
        """
        if not self._engine.capabilities.prefers_batches or len(questions) == 1:
            found = []
            for index, question in enumerate(questions):
                self._sink.question(question, index, len(questions))
                found.append(self.answer(question))
            return found
        if self._plan is ReadingPlan.WHOLE:
            self._read_documents()
        turns_of = in_order(self._sink, questions)
        works = []
        for question, turn in zip(questions, turns_of, strict=True):
            works.append(partial(self._with_sink(turn).answer, question))
            self._was_there = len(self._shared or ())
        return self._engine.run_shared(works, self._most_tokens(questions), self._shared)

    def _most_tokens(self, questions: Sequence[str]) -> int:
        """What a question and its answer add to what all share."""
        tokenizer = self._engine.tokenizer
        read = self._finder.most_tokens(self._focus.top_k) + len(head_ids(tokenizer))
        asked = (json_schema.question_with_schema(question, self._schema) for question in questions)
        most = read + max(len(tokenizer.encode(text)) for text in asked) + self._answer_tokens
        return min(most, self._limit)

    def _with_sink(self, sink: Sink) -> "Answerer":
        """This reader for one question, whose answer `sink` is told."""
        twin = copy(self)
        twin._sink, twin._generator = sink, self._generator_to(sink)
        return twin

    def answer(self, question: str) -> Answer:
        """Streams one answer and its citations to the sink, and returns it whole."""
        began, reading_before = time.perf_counter(), self._engine.io_stats
        asked = json_schema.question_with_schema(question, self._schema)
        evidence = self._finder.find(question, self._sink.progress, self._focus.top_k)
        # What must follow a schema is written in any case: a refusal would not parse.
        is_found = (
            self._grammar is not None
            or self._settings.always_answer
            or abstention.is_answerable(evidence)
        )
        prefill_began = time.perf_counter()
        if self._plan is ReadingPlan.WHOLE:
            read = self._read_whole(asked, evidence)
        else:
            read = self._read_focus(asked, evidence)
        prefill_s = time.perf_counter() - prefill_began
        context_tokens = len(read.context)
        read_tokens = sum(part.tokens for part in read.parts)
        before = read.context.fork()

        decode_began = time.perf_counter()
        if is_found:
            written = self._generator.generate(read.context, self._grammar)
            text, said, words = written.text, written.text, ""
            is_found = not abstention.is_refusal(text)
        else:
            num_documents = len({part.path for part in read.parts})
            text = abstention.not_found(num_documents, read_tokens, self._packed.num_tokens)
            self._sink.token(text)
            written = self._generator.generate(read.context, is_silent=True)
            said, words = "", written.text  # what is withheld is no answer to be checked
        decode_s = time.perf_counter() - decode_began

        if self._grammar is not None and text:
            said = json_schema.values_as_text(text)
        pieces = evidence.pieces[: self._num_quotes]
        tokenizer = self._engine.tokenizer
        places = [read.laid.tokens(one.passage, self._packed, tokenizer) for one in pieces]
        supported = attribute(
            self._engine, before, question, words or said, written.token_ids, pieces, places
        )
        cited, unverified = _check(said, supported, self._quotable)
        if self._grammar is not None:
            unverified += json_schema.unknown_dates(text, self._packed.corpus)
        for citation in cited:
            self._sink.citation(citation)
        if words:
            self._sink.note(f"the model's own words, which no passage bears out: {words.strip()}")
        if unverified:
            self._sink.note(unverified_note(unverified))
        reading = self._engine.io_stats
        if reading is not None and reading_before is not None:
            reading = reading.since(reading_before)
        answer = Answer(
            question=question,
            text=text,
            citations=tuple(cited),
            usage=Usage(
                corpus_tokens=self._packed.num_tokens,
                read_tokens=read_tokens,
                context_tokens=context_tokens,
                reused_tokens=read.reused_tokens,
                output_tokens=written.num_thinking_tokens + len(written.token_ids),
                prefill_s=prefill_s,
                decode_s=decode_s,
                total_s=time.perf_counter() - began,
                drafted_tokens=written.num_drafted,
                accepted_tokens=written.num_accepted,
                weights_read_bytes=None if reading is None else reading.read_bytes,
                weights_hit_rate=None if reading is None else reading.hit_rate,
            ),
            plan=self._plan,
            stop_reason=written.stop_reason,
            seed=self._settings.seed,
            model_fingerprint=self._engine.fingerprint,
            read=tuple(read.parts),
            unverified=tuple(unverified),
            claims=_claims(text, cited, supported) if is_found and self._grammar is None else (),
            is_found=is_found,
            value=json.loads(text) if self._grammar is not None and text else None,
            thinking=written.thinking,
            words=words,
        )
        self._sink.answer(answer)
        return answer

    def _read_whole(self, question: str, evidence: Evidence) -> "_Read":
        """Everything: the corpus is read once and forked for each question."""
        tokenizer = self._engine.tokenizer
        num_head = len(head_ids(tokenizer))
        context = self._read_documents().fork()
        reused, self._was_there = self._was_there, len(context)
        context.end_of_documents()
        again = self._focus.repeated_evidence(evidence, are_passages_read=False)
        room = self._limit - len(context) - self._answer_tokens
        while True:
            pieces = tokenizer.chat(messages([], question, joined(again)))
            pieces = pieces[pieces.index(Piece(prompt("documents_end"), False)) :]
            laid = prompt_map(tokenizer, pieces, len(context), num_head)
            token_ids = [i for piece in pieces for i in tokenizer.encode_piece(piece)]
            if len(token_ids) <= room or not again:
                break
            again = again[1:]  # the best stand last
        if len(again) < (self._focus.num_passages or 0):
            self._sink.note(f"the context has room to read {len(again)} passages again, not more")
        context.extend(token_ids)
        documents_read = zip(self._packed.corpus.documents, self._packed.token_ids, strict=True)
        parts = [PassageRead(document.path, None, len(ids)) for document, ids in documents_read]
        return _Read(context, reused, parts, laid)

    def _read_documents(self) -> Context:
        """The whole corpus, and how much of it was there for the first question."""
        if self._shared is None:
            token_ids, ends = layout(head_ids(self._engine.tokenizer), self._packed)
            found = self._documents.get(token_ids, ends, self._on_prefill)
            self._shared, self._was_there = found.context, found.reused_tokens
        return self._shared

    def _read_focus(self, question: str, evidence: Evidence) -> "_Read":
        """The best passages, as many as the context holds, the best one next to the question."""
        tokenizer = self._engine.tokenizer
        best = [one.passage for one in evidence.passages[: self._focus.top_k]]
        again = self._focus.repeated_evidence(evidence, are_passages_read=True)
        for count in range(len(best), 0, -1):
            texts = [as_prompt_text(passage) for passage in reversed(best[:count])]
            pieces = tokenizer.chat(messages(texts, question, joined(again)))
            token_ids = [i for piece in pieces for i in tokenizer.encode_piece(piece)]
            if len(token_ids) + self._answer_tokens <= self._limit:
                break
        else:
            raise BudgetError(
                f"one passage, the question and {self._settings.max_tokens:,} tokens of answer "
                f"need more than the context of {self._limit:,} tokens; lower --max-tokens"
            )
        context = self._engine.new_context()
        context.extend(token_ids, self._on_prefill)
        parts = [
            PassageRead(p.document.path, p.locator, len(tokenizer.encode(p.text)))
            for p in best[:count]
        ]
        return _Read(context, 0, parts, prompt_map(tokenizer, pieces, 0, None))

    @property
    def _answer_tokens(self) -> int:
        thinking = thinking_tokens(self._engine.tokenizer, self._settings)
        return self._settings.max_tokens + thinking

    @property
    def _limit(self) -> int:
        return self._settings.context_tokens or self._engine.max_positions

    def _on_prefill(self, done: int, total: int) -> None:
        self._sink.progress("prefill", done, total, "tokens")


def _check(
    text: str, evidence: Sequence[Attributed], quotable: QuoteIndex
) -> tuple[list[Citation], list[str]]:
    """Evidence and quotations as citations, each found in the source; and what is not there."""
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
    unverified += [n for n in citations.numbers(text) if not quotable.has_number(n)]
    return cited, unverified


def _claims(
    text: str, cited: Sequence[Citation], evidence: Sequence[Attributed]
) -> tuple[Claim, ...]:
    """Evidence stands first among the citations, in the same order."""
    pieces = [
        Candidate(citation.number, with_heading(one.passage), one.gain)
        for citation, one in zip(cited, evidence, strict=False)
    ]
    pieces += [Candidate(citation.number, citation.text) for citation in cited[len(evidence) :]]
    return claims(text, pieces)
