"""What the product makes of one question, with all that its choices rest on, so that choices can
be tried afterwards without a model."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from benchmarks.answers.sets import Collection, Item
from benchmarks.evidence.__main__ import Known
from benchmarks.quality.subject import Subject
from benchmarks.quality.work import Key, Result
from mm1cli.answering.abstention import REFUSAL
from mm1cli.answering.answer import Answerer, Reply
from mm1cli.answering.prefill import Prefilled
from mm1cli.answering.question import Question
from mm1cli.grounding.attribution import Attributed
from mm1cli.grounding.judgement import ByAnswer
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed, pack
from mm1cli.output import make_sink
from mm1cli.result import CitationKind
from mm1cli.retrieval.retriever import Evidence, Retriever
from mm1cli.settings import Settings

VERSION = 4  # of what is measured: results of another are not taken
MAX_TOKENS = 48


class _Recording(Answerer):
    """Keeps what the marks of its last answer rest on, and how likely a refusal was."""

    attributed: Sequence[Attributed] = ()
    refusal_log_prob = 0.0
    answer_log_prob = 0.0
    said: list[tuple[str, str, float]]  # sentence, text, log-odds that it says it

    def keep_what_is_said(self) -> None:
        """In `said`, of a model that is asked."""
        self.said = []
        if isinstance(self._judgement, ByAnswer):
            self._judgement = replace(self._judgement, says=partial(self._says, self._judgement))

    def _says(self, asked: ByAnswer, sentence: str, texts: Sequence[str]) -> list[float]:
        odds = asked.says(sentence, texts)
        self.said += [(sentence, *one) for one in zip(texts, odds, strict=True)]
        return odds

    def _attribute(
        self, question: Question, evidence: Evidence, read: Prefilled, reply: Reply
    ) -> list[Attributed]:
        found = super()._attribute(question, evidence, read, reply)
        refusal = self._engine.tokenizer.encode(REFUSAL)
        answer = list(reply.generation.token_ids)
        self.attributed = found
        self.refusal_log_prob = sum(read.context.score(refusal).tolist())
        self.answer_log_prob = sum(read.context.score(answer).tolist()) if answer else 0.0
        return found


@dataclass
class _World:
    packed: Packed
    retriever: Retriever
    known: Known
    answerer: _Recording


@dataclass
class Product:
    """One model's product: it finds evidence, and writes an answer whatever it thinks of it."""

    subject: Subject
    _worlds: dict[int, _World] = field(default_factory=dict)

    def key(self, item: Item) -> Key:
        return {
            "table": "answers",
            "version": VERSION,
            "model": self.subject.engine.fingerprint,
            "documents": item.collection.digest,
            "question": item.text,
        }

    def measure(self, item: Item) -> Result:
        world = self._world(item.collection)
        began = time.perf_counter()
        evidence = world.retriever.find(item.text, lambda *_: None)
        world.known.evidence = evidence
        world.answerer.said.clear()
        answer = world.answerer.answer(Question(item.text))
        seconds = time.perf_counter() - began
        quotes = [one for one in answer.citations if one.kind is CitationKind.QUOTE]
        return {
            "margin": evidence.score_margin,
            "pieces": [
                [one.score, *self._place(item.collection, evidence, number)]
                for number, one in enumerate(evidence.pieces)
            ],
            "text": answer.text,
            "is_found": answer.is_found,
            "gains": [
                None if one.gain is None else [list(one.gain.tokens), list(one.gain.ends)]
                for one in world.answerer.attributed
            ],
            "said": [list(one) for one in world.answerer.said],
            "refusal_log_prob": world.answerer.refusal_log_prob,
            "answer_log_prob": world.answerer.answer_log_prob,
            "num_quotes": len(quotes),
            "unverified": list(answer.unverified),
            "seconds": seconds,
        }

    def _place(self, collection: Collection, evidence: Evidence, number: int) -> list[int]:
        """The numbers of document and block, and where the piece begins and ends in it."""
        passage = evidence.pieces[number].passage
        documents = collection.corpus.documents
        document = next(n for n, one in enumerate(documents) if one is passage.document)
        blocks = passage.document.blocks
        block = next(n for n, one in enumerate(blocks) if one is passage.block)
        return [document, block, passage.start, passage.end]

    def _world(self, collection: Collection) -> _World:
        if (known := self._worlds.get(id(collection))) is not None:
            return known
        engine = self.subject.engine
        packed = pack(collection.corpus, engine.tokenizer)
        known_evidence = Known(Evidence((), (), 0.0))
        fits = packed.num_tokens < engine.max_positions * 3 // 4
        answerer = _Recording(
            engine,
            packed,
            ReadingPlan.WHOLE if fits else ReadingPlan.RETRIEVAL,
            replace(Settings(), max_tokens=MAX_TOKENS, always_answer=True, write=True),
            make_sink("json", quiet=True),  # never closed, so it prints nothing
            retriever=known_evidence,
        )
        answerer.keep_what_is_said()
        world = _World(packed, Retriever(engine, collection.corpus), known_evidence, answerer)
        self._worlds[id(collection)] = world
        return world
