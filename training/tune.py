"""What the stages after distillation share: cross-entropy, of answers above all, near the parent.

Loss per token: `text` x cross-entropy, `answer` times it more where the token is part of an answer,
and `kl` x KL(parent || hybrid). As in stage 2 mixers and norms learn; embedding and MLPs stay the
parent's.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.checkpoint import Checkpoint, load
from engine.families import read_config
from engine.model import Model
from training.convert import JSON
from training.data import Sequences
from training.distil import Distillation

HEAD_ROWS = 256  # scores of so many tokens are in memory at a time


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the parts of the loss; see the module."""

    text: float
    answer: float
    kl: float


class Tuning(Distillation):
    """Trains mixers and norms of `student` in place; see `training.run.Stage`."""

    def __init__(self, student: Model, teacher: Model, weights: Weights) -> None:
        super().__init__(student, teacher)
        self.weights = weights

    def learn(self, token_ids: Tensor, is_answer: Tensor, weight: float) -> float:
        if token_ids.dim() == 2:  # a sequence in each column
            columns = zip(token_ids.unbind(1), is_answer.unbind(1), strict=True)
            share = 1 / token_ids.shape[1]
            return sum(share * self.learn(*column, weight * share) for column in columns)
        hidden = self._hidden(self.model, token_ids)
        at_head = hidden.detach().requires_grad_()
        wanted = self._teacher_hidden(token_ids) if self.weights.kl else None
        total = 0.0
        for rows in _row_ranges(len(token_ids) - 1):
            ours = torch.log_softmax(self.model.logits(at_head[rows]), dim=-1)
            surprise = -ours.gather(1, token_ids[1:][rows, None])[:, 0]
            each = surprise * (self.weights.text + self.weights.answer * is_answer[1:][rows])
            if wanted is not None:
                with torch.no_grad():
                    theirs = torch.log_softmax(self.teacher.logits(wanted[rows]), dim=-1)
                each = each + self.weights.kl * (theirs.exp() * (theirs - ours)).sum(dim=-1)
            loss = each.sum() / (len(token_ids) - 1)
            (weight * loss).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        torch.autograd.backward(hidden, at_head.grad)
        return total

    @torch.no_grad()
    def judge(self, held_out: Sequences) -> dict[str, Any]:
        """Stage 2's measures; of answers nats per token and the share of tokens that come first."""
        found = super().judge(held_out)
        surprise, num_right, count = 0.0, 0, 0
        for index in range(len(held_out)):
            token_ids, is_answer = held_out.at(index)
            places = is_answer[1:].nonzero()[:, 0]
            if not len(places):
                continue
            scores = self.model.logits(self._hidden(self.model, token_ids)[places])
            wanted = token_ids[1:][places, None]
            surprise -= torch.log_softmax(scores, dim=-1).gather(1, wanted).sum().item()
            num_right += int((scores.argmax(dim=-1) == wanted[:, 0]).sum())
            count += len(places)
        if count:
            found |= {"answer_nll": surprise / count, "answer_right": num_right / count}
        return found


@dataclass(frozen=True, slots=True)
class Student:
    """The hybrid to go on with, float32 on the CPU and not settled."""

    model: Model
    config: JSON
    fingerprint: str


def load_student(directory: Path) -> Student:
    checkpoint = Checkpoint(directory)
    config = read_config(directory)
    model = load(checkpoint, config, device=torch.device("cpu"), dtype=torch.float32)
    raw: JSON = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return Student(model, raw, checkpoint.fingerprint_of_index().hex())


def add_options(parser: argparse.ArgumentParser, weights: Weights) -> None:
    parser.add_argument("--student", type=Path, required=True, help="the model to go on with")
    for name, value in asdict(weights).items():
        parser.add_argument(
            f"--{name}-weight",
            type=float,
            default=value,
            help=f"of the loss's part {name} (default: %(default)s)",
        )


def weights_of(options: argparse.Namespace) -> Weights:
    return Weights(options.text_weight, options.answer_weight, options.kl_weight)


def _row_ranges(num_rows: int) -> Iterator[slice]:
    for start in range(0, num_rows, HEAD_ROWS):
        yield slice(start, min(start + HEAD_ROWS, num_rows))
