"""From a template to an `Answer` with a table in it: rows are printed as they are filled."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from engine.api import Engine, Turn
from mm1cli.answering.check import check
from mm1cli.answering.context_source import ContextSource
from mm1cli.answering.meter import Meter
from mm1cli.grounding.dates import Date, dates
from mm1cli.grounding.facts import Facts
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed
from mm1cli.result import Answer, PassageRead
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import Passage, Ranked, passages, with_heading
from mm1cli.retrieval.rerank import Reranker
from mm1cli.retrieval.retriever import Evidence
from mm1cli.settings import Settings
from mm1cli.sink import Sink
from mm1cli.tables import contradictions, markdown
from mm1cli.tables.cell import CELL_TOKENS, CellAnswer, CellStages, DocumentQA
from mm1cli.tables.markdown import Cell, Row, Sources
from mm1cli.tables.templates import Template

_FEWEST_JUDGED = 4  # times the rows a table may have: so many candidates the model sees
SUMMARY_TOKENS = 160


class TableFiller:
    """Fills the table of one template from one corpus."""

    def __init__(
        self,
        engine: Engine,
        packed: Packed,
        plan: ReadingPlan,
        settings: Settings,
        sink: Sink,
        source: ContextSource | None = None,
    ) -> None:
        """`plan` is how each document is read for its cells, `source` where its context comes from;
        None reads it."""
        self._engine, self._packed, self._plan = engine, packed, plan
        self._settings, self._sink, self._source = settings, sink, source
        self._meter = Meter(engine)
        self._sources = Sources()
        self._text = ""
        self._columns: list[str] = []
        self._rows: list[Row] = []
        self._read: dict[tuple[str, int, int], PassageRead] = {}
        self._unverified: list[str] = []

    def answer(self, template: Template, asks: Sequence[str]) -> Answer:
        """Streams the table and its citations to the sink, and returns it whole."""
        fill: dict[str, Callable[[Template, Sequence[str]], None]] = {
            "table": self._table,
            "summary": self._summary,
            "timeline": self._timeline,
            "contradictions": self._contradictions,
        }
        fill[template.kind](template, asks)
        for citation in self._sources.citations:
            self._sink.citation(citation)
        read = tuple(self._read.values())
        answer = Answer(
            question=" / ".join([template.name, *asks]),
            text=self._text,
            citations=tuple(self._sources.citations),
            usage=self._meter.usage(self._packed.num_tokens, sum(part.tokens for part in read)),
            plan=self._plan,
            stop_reason="end",
            seed=self._settings.seed,
            model_fingerprint=self._engine.fingerprint,
            read=read,
            unverified=tuple(self._unverified),
            is_found=bool(self._sources.citations),
            value={"template": template.name} | markdown.value(self._columns, self._rows),
        )
        self._sink.answer(answer)
        return answer

    def _table(self, template: Template, asks: Sequence[str]) -> None:
        self._by_document(template.aspects(asks), "filling the table", CELL_TOKENS)

    def _summary(self, template: Template, asks: Sequence[str]) -> None:
        said = self._by_document(template.aspects(asks), "summarising", SUMMARY_TOKENS)
        if len(said) > 1:
            self._overall(template.questions(asks)[0], said)

    def _by_document(
        self, aspects: Mapping[str, str], stage: str, max_tokens: int
    ) -> list[Passage]:
        """A row for each document, a column for each aspect; returns the sentences cited."""
        stages = self._stages(self._plan, self._settings, max_tokens)
        self._begin(["Document", *aspects])
        documents = [one for one in self._packed.apart() if one.corpus.documents[0].blocks]
        said: list[Passage] = []
        for number, packed in enumerate(documents):
            document = DocumentQA(stages, packed)
            cells = []
            for at, question in enumerate(aspects.values()):
                answered = document.ask(question)
                cells.append(self._cell(answered))
                said += [answered.best] if answered.best else []
                done = number * len(aspects) + at + 1
                self._progress(stage, done, len(documents) * len(aspects))
            document.finish()
            self._note_document(packed)
            self._add([Cell(packed.corpus.documents[0].path), *cells])
        return said

    def _stages(self, plan: ReadingPlan, settings: Settings, max_tokens: int) -> CellStages:
        engine, sink, source = self._engine, self._sink, self._source
        return CellStages(engine, plan, settings, sink, self._meter, source, max_tokens)

    def _overall(self, question: str, said: Sequence[Passage]) -> None:
        """What all say together, from the sentence of each; as many as the context holds."""
        tokenizer, limit = self._engine.tokenizer, self._limit() // 2
        kept: list[Ranked] = []
        for passage in said:
            limit -= len(tokenizer.encode(passage.text)) + 32
            if limit > 0:
                kept.insert(0, Ranked(passage, 0.0))  # the first ones stand first in the prompt
        if not kept:
            return
        settings = replace(self._settings, focus=str(len(kept)))
        stages = self._stages(ReadingPlan.RETRIEVAL, settings, SUMMARY_TOKENS)
        read = stages.prefiller(self._packed).prefill(question, Evidence(tuple(kept), (), 0.0))
        quotable = QuoteIndex(self._packed.corpus)
        if text := stages.generate(read, quotable):
            cited, unverified = check(
                text, (), quotable, lambda: Facts.of(with_heading(one.passage) for one in kept)
            )
            self._unverified += unverified
            marks = "".join(f" [{self._sources.add(one)}]" for one in cited)
            self._say(f"\n{text}{marks}\n")

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
        self._note_read(unique[:most])
        return Reranker(self._engine).rank(
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
        began, context = time.perf_counter(), self._engine.new_context()
        context.extend(tokenizer.encode_chat([Turn("user", (told, question))]))
        self._meter.note_prefill(len(context), 0, time.perf_counter() - began)
        yes, no = (sum(context.score(tokenizer.encode(word)).tolist()) for word in ("Yes", "No"))
        return 1 / (1 + math.exp(min(no - yes, 700)))

    def _note_read(self, shown: Sequence[Passage]) -> None:
        """What the model was shown, each place once however often it was."""
        for one in shown:
            num_tokens = len(self._engine.tokenizer.encode(one.text))
            part = PassageRead(one.document.path, one.locator, num_tokens)
            self._read[part.path, id(one.block), one.start] = part

    def _note_document(self, packed: Packed) -> None:
        if self._plan is ReadingPlan.WHOLE:
            path = packed.corpus.documents[0].path
            self._read[path, 0, 0] = PassageRead(path, None, packed.num_tokens)

    def _cell(self, answered: CellAnswer) -> Cell:
        if self._plan is not ReadingPlan.WHOLE:
            self._note_read(answered.judged)
        if not answered.citations:
            return Cell("", is_found=False)
        numbers = dict.fromkeys(self._sources.add(citation) for citation in answered.citations)
        return Cell(answered.text, tuple(numbers))

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


def _sentences(packed: Packed) -> Iterator[Passage]:
    for passage in passages(packed.corpus):
        yield from passage.spans(1)
