"""What the stages after distillation share: cross-entropy, of answers above all, near the parent.

Loss per token: `text` x cross-entropy, `answer` times it more where the token is part of an answer,
and `kl` x KL(parent || hybrid). As in stage 2 mixers and norms learn; embedding and MLPs stay the
parent's.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.checkpoint import Checkpoint
from engine.families import read_config
from engine.model import Model
from engine.weights import load
from training import chunked_loss
from training.convert import JSON
from training.data import Sequences
from training.distil import Distillation


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
        hidden = self._hidden(self.model, token_ids, is_answer)
        loss, gradient = chunked_loss.learn(
            self.model,
            self.teacher,
            hidden,
            self._teacher_hidden(token_ids) if self.weights.kl else None,
            token_ids,
            is_answer,
            weight=weight,
            answer_weight=self.weights.answer,
            text_weight=self.weights.text,
            kl_weight=self.weights.kl,
        )
        torch.autograd.backward(hidden, gradient)
        return loss

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
            hidden = self._hidden(self.model, token_ids, is_answer)
            scores = self.model.logits(hidden[places])
            wanted = token_ids[1:][places, None]
            surprise -= torch.log_softmax(scores, dim=-1).gather(1, wanted).sum().item()
            num_right += int((scores.argmax(dim=-1) == wanted[:, 0]).sum())
            count += len(places)
        if count:
            found |= {"answer_nll": surprise / count, "answer_right": num_right / count}
        return found


@dataclass(frozen=True, slots=True)
class Student:
    """The hybrid to go on with, float32 and not settled."""

    model: Model
    config: JSON
    fingerprint: str


def load_student(directory: Path, device: torch.device | None = None) -> Student:
    checkpoint = Checkpoint(directory)
    config = read_config(directory)
    model = load(checkpoint, config, device=device or torch.device("cpu"), dtype=torch.float32)
    raw: JSON = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return Student(model, raw, checkpoint.fingerprint().hex())


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
