"""Asks the model about each chunk of what is reviewed, and returns what can be checked.

Where the repository fits the context it is read once and forked for each chunk; else each chunk is
read behind the repository's map and the heads of what its file imports. A change is read whole
before its chunks, in both cases.
"""

import json
from collections import Counter
from collections.abc import Sequence

from engine.api import Context, Engine, RoomError, Tokenizer
from mm1cli.answering.context_source import ContextSource
from mm1cli.answering.generation import Generator, thinking_tokens
from mm1cli.answering.prompt import Prompt, lay_out
from mm1cli.code import RepoIndex, model_text
from mm1cli.errors import BudgetError
from mm1cli.ingest.corpus import Document
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed
from mm1cli.prompts import prompt
from mm1cli.review import chunks
from mm1cli.review.changes import Change
from mm1cli.review.checks import checked, written
from mm1cli.review.finding import Category, Finding, Rejection, ReviewCall, schema
from mm1cli.review.locate import FileText
from mm1cli.settings import Settings
from mm1cli.sink import Sink
from mm1cli.surprisal import SurprisalMap

CHUNK_TOKENS = 2048
_CHUNK_SHARE, _MAP_SHARE, _HEADS_SHARE = 8, 16, 16  # of the context
_MAP_TOKENS = 4096
_FINDINGS_PER_CHUNK = 8
_HINTS = 10  # improbable lines named for a chunk
_HINT_TOKENS = 128
_SURPRISING_SHARE = 0.05


class PromptBudget:
    """The tokens a call needs beside documents. Raises BudgetError, with the sum, where the change
    leaves no room for it."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        settings: Settings,
        limit: int,
        categories: Sequence[Category],
        facts: RepoIndex,
        change: Change | None,
    ) -> None:
        def count(text: str) -> int:
            return len(tokenizer.encode(text))

        self.schema = schema(categories, _FINDINGS_PER_CHUNK)
        self.instruction = _instruction(categories, self.schema, is_change=change is not None)
        self.chunk_tokens = min(CHUNK_TOKENS, max(limit // _CHUNK_SHARE, 64))
        self.heads_tokens = limit // _HEADS_SHARE
        self.map = model_text(facts, min(_MAP_TOKENS, limit // _MAP_SHARE), count)
        self.change = "" if change is None else f"\n{change.text}"
        answer = settings.max_tokens + thinking_tokens(tokenizer, settings)
        prompt_tokens = len(lay_out(tokenizer, (), self.instruction).token_ids)
        chunk_tokens = self.chunk_tokens + self.heads_tokens + _HINT_TOKENS
        beside = prompt_tokens + count(self.map) + chunk_tokens + answer
        self.change_tokens = count(self.change)
        self.num_tokens = beside + self.change_tokens
        if self.num_tokens >= limit:
            told = f"the change has {self.change_tokens:,} tokens; " if change is not None else ""
            parts = "review it in parts, with --paths, --exclude or a smaller diff, or "
            advice = parts if told else ""
            raise BudgetError(
                f"{told}with {prompt_tokens + count(self.map):,} of prompt, {chunk_tokens:,} of "
                f"code shown again and {answer:,} of answer that is {self.num_tokens:,}, more than "
                f"the context of {limit:,} tokens; {advice}take a model with a longer context"
            )


class Reviewer:
    def __init__(
        self,
        engine: Engine,
        packed: Packed,
        plan: ReadingPlan,
        frame: PromptBudget,
        facts: RepoIndex,
        change: Change | None,
        settings: Settings,
        sink: Sink,
        source: ContextSource,
    ) -> None:
        self._engine, self._packed, self._plan, self._frame = engine, packed, plan, frame
        self._facts, self._change, self._sink, self._source = facts, change, sink, source
        self._grammar = engine.grammar(frame.schema)
        self._grammar.check_room(settings.max_tokens)
        self._generator = Generator(
            engine,
            settings,
            on_token=lambda _: None,
            on_thinking=sink.thinking,
            on_progress=sink.progress,
        )
        self._documents = {document.path: document for document in packed.corpus.documents}
        self.rejected: Counter[Rejection] = Counter()
        self.calls: list[ReviewCall] = []

    def review(
        self, documents: Sequence[Document], surprise: SurprisalMap | None = None
    ) -> list[Finding]:
        """The findings in `documents`, each once, the worst first."""
        tokenizer = self._engine.tokenizer
        todo = [
            chunk
            for document in documents
            for chunk in chunks.chunks(
                document, self._facts, self._change, tokenizer, self._frame.chunk_tokens
            )
        ]
        if not todo:
            return []
        base = self._base()
        findings: dict[tuple[str, int, int, str], Finding] = {}
        texts: dict[str, FileText] = {}
        for done, chunk in enumerate(todo):
            self._sink.progress("reviewing", done, len(todo), "chunks")
            path = chunk.document.path
            if path not in texts:
                texts = {path: FileText(chunk.document)}
            for raw in written(self._said(base, chunk, surprise)):
                finding = checked(raw, path, texts[path], self._change)
                if isinstance(finding, Rejection):
                    self.rejected[finding] += 1
                    continue
                key = (path, finding.first, finding.last, finding.category.value)
                if key in findings:
                    self.rejected[Rejection.REPEATED] += 1
                    continue
                findings[key] = finding
        self._sink.progress("reviewing", len(todo), len(todo), "chunks")
        return sorted(findings.values(), key=lambda finding: finding.order)

    def _base(self) -> Context:
        """A context that has read all that the chunks share."""
        laid, num_shared = self._prompt(self._frame.instruction)
        shared, _ = laid.rest.split(num_shared)
        if self._plan is ReadingPlan.WHOLE:
            found = self._source.get(laid.prefix, laid.document_ends, self._on_prefill)
            context = found.context.fork()
            context.end_of_documents()
            context.extend(shared)
            return context
        context = self._engine.new_context()
        context.extend([*laid.prefix, *shared], self._on_prefill)
        return context

    def _prompt(self, *last: str) -> tuple[Prompt, int]:
        """With the number of texts behind the documents that all chunks share."""
        documents = self._packed if self._plan is ReadingPlan.WHOLE else ()
        shared = (self._frame.map, self._frame.change)
        laid = lay_out(self._engine.tokenizer, documents, *shared, *last)
        return laid, 1 + sum(map(bool, shared))

    def _said(self, base: Context, chunk: chunks.Chunk, surprise: SurprisalMap | None) -> str:
        """Nothing, with a note, where an engine that does not end what it begins was cut."""
        try:
            return self._asked(base, chunk, surprise)
        except RoomError as error:
            if self._engine.capabilities.ends_grammars:
                raise
            where = f"{chunk.document.path}, lines {chunk.first}-{chunk.last}"
            self._sink.note(f"{where} has no findings: {error}")
            return ""

    def _asked(self, base: Context, chunk: chunks.Chunk, surprise: SurprisalMap | None) -> str:
        tokenizer = self._engine.tokenizer
        path = chunk.document.path
        heads = ""
        if self._plan is not ReadingPlan.WHOLE:
            heads = chunks.imported_heads(
                path, self._facts, self._documents, tokenizer, self._frame.heads_tokens
            )
        title = f"\nLines {chunk.first}-{chunk.last} of {path}:\n"
        hint = "" if surprise is None else _hint(surprise, chunk)
        last = (heads, title, chunk.text, hint, self._frame.instruction)
        laid, num_shared = self._prompt(*last)
        _, ids = laid.rest.split(num_shared)
        context = base.fork()
        context.extend(ids)
        self.calls.append(ReviewCall(path, chunk.first, chunk.last, len(ids)))
        return self._generator.generate(context, self._grammar).text

    def _on_prefill(self, done: int, total: int) -> None:
        self._sink.progress("prefill", done, total, "tokens")


def _instruction(
    categories: Sequence[Category], answer: dict[str, object], *, is_change: bool
) -> str:
    about = dict(line.split(": ", 1) for line in prompt("review_focus").splitlines())
    lines = [f"{category}: {about[category.value]}" for category in categories]
    only = "Only what the change (lines marked +) brings counts.\n" if is_change else ""
    return (
        f"\n{prompt('review')}\n{only}"
        + "".join(f"- {line}\n" for line in lines)
        + f"{prompt('schema')} {json.dumps(answer)}"
    )


def _hint(surprise: SurprisalMap, chunk: chunks.Chunk) -> str:
    heat = surprise.heat(chunk.document.path)
    hot = [
        (share, line)
        for line, share in heat.items()
        if chunk.first <= line <= chunk.last and share >= 1 - _SURPRISING_SHARE
    ]
    if not hot:
        return ""
    lines = sorted(line for _, line in sorted(hot, reverse=True)[:_HINTS])
    return f"\nLines a language model finds improbable here: {', '.join(map(str, lines))}\n"
