"""Records -> tokens -> sequences of equal length, the same for the same seed.

A record of text has "text" and "source"; one of questions has "prompt" and "answer". Whole sources
are held out, by the hash of their name, so that no file of a repository is trained on while
another judges the result.
"""

import hashlib
import json
import lzma
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.tokenizer import Tokenizer, Turn
from training.overlap import Overlap

HELD_OUT_OF = 50  # one source in so many is held out
_RECORDS_AT_ONCE = 64

Document = tuple[list[int], int]  # token ids, and how many of the last are an answer


@dataclass(frozen=True, slots=True)
class Sequences:
    """`token_ids` [N, T] and, beside each, whether it belongs to an answer.

    `num_overlapping` records were left out because they repeat an evaluation text, `num_unread`
    because they have neither text nor prompt and answer.
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
        question_share: float = 0.35,
    ) -> Sequences:
        """`num_sequences`, or as many as there are. Raises ValueError if there is not one."""
        shares = {text: 1 - question_share, questions: question_share}
        given = [path for path in (text, questions) if path is not None]
        parts = []
        for path in given:
            count = num_sequences if len(given) == 1 else round(num_sequences * shares[path])
            parts.append(self._pack(path, sequence_tokens, count))
        joined = Sequences(
            torch.cat([part.token_ids for part in parts]),
            torch.cat([part.is_answer for part in parts]),
            sum(part.num_overlapping for part in parts),
            sum(part.num_unread for part in parts),
        )
        if not len(joined):
            raise ValueError(f"no sequence of {sequence_tokens:,} tokens in {given}")
        return joined

    def _pack(self, path: Path, sequence_tokens: int, num_sequences: int) -> Sequences:
        """Documents end to end, an end token after each, cut into sequences.

        A question that a cut would part from its answer begins once more after the cut.
        """
        token_ids: list[int] = []
        is_answer: list[bool] = []
        counts = {"overlapping": 0, "unread": 0}
        end = list(self.tokenizer.eos_ids()[:1])
        for ids, num_answer in self._documents(path, counts):
            if len(ids) > 4 * sequence_tokens:  # so that no long file crowds out the others
                ids, num_answer = ids[: 4 * sequence_tokens], 0
            room = sequence_tokens - len(token_ids) % sequence_tokens
            if num_answer and room < len(ids) + len(end) <= sequence_tokens:
                token_ids += ids[:room]
                is_answer += [False] * room
            token_ids += [*ids, *end]
            is_answer += [False] * (len(ids) - num_answer) + [num_answer > 0] * num_answer
            is_answer += [num_answer > 0] * len(end)
            if len(token_ids) >= num_sequences * sequence_tokens:
                break
        count = min(len(token_ids) // sequence_tokens, num_sequences)
        used = count * sequence_tokens
        return Sequences(
            torch.tensor(token_ids[:used], dtype=torch.int32).view(count, sequence_tokens),
            torch.tensor(is_answer[:used], dtype=torch.bool).view(count, sequence_tokens),
            counts["overlapping"],
            counts["unread"],
        )

    def _documents(self, path: Path, counts: dict[str, int]) -> Iterator[Document]:
        records = [record for record in _records(path) if _is_held_out(record) == self.held_out]
        random.Random(self.seed).shuffle(records)
        for start in range(0, len(records), _RECORDS_AT_ONCE):
            texts = []
            for record in records[start : start + _RECORDS_AT_ONCE]:
                whole = _whole_text(record)
                if not whole:
                    counts["unread"] += 1
                elif self.overlap is not None and self.overlap.shares_with(whole):
                    counts["overlapping"] += 1
                elif "text" in record:
                    texts.append(whole)
                else:
                    yield self._chat(record["prompt"], record["answer"])
            for ids in self.tokenizer.encode_batch(texts):
                yield ids, 0

    def _chat(self, prompt: str, answer: str) -> Document:
        answer_ids = self.tokenizer.encode(answer)
        return self.tokenizer.encode_chat([Turn("user", (prompt,))]) + answer_ids, len(answer_ids)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _whole_text(record: dict[str, Any]) -> str:
    if isinstance(record.get("text"), str):
        return str(record["text"])
    if isinstance(record.get("prompt"), str) and isinstance(record.get("answer"), str):
        return f"{record['prompt']} {record['answer']}"
    return ""


def _is_held_out(record: dict[str, Any]) -> bool:
    # "owner/name:path" is held out with all of owner/name; a question with its passage.
    if "source" in record:
        group = str(record["source"]).partition(":")[0]
    else:
        group = _longest_line(
            str(record.get("prompt") or record.get("document") or record.get("meeting"))
        )
    return hashlib.sha256(group.encode()).digest()[0] % HELD_OUT_OF == 0


def _longest_line(prompt: str) -> str:
    """The passage, which several prompts share, whatever question stands around it."""
    lines: Sequence[str] = prompt.splitlines() or [""]
    return max(lines, key=len).strip(' "')


def split(path: Path) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every record of a file, and whether it is held out: not to be trained on, free to judge."""
    for record in _records(path):
        yield record, _is_held_out(record)
