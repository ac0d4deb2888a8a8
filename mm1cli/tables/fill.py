"""From a template to an `Answer` with a table in it: rows are printed as they are filled."""

import math
import time
from collections.abc import Callable, Iterator, Sequence

from engine.api import Engine, Turn
from mm1cli.grounding.dates import Date, dates
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed
from mm1cli.result import Answer, PassageRead, Usage, unverified_note
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import Passage, Ranked, passages
from mm1cli.retrieval.rerank import Reranker
from mm1cli.settings import Settings
from mm1cli.sink import Sink
from mm1cli.tables import contradictions, markdown
from mm1cli.tables.cell import CellAnswer, DocumentQA
from mm1cli.tables.markdown import Cell, Row, Sources
from mm1cli.tables.templates import Template

_FEWEST_JUDGED = 4  # times the rows a table may have: so many candidates the model sees
_SUMMARY_TOKENS = 160


class TableFiller:
    """Fills the table of one template from one corpus."""

    def __init__(self, engine: Engine, packed: Packed, settings: Settings, sink: Sink) -> None:
        self._engine, self._packed, self._settings, self._sink = engine, packed, settings, sink
        self._interview = DocumentQA(engine, settings)
        self._documents = [document for document in packed.corpus.documents if document.blocks]
        self._sources = Sources()
        self._text = ""
        self._columns: list[str] = []
        self._rows: list[Row] = []
        self._read: dict[tuple[str, int, int], PassageRead] = {}
        self._num_context = self._num_written = 0
        self._unverified: list[str] = []

    def answer(self, template: Template, asks: Sequence[str]) -> Answer:
        """Streams the table to the sink, and returns it whole."""
        began = time.perf_counter()
        fill: dict[str, Callable[[Template, Sequence[str]], None]] = {
            "table": self._table,
            "summary": self._summary,
            "timeline": self._timeline,
            "contradictions": self._contradictions,
        }
        fill[template.kind](template, asks)
        for line in self._sources.markdown():
            self._say(line)
        if self._unverified:
            self._sink.note(unverified_note(self._unverified))
        answer = Answer(
            question=" / ".join([template.name, *asks]),
            text=self._text,
            citations=tuple(self._sources.citations),
            usage=self._usage(time.perf_counter() - began),
            plan=ReadingPlan.RETRIEVAL,
            stop_reason="end",
            seed=self._settings.seed,
            model_fingerprint=self._engine.fingerprint,
            read=tuple(self._read.values()),
            unverified=tuple(self._unverified),
            is_found=bool(self._sources.citations),
            value={"template": template.name} | markdown.value(self._columns, self._rows),
        )
        self._sink.answer(answer)
        return answer

    def _table(self, template: Template, asks: Sequence[str]) -> None:
        aspects = template.aspects(asks)
        self._begin(["Document", *aspects])
        for number, document in enumerate(self._documents):
            cells = []
            for at, question in enumerate(aspects.values()):
                cells.append(self._cell(self._interview.ask(document, question)))
                done = number * len(aspects) + at + 1
                self._progress("filling the table", done, len(self._documents) * len(aspects))
            self._add([Cell(document.path), *cells])

    def _summary(self, template: Template, asks: Sequence[str]) -> None:
        aspects = template.aspects(asks)
        self._begin(["Document", *aspects])
        said: list[Passage] = []
        for number, document in enumerate(self._documents, 1):
            cells = []
            for question in aspects.values():
                filled = self._interview.ask(document, question, _SUMMARY_TOKENS)
                cells.append(self._cell(filled))
                said += [filled.best.passage] if filled.best else []
            self._progress("summarising", number, len(self._documents))
            self._add([Cell(document.path), *cells])
        if len(said) > 1:
            self._overall(template.questions(asks)[0], said)

    def _overall(self, question: str, said: Sequence[Passage]) -> None:
        """What all say together, from the sentence of each; as many as the context holds."""
        tokenizer, limit = self._engine.tokenizer, self._limit() // 2
        kept: list[Passage] = []
        for passage in said:
            limit -= len(tokenizer.encode(passage.text)) + 32
            if limit > 0:
                kept.append(passage)
        text, num_context, num_written = self._interview.generate(
            kept, "", question, min(_SUMMARY_TOKENS, self._settings.max_tokens)
        )
        self._num_context += num_context
        self._num_written += num_written
        if text:
            self._unverified += set.intersection(
                *(set(self._interview.unverified(document, text)) for document in self._documents)
            )
            self._say(f"\n{text}\n")

    def _timeline(self, template: Template, asks: Sequence[str]) -> None:
        sentences = list(_sentences(self._packed))
        events = [(date, one) for one in sentences for date in sorted(set(dates(one.text)))]
        question = template.questions(asks)[0]
        ranked = self._ranked(question, [one for _, one in events], template.limit, bool(asks))
        scores = {id(one.passage): one.score for one in ranked}
        chosen = [event for event in events if id(event[1]) in scores][: 10 * template.limit]
        self._begin(["Date", "Document", "What it says"])
        seen: set[tuple[Date, str]] = set()
        for date, one in sorted(chosen, key=lambda event: event[0]):
            if (date, one.text) not in seen:
                seen.add((date, one.text))
                number = self._sources.cite(one, scores[id(one)])
                path = one.document.path
                self._add([Cell(str(date)), Cell(path), Cell(one.text, (number,))])
        self._left_out(len({id(one) for _, one in events}) - len(scores), "dated sentences")

    def _ranked(
        self, question: str, found: Sequence[Passage], limit: int, is_asked: bool
    ) -> list[Ranked]:
        unique = list({id(one): one for one in found}.values())
        most = _FEWEST_JUDGED * limit
        if is_asked and len(unique) > most:
            unique = Bm25Index(unique).search(question, most)
        judge = Reranker(self._engine)
        self._note_read(unique[:most])
        return judge.rank(
            question,
            unique[:most],
            lambda done, total: self._progress("ranking dates", done, total),
        )[:limit]

    def _contradictions(self, template: Template, asks: Sequence[str]) -> None:
        sentences = list(_sentences(self._packed))
        found, num_left = contradictions.pairs(
            sentences, lambda done, total: self._progress("comparing sentences", done, total)
        )
        if num_left:
            self._sink.note(f"{num_left:,} sentences with numbers were not compared")
        most = _FEWEST_JUDGED * template.limit
        self._left_out(len(found) - most, "pairs of sentences")
        question = " ".join([template.questions([])[0], *asks])
        judged = []
        for done, pair in enumerate(found[:most], 1):
            # A model that cannot tell leaves the order to how alike they are.
            judged.append((pair.alike * self._probability(pair, question), pair))
            self._note_read((pair.one, pair.other))
            self._progress("judging pairs", done, min(len(found), most))
        judged.sort(key=lambda one: -one[0])
        self._begin(["One says", "Another says", "They differ in", "Score"])
        for score, pair in judged[: template.limit]:
            both = [
                Cell(f"{one.document.path}: {one.text}", (self._sources.cite(one, score),))
                for one in (pair.one, pair.other)
            ]
            self._add([*both, Cell(pair.differs), Cell(f"{score:.2f}")])
        if not judged:
            self._say("\nNo two documents differ where they speak of the same.\n")

    def _probability(self, pair: contradictions.Pair, question: str) -> float:
        """p(Yes) of p(Yes) and p(No)."""
        tokenizer = self._engine.tokenizer
        told = f"One: {pair.one.text}\n\nAnother: {pair.other.text}\n\n"
        context = self._engine.new_context()
        context.extend(tokenizer.encode_chat([Turn("user", (told, question))]))
        yes, no = (sum(context.score(tokenizer.encode(word)).tolist()) for word in ("Yes", "No"))
        return 1 / (1 + math.exp(min(no - yes, 700)))

    def _note_read(self, shown: Sequence[Passage]) -> None:
        """What the model was shown, each place once however often it was."""
        for one in shown:
            num_tokens = len(self._engine.tokenizer.encode(one.text))
            part = PassageRead(one.document.path, one.locator, num_tokens)
            self._read[part.path, id(one.block), one.start] = part

    def _cell(self, filled: CellAnswer) -> Cell:
        self._num_context += filled.context_tokens
        self._num_written += filled.output_tokens
        self._note_read(filled.read)
        if filled.best is None:
            return Cell("", is_found=False)
        return Cell(filled.text, (self._sources.cite(filled.best.passage, filled.best.score),))

    def _begin(self, columns: list[str]) -> None:
        self._columns = columns
        self._say(markdown.head(columns))

    def _add(self, row: Row) -> None:
        self._rows.append(row)
        self._say(markdown.line(row))

    def _say(self, text: str) -> None:
        self._text += text
        self._sink.token(text)

    def _progress(self, stage: str, done: int, total: int) -> None:
        self._sink.progress(stage, done, total, "steps")

    def _left_out(self, count: int, what: str) -> None:
        if count > 0:
            self._sink.note(f"{count:,} more {what} are not shown; `limit` in the template says so")

    def _limit(self) -> int:
        return self._settings.context_tokens or self._engine.max_positions

    def _usage(self, total_s: float) -> Usage:
        return Usage(
            corpus_tokens=self._packed.num_tokens,
            read_tokens=sum(part.tokens for part in self._read.values()),
            context_tokens=self._num_context,
            reused_tokens=0,
            output_tokens=self._num_written,
            prefill_s=0.0,
            decode_s=0.0,
            total_s=total_s,
        )


def _sentences(packed: Packed) -> Iterator[Passage]:
    for passage in passages(packed.corpus):
        yield from passage.spans(1)
