"""The one path from (corpus, question) to `Answer`.

reading plan -> evidence (bm25, then the model's judgement) -> context -> decode -> checked quotes.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.engine import Engine, Piece, Tokenizer, Turn
from mm1cli import citations, schema
from mm1cli.errors import BudgetError
from mm1cli.evidence import Index, Judge, Ranked, apart
from mm1cli.ingest.pack import Packed
from mm1cli.output.sink import Sink
from mm1cli.passages import Passage, passages
from mm1cli.preread import Fresh, Source, layout
from mm1cli.prompts import prompt
from mm1cli.result import Answer, Citation, CitationStatus, PassageRead, ReadingPlan, Usage
from mm1cli.settings import Settings
from mm1cli.writing import Writer, thinking_tokens

if TYPE_CHECKING:
    from engine.context import Context

NUM_CANDIDATES = 8  # passages the model judges
NUM_PASSAGES = 3  # of these, passages that are read by focus
READ_AGAIN_TOKENS = 512  # set aside for it
NUM_QUOTES = 3  # pieces of evidence shown
NUM_READ_AGAIN = 2  # of these, read once more beside the question
QUOTE_SENTENCES = 2  # "It cost 48 million." needs the sentence before it


def frame_tokens(tokenizer: Tokenizer, questions: Sequence[str]) -> int:
    """Tokens of a prompt beside its documents, for the longest question, evidence included."""
    turns = (_turns([], question, []) for question in questions or [""])
    return max(len(tokenizer.encode_chat(turn)) for turn in turns) + READ_AGAIN_TOKENS


def head_ids(tokenizer: Tokenizer) -> list[int]:
    """The tokens of a prompt before its documents, whatever the question."""
    pieces = tokenizer.chat(_turns([], "", []))
    before = pieces[: pieces.index(Piece(prompt("documents_end"), False))]
    return [i for piece in before for i in tokenizer.encode_piece(piece)]


@dataclass(frozen=True, slots=True)
class _Read:
    """A context that ends where the answer begins, how much of it was there, what is in it."""

    context: "Context"
    reused_tokens: int
    parts: list[PassageRead]


class Reader:
    """Answers questions about one corpus. What does not depend on the question is done once."""

    def __init__(
        self,
        engine: Engine,
        packed: Packed,
        plan: ReadingPlan,
        settings: Settings,
        sink: Sink,
        source: Source | None = None,
    ) -> None:
        """`source` is where the context of the documents comes from; None reads them."""
        self._engine, self._packed, self._plan = engine, packed, plan
        self._settings, self._sink = settings, sink
        self._index = Index(passages(packed.corpus))
        self._source = citations.Source(packed.corpus)
        self._judge = Judge(engine)
        self._documents = source or Fresh(engine)
        self._shared: Context | None = None  # the whole corpus, read once
        self._schema = schema.load(settings.schema) if settings.schema else None
        self._grammar = engine.grammar(self._schema) if self._schema is not None else None
        if self._grammar is not None:
            # Too few tokens for any answer: told before the reading, not after it.
            engine.json_constraint(self._grammar).begin(settings.max_tokens)
        self._writer = Writer(
            engine,
            settings,
            on_token=sink.token,
            on_thinking=sink.thinking,
            on_progress=sink.progress,
        )

    def answer(self, question: str) -> Answer:
        """Streams one answer and its citations to the sink, and returns it whole."""
        began = time.perf_counter()
        asked = schema.asked(question, self._schema)
        ranked = self._judge.rank(
            question,
            self._index.search(question, NUM_CANDIDATES),
            lambda done, total: self._sink.progress("judging passages", done, total, "passages"),
        )
        best = [one.passage for one in ranked[:NUM_PASSAGES]]
        evidence = self._evidence(question, best)
        prefill_began = time.perf_counter()
        if self._plan is ReadingPlan.WHOLE:
            read = self._read_whole(asked, evidence)
        else:
            read = self._read_focus(asked, best, evidence)
        prefill_s = time.perf_counter() - prefill_began
        context_tokens = len(read.context)

        decode_began = time.perf_counter()
        written = self._writer.write(read.context, self._grammar)
        text = written.text
        decode_s = time.perf_counter() - decode_began

        said = schema.said(text) if self._grammar is not None and text else text
        cited, unverified = _check(said, evidence, self._source)
        if said is not text:
            unverified += schema.unknown_dates(text, self._packed.corpus)
        for citation in cited:
            self._sink.citation(citation)
        if unverified:
            self._sink.note(f"the answer says, but no document does: {in_quotes(unverified)}")
        answer = Answer(
            question=question,
            text=text,
            citations=tuple(cited),
            usage=Usage(
                corpus_tokens=self._packed.num_tokens,
                read_tokens=sum(part.tokens for part in read.parts),
                context_tokens=context_tokens,
                reused_tokens=read.reused_tokens,
                output_tokens=written.num_thinking_tokens + len(written.token_ids),
                prefill_s=prefill_s,
                decode_s=decode_s,
                total_s=time.perf_counter() - began,
            ),
            plan=self._plan,
            stop_reason=written.stop_reason,
            seed=self._settings.seed,
            model_fingerprint=self._engine.fingerprint,
            read=tuple(read.parts),
            unverified=tuple(unverified),
            value=json.loads(text) if self._grammar is not None and text else None,
            thinking=written.thinking,
        )
        self._sink.answer(answer)
        return answer

    def _evidence(self, question: str, best: Sequence[Passage]) -> list[Ranked]:
        spans = [span for passage in best for span in passage.spans(QUOTE_SENTENCES)]
        ranked = self._judge.rank(
            question,
            spans,
            lambda done, total: self._sink.progress("finding evidence", done, total, "quotes"),
        )
        return apart(ranked, NUM_QUOTES)

    def _read_whole(self, question: str, evidence: Sequence[Ranked]) -> "_Read":
        """Everything: the corpus is read once and forked for each question."""
        tokenizer = self._engine.tokenizer
        pieces = tokenizer.chat(_turns([], question, evidence))
        at = pieces.index(Piece(prompt("documents_end"), False))
        reused = len(self._shared) if self._shared is not None else 0
        if self._shared is None:
            token_ids, ends = layout(head_ids(tokenizer), self._packed)
            found = self._documents.get(token_ids, ends, self._on_prefill)
            self._shared, reused = found.context, found.reused_tokens
        context = self._shared.fork()
        context.attend_globally()
        context.extend([i for piece in pieces[at:] for i in tokenizer.encode_piece(piece)])
        documents_read = zip(self._packed.corpus.documents, self._packed.token_ids, strict=True)
        parts = [PassageRead(document.path, None, len(ids)) for document, ids in documents_read]
        return _Read(context, reused, parts)

    def _read_focus(
        self, question: str, best: Sequence[Passage], evidence: Sequence[Ranked]
    ) -> "_Read":
        """The best passages, as many as the context holds, the best one next to the question."""
        tokenizer = self._engine.tokenizer
        limit = self._settings.context_tokens or self._engine.config.max_positions
        for count in range(len(best), 0, -1):
            texts = [_as_read(passage) for passage in reversed(best[:count])]
            token_ids = tokenizer.encode_chat(_turns(texts, question, evidence))
            answer_tokens = self._settings.max_tokens + thinking_tokens(tokenizer, self._settings)
            if len(token_ids) + answer_tokens <= limit:
                break
        else:
            raise BudgetError(
                f"one passage, the question and {self._settings.max_tokens:,} tokens of answer "
                f"need more than the context of {limit:,} tokens; lower --max-tokens"
            )
        context = self._engine.new_context()
        context.extend(token_ids, self._on_prefill)
        parts = [
            PassageRead(p.document.path, p.locator, len(tokenizer.encode(p.text)))
            for p in best[:count]
        ]
        return _Read(context, 0, parts)

    def _on_prefill(self, done: int, total: int) -> None:
        self._sink.progress("prefill", done, total, "tokens")


def in_quotes(claims: Sequence[str]) -> str:
    return ", ".join(f"“{claim}”" for claim in claims)


def _turns(documents: Sequence[str], question: str, evidence: Sequence[Ranked]) -> list[Turn]:
    """The prompt. Evidence is read once more, close to the question: far text fades."""
    again = "\n".join(one.passage.text for one in reversed(evidence[:NUM_READ_AGAIN]))
    after = (prompt("documents_end"), again, prompt("question"), question)
    return [Turn("system", (prompt("system"),)), Turn("user", (*documents, *after))]


def _as_read(passage: Passage) -> str:
    return f"{passage.document.path}, {passage.locator}:\n{passage.text}\n\n"


def _check(
    text: str, evidence: Sequence[Ranked], source: citations.Source
) -> tuple[list[Citation], list[str]]:
    """Evidence and quotations as citations, each found in the source; and what is not there."""
    cited: list[Citation] = []

    def cite(passage: Passage | citations.Found, status: CitationStatus, score: float) -> None:
        number = len(cited) + 1
        path, locator = passage.document.path, passage.locator
        cited.append(Citation(number, path, locator, passage.text, status, score))

    for one in evidence:
        cite(one.passage, CitationStatus.EXACT, one.score)
    unverified = []
    for quote in citations.quotations(text):
        if found := source.find(quote):
            cite(found, found.status, 0.0)
        else:
            unverified.append(quote)
    unverified += [n for n in citations.numbers(text) if not source.has_number(n)]
    return cited, unverified
