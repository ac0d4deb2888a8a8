"""Records -> tokens -> sequences of equal length, the same for the same seed.

`training.samples` says what records look like. Whole sources are held out, by the hash of their
name, so that no file of a repository is trained on while another judges the result. Generated tasks
are made from the texts that are read, and held out with them.
"""

import hashlib
import json
import lzma
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.api import Turn
from engine.tokenizer import Tokenizer
from training import prompt_patterns
from training.data_mixture import ALIGNMENT, Mixture
from training.decontamination import Overlap
from training.generated import Generator
from training.samples import Sample, samples_of

HELD_OUT_OF = 50  # one source in so many is held out
FEWEST_HELD_OUT = 3  # sources, of a file with ten or more
_RECORDS_AT_ONCE = 64
_NUM_FILLERS = 400  # texts that generated tasks are made from
_WAITING = 24  # documents to choose the next one from
_MOST_MISSES = 200  # generated tasks in a row that do not fit

Document = tuple[list[int], int]  # token ids, and how many of the last are an answer
Rows = tuple[Tensor, Tensor]  # token ids and whether they are an answer, [N, T]


@dataclass(frozen=True, slots=True)
class Sequences:
    """`token_ids` [N, T] and, beside each, whether it belongs to an answer.

    `num_overlapping` records were left out because they repeat an evaluation text, `num_unread`
    because they are empty or of another shape.
    """

    token_ids: Tensor  # [N, T] int32
    is_answer: Tensor  # [N, T] bool
    num_overlapping: int = 0
    num_unread: int = 0

    def __len__(self) -> int:
        return self.token_ids.shape[0]

    def at(self, index: int) -> tuple[Tensor, Tensor]:
        return self.token_ids[index].long(), self.is_answer[index]

    def order(self, seed: int, epoch: int) -> list[int]:
        """The sequences of one pass over the data, shuffled."""
        order = list(range(len(self)))
        random.Random(f"{seed} {epoch}").shuffle(order)
        return order


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads records in the order of `seed`, those held out or the others."""

    tokenizer: Tokenizer
    seed: int
    held_out: bool = False
    overlap: Overlap | None = None

    def read(
        self,
        text: Path | None,
        questions: Path | None,
        *,
        sequence_tokens: int,
        num_sequences: int,
        mixture: Mixture | None = None,
        single: bool = False,
    ) -> Sequences:
        """`num_sequences`, or as many as there are. Raises ValueError if there is not one.

        Without `mixture` that of stage 1. If `single`, each sequence is one prompt with its answer,
        and end tokens to its length, of which the first is part of the answer.
        """
        mixture = ALIGNMENT if mixture is None else mixture
        counts = mixture.counts(
            num_sequences, has_text=text is not None, has_qa=questions is not None
        )
        seen: Counter[str] = Counter()
        parts = []
        for kind, count in counts.items():
            path = questions if kind == "qa" else text
            assert path is not None
            reading = self._generated if kind == "generated" else self._documents
            documents = reading(path, sequence_tokens, seen)
            arrange = self._single if single else self._pack
            parts.append(arrange(documents, sequence_tokens, count))
        rows = [part for part in parts if len(part[0])]
        if not rows:
            given = [str(path) for path in (text, questions) if path is not None]
            raise ValueError(f"no sequence of {sequence_tokens:,} tokens in {given}")
        token_ids, is_answer = (torch.cat(part) for part in zip(*rows, strict=True))
        return Sequences(token_ids, is_answer, seen["overlapping"], seen["unread"])

    def _pack(self, documents: Iterator[Document], sequence_tokens: int, count: int) -> Rows:
        """Documents end to end, an end token after each, cut into sequences.

        No cut parts a question from its answer: of the next few documents the longest that still
        fits comes first. If none does, the sequence is filled with a beginning without its answer.
        """
        token_ids: list[int] = []
        is_answer: list[bool] = []
        end = self._end()
        waiting: list[Document] = []
        while len(token_ids) < count * sequence_tokens:
            for ids, num_answer in islice(documents, _WAITING - len(waiting)):
                # No long file is to crowd out the others, nor an answer to stand by itself.
                whole = [*ids[: 4 * sequence_tokens], *end]
                is_apart = len(whole) > sequence_tokens or not num_answer
                waiting.append((whole, 0 if is_apart else num_answer + len(end)))
            if not waiting:
                break
            room = sequence_tokens - len(token_ids) % sequence_tokens
            ids, num_answer = waiting.pop(_best(waiting, room))
            if num_answer and room < len(ids):
                waiting.append((ids, num_answer))
                ids, num_answer = ids[:room], 0
            token_ids += ids
            is_answer += [False] * (len(ids) - num_answer) + [True] * num_answer
        count = min(len(token_ids) // sequence_tokens, count)
        used = count * sequence_tokens
        return _rows(token_ids[:used], is_answer[:used], sequence_tokens)

    def _single(self, documents: Iterator[Document], sequence_tokens: int, count: int) -> Rows:
        token_ids: list[int] = []
        is_answer: list[bool] = []
        end = self._end() or [0]
        for ids, num_answer in documents:
            room = sequence_tokens - len(ids)
            if not num_answer or room < 1:
                continue
            token_ids += [*ids, *(end * room)]
            is_answer += [False] * (len(ids) - num_answer) + [True] * (num_answer + 1)
            is_answer += [False] * (room - 1)
            if len(token_ids) >= count * sequence_tokens:
                break
        return _rows(token_ids, is_answer, sequence_tokens)

    def _documents(self, path: Path, tokens: int, seen: Counter[str]) -> Iterator[Document]:
        characters = 3 * tokens  # the prose of meetings and stories has more per token
        for records in self._batches(path):
            texts: list[str] = []
            for record in records:
                samples = self._samples(record, characters, seen)
                texts += [sample.answer for sample in samples if not sample.prompt]
                yield from (self._chat(sample) for sample in samples if sample.prompt)
            for ids in self.tokenizer.encode_batch(texts):
                yield ids, 0

    def _generated(self, path: Path, tokens: int, _seen: Counter[str]) -> Iterator[Document]:
        texts: list[str] = []
        uncounted: Counter[str] = Counter()  # the reading of the texts themselves counts them
        for records in self._batches(path):
            for record in records:
                texts += [s.answer for s in self._samples(record, 0, uncounted) if not s.prompt]
            if len(texts) >= _NUM_FILLERS:
                break
        sample = [text[:2000] for text in texts[:50]]
        num_ids = sum(map(len, self.tokenizer.encode_batch(sample)))
        if not num_ids:
            return
        characters = tokens * sum(map(len, sample)) // num_ids
        misses = 0
        for task in Generator(texts, f"{self.seed} {self.held_out}", characters):
            document = self._chat(task)
            if len(document[0]) < tokens:
                misses = 0
                yield document
            elif (misses := misses + 1) > _MOST_MISSES:
                return

    def _batches(self, path: Path) -> Iterator[list[dict[str, Any]]]:
        held_out = _held_out(path, path.stat().st_mtime_ns)
        records = [r for r in _records(path) if (_group(r) in held_out) == self.held_out]
        random.Random(self.seed).shuffle(records)
        for start in range(0, len(records), _RECORDS_AT_ONCE):
            yield records[start : start + _RECORDS_AT_ONCE]

    def _samples(self, record: dict[str, Any], characters: int, seen: Counter[str]) -> list[Sample]:
        samples = samples_of(record, characters)
        if not samples:
            seen["unread"] += 1
        elif self.overlap is not None and any(
            self.overlap.shares_with(f"{sample.prompt} {sample.answer}") for sample in samples
        ):
            seen["overlapping"] += 1
            return []
        return samples

    def _chat(self, sample: Sample) -> Document:
        parts = [sample.system, sample.prompt] if sample.system else [sample.prompt]
        answer = self.tokenizer.encode(sample.answer)
        ids: list[int] = []
        texts = iter(self.tokenizer.encode_batch(parts))
        for markup in _markup(self.tokenizer, len(parts)):
            ids += next(texts) if markup is None else markup
        return ids + answer, len(answer)

    def _end(self) -> list[int]:
        return list(self.tokenizer.eos_ids()[:1])


@cache
def _markup(tokenizer: Tokenizer, num_parts: int) -> list[list[int] | None]:
    """A chat of one question, with or without a system turn: None where its parts go.

    Rendering a template takes longer than encoding a text, and what it writes around is the same.
    """
    turns = [Turn("system", ("a",)), Turn("user", ("b",))][-num_parts:]
    pieces = tokenizer.chat(turns)
    return [tokenizer.encode_markup(piece.text) if piece.is_markup else None for piece in pieces]


def _best(waiting: list[Document], room: int) -> int:
    """The next text, or the longest question that fits; else the first."""
    fitting = [n for n, (ids, num_answer) in enumerate(waiting) if num_answer and len(ids) <= room]
    longest = max(fitting, key=lambda n: len(waiting[n][0]), default=0)
    return longest if waiting[0][1] else 0


def _rows(token_ids: list[int], is_answer: list[bool], sequence_tokens: int) -> Rows:
    return (
        torch.tensor(token_ids, dtype=torch.int32).view(-1, sequence_tokens),
        torch.tensor(is_answer, dtype=torch.bool).view(-1, sequence_tokens),
    )


def _records(path: Path) -> Iterator[dict[str, Any]]:
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


@cache
def _held_out(path: Path, _changed_ns: int) -> set[str]:
    """The sources that judge: one in 50, but not fewer than three of ten or more."""
    groups = {_group(record) for record in _records(path)}
    by_hash = sorted(groups, key=_digest)
    fewest = FEWEST_HELD_OUT if len(groups) >= 10 else 0
    return {g for n, g in enumerate(by_hash) if n < fewest or _digest(g)[0] % HELD_OUT_OF == 0}


def _digest(group: str) -> bytes:
    return hashlib.sha256(group.encode()).digest()


def _group(record: dict[str, Any]) -> str:
    # "owner/name:path" is held out with all of owner/name; a question with its passage.
    if "source" in record:
        return str(record["source"]).partition(":")[0]
    text = str(record.get("prompt") or record.get("document") or record.get("meeting"))
    if "prompt" in record and (parsed := prompt_patterns.parse(text)) is not None:
        return " ".join(parsed.passage.split())
    return _longest_line(text)


def _longest_line(prompt: str) -> str:
    """The passage, which several prompts share, whatever question stands around it."""
    lines: Sequence[str] = prompt.splitlines() or [""]
    return max(lines, key=len).strip(' "')


def split(path: Path) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every record of a file, and whether it is held out: not to be trained on, free to judge."""
    held = _held_out(path, path.stat().st_mtime_ns)
    for record in _records(path):
        yield record, _group(record) in held
