"""One question to one document: a short text, and the sentence of that document which carries it.

The evidence is chosen as for any answer: bm25, then likelihood of the question given the sentence.
A document is silent on a question if even its best sentence makes the question no likelier than no
text at all does. What the model writes stays only if it came to an end, says more than the question
did, mostly in words of what it read, and has no number or quotation that the document has not; else
the sentence itself fills the cell.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.api import Engine, StopReason
from mm1cli.answering import abstention
from mm1cli.answering.generation import Generator
from mm1cli.answering.prompt import as_prompt_text, question_prompt
from mm1cli.grounding import citations
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.corpus import Corpus, Document
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.passages import Passage, Ranked, passages
from mm1cli.retrieval.rerank import Reranker
from mm1cli.settings import Settings

NUM_PASSAGES = 3  # whose sentences are judged, and which are read for the text
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
    """`best` is None where the document is silent; `text` is then empty. The model was shown
    `read`, to judge them and in the context of the text, `context_tokens` long; `output_tokens`
    were decoded."""

    text: str
    best: Ranked | None
    read: tuple[Passage, ...] = ()
    context_tokens: int = 0
    output_tokens: int = 0


class DocumentQA:
    """Asks documents one by one, with one model. What a question or a document needs is kept."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings
        self._judge = Reranker(engine)
        self._indices: dict[str, Bm25Index] = {}
        self._quotable: dict[str, QuoteIndex] = {}
        self._baselines: dict[str, float] = {}

    def ask(self, document: Document, question: str, max_tokens: int = CELL_TOKENS) -> CellAnswer:
        found = self.index(document).search(question, NUM_PASSAGES)
        spans = [span for passage in found for span in passage.spans(QUOTE_SENTENCES)]
        ranked = self._judge.rank(question, spans, lambda done, total: None)  # noqa: ARG005
        if not ranked or ranked[0].score <= self._baseline(question):
            return CellAnswer("", None, tuple(found))
        best = ranked[0]
        # The passage that holds the best sentence stands next to the question.
        near = sorted(found, key=lambda passage: passage.overlaps(best.passage))
        text, num_context, num_written = self.generate(
            near, best.passage.text, question, min(max_tokens, self._settings.max_tokens)
        )
        if abstention.is_refusal(text):
            return CellAnswer("", None, tuple(found), num_context, num_written)
        if not _is_carried(text, question, near) or self.unverified(document, text):
            text = best.passage.text
        return CellAnswer(text, best, tuple(found), num_context, num_written)

    def generate(
        self, near: Sequence[Passage], again: str, question: str, max_tokens: int
    ) -> tuple[str, int, int]:
        """One line of the model's, and the tokens it read and wrote."""
        engine = self._engine
        texts = [as_prompt_text(one) for one in near]
        context = engine.new_context()
        context.extend(question_prompt(engine.tokenizer, texts, question, [again]).token_ids)
        num_context = len(context)
        writer = Generator(
            engine,
            replace(self._settings, max_tokens=max_tokens, think="hide"),
            on_token=lambda text: None,  # noqa: ARG005
            on_thinking=lambda text: None,  # noqa: ARG005
            on_progress=lambda *told: None,  # noqa: ARG005
            stop_texts=("\n",),
        )
        written = writer.generate(context)
        num_written = len(written.token_ids) + written.num_thinking_tokens
        text = written.text.strip()
        if written.stop_reason == StopReason.LOOP:
            text = ""
        elif written.stop_reason not in _WHOLE:
            text = "".join(_SENTENCE.findall(text)).strip()
        return text, num_context, num_written

    def index(self, document: Document) -> Bm25Index:
        if document.path not in self._indices:
            self._indices[document.path] = Bm25Index(passages(Corpus((document,))))
        return self._indices[document.path]

    def unverified(self, document: Document, text: str) -> list[str]:
        """The quotations and numbers of `text` that the document does not have."""
        if document.path not in self._quotable:
            self._quotable[document.path] = QuoteIndex(Corpus((document,)))
        quotable = self._quotable[document.path]
        quotes = [q for q in citations.quotations(text) if quotable.find_anywhere(q) is None]
        return quotes + [n for n in citations.numbers(text) if not quotable.has_number(n)]

    def _baseline(self, question: str) -> float:
        """Mean log-likelihood of the question without any text, nats per token."""
        if question not in self._baselines:
            self._baselines[question] = self._judge.score(question, "")
        return self._baselines[question]


def _is_carried(text: str, question: str, near: Sequence[Passage]) -> bool:
    """Whether `text` says something that the question does not, mostly in words of `near`."""
    new = _stems(text) - _stems(question)
    known = _stems(" ".join(passage.text for passage in near))
    return len(new) >= _FEWEST_NEW_WORDS and len(new & known) >= _LEAST_CARRIED * len(new)


def _stems(text: str) -> set[str]:
    return {word[:_STEM] for word in _WORD.findall(text.lower()) if len(word) > 3 or word.isdigit()}
