"""One context per length, read once and kept; each question is asked on a fork of it."""

import re
import time
from collections.abc import Sequence
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path

import torch

from benchmarks.quality.work import Key, Result, Work
from benchmarks.selection.haystack import Haystack, Place
from benchmarks.selection.questions import Hidden, Kind
from engine import retrieval_head
from engine.api import ContextPlan, SelectedBlock
from engine.context import Context
from engine.engine import Engine
from mm1cli.answering.prompt import question_prompt
from mm1cli.retrieval.rerank import Reranker

VERSION = 1  # of what is measured; another one does not read the results kept of this one
_MOST_ANSWER_TOKENS = 32
_NUMBER = re.compile(r"\d[\d,]*")


class Reading:
    """`haystack` as `engine` reads it, when it is first needed; in `folder`, if one is given, what
    was read is kept, and a read that was stopped goes on from there."""

    def __init__(self, engine: Engine, haystack: Haystack, work: Work, folder: Path | None) -> None:
        self.engine, self.haystack = engine, haystack
        self._work, self._folder = work, folder
        self._name = engine.context_name(haystack.token_ids)
        selection = engine.compatibility.selection
        self._model = {"table": "selection", "version": VERSION, "model": engine.fingerprint}
        self._asked = self._model | {"selection": selection, "kv": engine.kv}
        self._reranker = Reranker(engine)
        self._seconds, self._num_before = 0.0, 0

    def facts(self) -> Result | None:
        """How it was read: tokens, bytes of each, tokens a second; None if the time was over."""
        return self._work.do(self._key("reading"), self._facts)

    def ask(self, one: Hidden) -> Result | None:
        return self._work.do(self._key(one.name), partial(self._ask, one))

    def alone(self, one: Hidden) -> Result | None:
        """Whether `one` is answered rightly from what says it alone: the same at every length."""
        passages = [place.passage for place in self.haystack.places[one.name]]
        key = {**self._model, "kv": self.engine.kv, "alone": passages, "asked": one.question}
        return self._work.do(key, partial(self._alone, one, passages))

    def _key(self, what: str) -> Key:
        return {**self._asked, "context": self._name, "what": what}

    @cached_property
    def _context(self) -> Context:
        engine, token_ids = self.engine, self.haystack.token_ids
        began = time.perf_counter()
        if self._folder is None:
            context = engine.new_context(is_saved_kind=True)
            context.extend(token_ids, self._work.reading)
        else:
            built = engine.build_context(
                self._folder / self._name, ContextPlan(token_ids), on_progress=self._work.reading
            )
            context, self._num_before = built.context, built.reused_tokens
        self._seconds = time.perf_counter() - began
        context.end_of_documents()
        return context

    def _facts(self) -> Result:
        num_tokens = len(self._context)
        num_read = num_tokens - self._num_before
        return {
            "tokens": num_tokens,
            "bytes_per_token": self._context.num_bytes / num_tokens,
            # Of a context that was there already it is not known.
            "tokens_per_s": num_read / self._seconds if num_read else None,
        }

    def _ask(self, one: Hidden) -> Result:
        places, context = self.haystack.places[one.name], self._context.fork()
        question = one.in_form(one.question)
        began = time.perf_counter()
        blocks = self._select(context, question)
        scan_s = time.perf_counter() - began
        best = blocks if len(places) <= len(blocks) else self._best(question, len(places))
        text = [self._text(block) for block in reversed(blocks)]
        twin = context.fork()
        written, written_again = self._write(context, one), self._write(twin, one, text)
        result = {
            "scan_s": scan_s,
            "blocks": [[block.start, block.end] for block in blocks],
            "found": all(_holds(best[: len(places)], place) for place in places),
            "right": is_right(written, one),
            "again": is_right(written_again, one),
            "written": [written, written_again],
            "bm25": self._bm25(one.question, places),
        }
        if one.twin:
            others = self._select(self._context.fork(), one.in_form(one.twin))
            result["scores"] = self._scores(one.question, blocks)
            result["twin_scores"] = self._scores(one.twin, others)
        return result

    def _select(self, context: Context, question: str) -> list[SelectedBlock]:
        return context.select(self._rest(question), self.haystack.first)

    @torch.inference_mode()
    def _best(self, question: str, count: int) -> list[SelectedBlock]:
        """Where more is wanted than is selected."""
        selection, end = self._context.model.config.selection, len(self._context)
        assert selection is not None
        mass = retrieval_head.block_mass(self._context, self._rest(question), self.haystack.first)
        best = mass.topk(min(count, len(mass))).indices.tolist()
        return [retrieval_head.block_at(at, selection, end) for at in best]

    def _scores(self, question: str, blocks: Sequence[SelectedBlock]) -> Result:
        """What might tell that nothing answers `question`: all are higher where something does."""
        likely = self._reranker.score
        text = self._text(blocks[0]) if blocks else ""
        best = self.haystack.index.scored(question, 1)
        return {
            "mass": blocks[0].mass if blocks else 0.0,
            "lift": likely(question, text) - likely(question, ""),
            "bm25": best[0].score if best else 0.0,
        }

    def _bm25(self, question: str, places: Sequence[Place]) -> list[bool]:
        """Whether all of `places` are in as many of its best passages, and in three."""
        found = self.haystack.index.search(question, max(len(places), 3))

        def holds(most: int, place: Place) -> bool:
            return any(one.start <= place.char < one.end for one in found[:most])

        return [all(holds(most, place) for place in places) for most in (len(places), 3)]

    def _alone(self, one: Hidden, passages: list[str]) -> Result:
        prompt = question_prompt(self.engine.tokenizer, passages, "")
        context = self.engine.new_context()
        context.extend(prompt.prefix)
        written = self._write(context, one)
        return {"right": is_right(written, one), "written": written}

    def _write(self, context: Context, one: Hidden, again: Sequence[str] = ()) -> str:
        """No more than tells whether it is right."""
        context.extend(self._rest(one.in_form(one.question), again))
        text = ""
        with closing(iter(self.engine.decode(context, max_tokens=_MOST_ANSWER_TOKENS))) as pieces:
            for piece in pieces:
                text += piece
                if _is_decided(text, one):
                    break
        return text

    def _rest(self, question: str, again: Sequence[str] = ()) -> list[int]:
        return question_prompt(self.engine.tokenizer, (), question, again).rest.token_ids

    def _text(self, block: SelectedBlock) -> str:
        return self.engine.tokenizer.decode(self.haystack.token_ids[block.start : block.end])


def is_right(text: str, one: Hidden) -> bool:
    """Whether the numbers that `text` begins with are those wanted, in any order; or it has one of
    the words wanted."""
    if one.kind is Kind.NATURAL:
        words = "|".join(map(re.escape, one.answers))
        return re.search(rf"(?<!\w)(?:{words})(?!\w)", text, re.IGNORECASE) is not None
    found = [number.replace(",", "") for number in _NUMBER.findall(text)]
    return sorted(found[: len(one.answers)]) == sorted(one.answers)


def _is_decided(text: str, one: Hidden) -> bool:
    if one.kind is Kind.NATURAL:
        return is_right(text, one)
    # A number that has not ended may go on.
    ended = [match for match in _NUMBER.finditer(text) if match.end() < len(text)]
    return len(ended) >= len(one.answers)


def _holds(blocks: Sequence[SelectedBlock], place: Place) -> bool:
    return any(block.start <= place.token < block.end for block in blocks)
