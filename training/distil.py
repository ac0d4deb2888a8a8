"""Stage 2: the hybrid as a whole learns the parent's distribution.

    python -m training.distil --parent DIR --student DIR --text text.jsonl.xz --run runs/distil

Loss per token: KL(parent || hybrid) at temperature 1, plus twice the cross-entropy where the token
is part of an answer. Mixers and norms learn; embedding and MLPs stay the parent's.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.checkpoint import Checkpoint, load
from engine.families import read_config
from engine.model import Model
from training import cost
from training.command import Job, Prepared, main
from training.data import Sequences
from training.schedule import Schedule

ANSWER_WEIGHT = 2.0
HEAD_ROWS = 256  # scores of so many tokens are in memory at a time, for parent and hybrid

PRESETS = {
    "smoke": Schedule(
        steps=20,
        batch_sequences=2,
        sequence_tokens=64,
        peak_rate=1e-3,
        final_rate=1e-4,
        warmup_steps=2,
        norm_factor=1.0,
        save_every=10,
        evaluate_every=10,
        num_held_out=4,
    ),
    "cpu": Schedule(
        steps=350,
        batch_sequences=2,
        sequence_tokens=1024,
        peak_rate=3e-4,
        final_rate=3e-5,
        warmup_steps=20,
        norm_factor=1.0,
        save_every=25,
        evaluate_every=50,
        num_held_out=8,
    ),
}


class Distillation:
    """Trains mixers and norms of `student` in place; see `training.run.Stage`."""

    def __init__(self, student: Model, teacher: Model) -> None:
        self.model, self.teacher = student, teacher
        self.parameters: dict[str, nn.Parameter] = {}
        for name, parameter in student.named_parameters():
            if ".mixer." in name or "norm" in name:
                parameter.requires_grad_(True)
                self.parameters[name] = parameter
        self.clip_groups = [list(self.parameters.values())]

    def learn(self, token_ids: Tensor, is_answer: Tensor, weight: float) -> float:
        hidden = self._hidden(self.model, token_ids)
        # Scores are the largest tensors by far: they are made, used and dropped a few at a time.
        at_head = hidden.detach().requires_grad_()
        total = 0.0
        wanted = self._teacher_hidden(token_ids)
        for rows in _row_ranges(len(token_ids) - 1):
            divergence, surprise = self._losses(at_head[rows], wanted[rows], token_ids, rows)
            answers = is_answer[1:][rows]
            loss = (divergence + ANSWER_WEIGHT * surprise * answers).sum() / (len(token_ids) - 1)
            (weight * loss).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        torch.autograd.backward(hidden, at_head.grad)
        return total

    @torch.no_grad()
    def judge(self, held_out: Sequences) -> dict[str, Any]:
        """Nats per token: of the hybrid, of the parent, and the divergence between them."""
        sums = torch.zeros(3, dtype=torch.float64)
        count = 0
        for index in range(len(held_out)):
            token_ids = held_out.at(index)[0]
            got, wanted = self._hidden(self.model, token_ids), self._teacher_hidden(token_ids)
            for rows in _row_ranges(len(token_ids) - 1):
                divergence, surprise = self._losses(got[rows], wanted[rows], token_ids, rows)
                parent = torch.log_softmax(self.teacher.logits(wanted[rows]), dim=-1)
                own = -parent.gather(1, token_ids[1:][rows, None])
                sums += torch.stack([surprise.sum(), own.sum(), divergence.sum()]).double()
                count += len(divergence)
        nll, parent_nll, divergence_mean = (sums / count).tolist()
        return {"nll": nll, "parent_nll": parent_nll, "kl": divergence_mean}

    def flops_per_sequence(self, num_tokens: int) -> int:
        """A frozen product costs its forward twice, a learned one three times."""
        config = self.model.config
        forward = cost.forward_flops(config, num_tokens, head=True)
        mixers = sum(cost.mixer_flops(config, x.mixer, num_tokens) for x in config.layers)
        return cost.forward_flops(self.teacher.config, num_tokens, head=True) + 2 * forward + mixers

    def _losses(
        self, got: Tensor, wanted: Tensor, token_ids: Tensor, rows: slice
    ) -> tuple[Tensor, Tensor]:
        """KL(parent || hybrid) and the hybrid's cross-entropy [t] of the tokens after `rows`."""
        ours = torch.log_softmax(self.model.logits(got), dim=-1)
        with torch.no_grad():
            theirs = torch.log_softmax(self.teacher.logits(wanted), dim=-1)
        divergence = (theirs.exp() * (theirs - ours)).sum(dim=-1)
        return divergence, -ours.gather(1, token_ids[1:][rows, None])[:, 0]

    @torch.no_grad()
    def _teacher_hidden(self, token_ids: Tensor) -> Tensor:
        return self._hidden(self.teacher, token_ids)

    @staticmethod
    def _hidden(model: Model, token_ids: Tensor) -> Tensor:
        hidden: Tensor = model(token_ids, model.empty_states(differentiable=True), 0)
        return hidden


def _row_ranges(num_rows: int) -> list[slice]:
    return [slice(i, min(i + HEAD_ROWS, num_rows)) for i in range(0, num_rows, HEAD_ROWS)]


def prepare(job: Job, options: argparse.Namespace) -> Prepared:
    teacher = job.load_parent()
    teacher.settle()
    directory: Path = options.student
    checkpoint = Checkpoint(directory)
    student = load(
        checkpoint, read_config(directory), device=torch.device("cpu"), dtype=torch.float32
    )
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    shared = {"stage": "distil", "student": checkpoint.fingerprint_of_index().hex()}
    return Prepared(Distillation(student, teacher), config, shared)


def command(arguments: Sequence[str] | None = None) -> None:
    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--student", type=Path, required=True, help="the model to go on with")

    main(__doc__ or "", PRESETS, prepare, add_options, arguments)


if __name__ == "__main__":
    command()
