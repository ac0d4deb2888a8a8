"""One question to one document: a short text, and the sentence of that document which carries it.

The stages are those of any answer (`mm1cli.answering`), over one document: no other is in the
context, so that a cell cannot be filled from its neighbour's. Where everything fits, a document is
read whole once and forked for each question; else the passages that share words with the question
are read. A document is silent if even its best sentence makes the question no likelier than no text
at all does. What the model decodes stays only if it came to an end, says more than the question
did, mostly in words of what it read, and has no number or quotation that the document has not; else
the sentence itself fills the cell.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.api import Engine, StopReason
from mm1cli.answering import abstention
from mm1cli.answering.check import check
from mm1cli.answering.context_source import ContextSource
from mm1cli.answering.generation import Generation, Generator
from mm1cli.answering.meter import Meter
from mm1cli.answering.prefill import Prefilled, Prefiller
from mm1cli.answering.prompt import Focus
from mm1cli.answering.read_facts import ReadFacts
from mm1cli.grounding.attribution import Attributed
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed
from mm1cli.result import Citation
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import Passage, passages
from mm1cli.retrieval.rerank import Reranker
from mm1cli.retrieval.retriever import NUM_PASSAGES, Evidence
from mm1cli.settings import Settings
from mm1cli.sink import Sink

QUOTE_SENTENCES = 2
CELL_TOKENS = 48  # of the longest text in a table's cell
_WHOLE = frozenset({StopReason.END, StopReason.STOP_TEXT})
_SENTENCE = re.compile(r".+?[.!?](?=\s|$)\s*", re.DOTALL)
_WORD = re.compile(r"\w+")
_FEWEST_NEW_WORDS = 2
_LEAST_CARRIED = 0.6  # of the new words; the rest is for joining them
_STEM = 5  # letters by which forms of one word are taken for one


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """Nothing is cited, and `text` is empty, where the document is silent. The first citation is
    the sentence `best`, quotations follow. `judged` are the passages whose sentences were ranked.
    """

    text: str = ""
    citations: tuple[Citation, ...] = ()
    best: Passage | None = None
    judged: tuple[Passage, ...] = ()


class CellStages:
    """What the cells of a table share: a model, how its contexts are read, what a question needs,
    what all of it cost."""

    def __init__(
        self,
        engine: Engine,
        plan: ReadingPlan,
        settings: Settings,
        sink: Sink,
        meter: Meter,
        source: ContextSource | None = None,
        max_tokens: int = CELL_TOKENS,
    ) -> None:
        self.engine, self.plan, self.sink, self.source = engine, plan, sink, source
        max_tokens = min(max_tokens, settings.max_tokens)
        self.settings = replace(settings, max_tokens=max_tokens, think="hide")
        self.meter, self.reranker = meter, Reranker(engine)

    def prefiller(self, packed: Packed) -> Prefiller:
        return Prefiller(
            self.engine, packed, self.plan, self.settings, self.sink, self.source, beside_chars=0
        )

    def generate(self, read: Prefilled, quotable: QuoteIndex) -> str:
        """One line, whose quotations stand in what is `quotable`."""
        began = time.perf_counter()
        generator = Generator(
            self.engine,
            self.settings,
            on_token=lambda text: None,  # noqa: ARG005
            on_thinking=lambda text: None,  # noqa: ARG005
            on_progress=lambda *told: None,  # noqa: ARG005
            stop_texts=("\n",),
            quotable=lambda: quotable.suffixes,
        )
        generation = generator.generate(read.context.fork())
        self.meter.note_prefill(len(read.context), read.reused_tokens, read.seconds)
        self.meter.note_generation(generation, time.perf_counter() - began)
        return _line(generation)


class DocumentQA:
    """Asks one document, which is all of `packed`."""

    def __init__(self, stages: CellStages, packed: Packed) -> None:
        self._stages = stages
        self._index = Bm25Index(passages(packed.corpus))
        self._quotable = QuoteIndex(packed.corpus)
        self._facts = ReadFacts(packed.corpus)
        self._prefiller = stages.prefiller(packed)
        self._has_read = False

    def ask(self, question: str) -> CellAnswer:
        evidence = self._retrieve(question)
        judged = tuple(one.passage for one in evidence.passages)
        is_wanted = self._stages.settings.always_answer or abstention.is_answerable(evidence)
        if not evidence.pieces or not is_wanted:
            return CellAnswer(judged=judged)
        read = self._prefiller.prefill(question, evidence)
        self._has_read = True
        text = self._stages.generate(read, self._quotable)
        if abstention.is_refusal(text):
            return CellAnswer(judged=judged)
        best = evidence.pieces[0]
        carrier = [Attributed(best.passage, best.score, None, None)]
        cited, unverified = check(text, carrier, self._quotable, lambda: self._facts.whole)
        if unverified or not _is_carried(text, question, judged):
            text, cited = best.passage.text, cited[:1]
        return CellAnswer(text, tuple(cited), best.passage, judged)

    def finish(self) -> None:
        """Reads what the plan says is read, where every question was left without an answer."""
        began = time.perf_counter()
        if not self._has_read and (found := self._prefiller.documents()) is not None:
            seconds = time.perf_counter() - began
            self._stages.meter.note_prefill(len(found.context), found.reused_tokens, seconds)

    def _retrieve(self, question: str) -> Evidence:
        """As for any answer, but that passages are not judged, only their sentences: a table asks
        much. The passage that holds the best sentence comes first."""
        stages = self._stages
        top_k = Focus.of(stages.settings.focus).num_passages or NUM_PASSAGES
        found = self._index.scored(question, top_k)
        spans = [span for one in found for span in one.passage.spans(QUOTE_SENTENCES)]
        ranked = stages.reranker.rank(question, spans, lambda done, total: None)  # noqa: ARG005
        if not ranked:
            return Evidence((), (), 0.0)
        best = ranked[0]
        found.sort(key=lambda one: not one.passage.overlaps(best.passage))
        margin = best.score - stages.reranker.baseline(question)
        return Evidence(tuple(found), tuple(ranked), margin)


def _line(generation: Generation) -> str:
    """Of what did not come to an end only whole sentences."""
    text = generation.text.strip()
    if generation.stop_reason == StopReason.LOOP:
        return ""
    if generation.stop_reason in _WHOLE:
        return text
    return "".join(_SENTENCE.findall(text)).strip()


def _is_carried(text: str, question: str, near: Sequence[Passage]) -> bool:
    """Whether `text` says something that the question does not, mostly in words of `near`."""
    new = _stems(text) - _stems(question)
    known = _stems(" ".join(passage.text for passage in near))
    return len(new) >= _FEWEST_NEW_WORDS and len(new & known) >= _LEAST_CARRIED * len(new)


def _stems(text: str) -> set[str]:
    return {word[:_STEM] for word in _WORD.findall(text.lower()) if len(word) > 3 or word.isdigit()}
