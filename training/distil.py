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

from engine.checkpoint import Checkpoint
from engine.families import read_config
from engine.model import Model
from engine.placement import flops
from engine.weights import load
from training import chunked_loss, window_mask
from training.command import Prepared, TrainingInputs, main
from training.data import Sequences
from training.schedule import Schedule

ANSWER_WEIGHT = 2.0

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
    "gpu": Schedule(
        steps=900,
        batch_sequences=128,
        sequence_tokens=1024,
        peak_rate=1e-4,
        final_rate=1e-5,
        warmup_steps=20,
        norm_factor=1.0,
        save_every=50,
        evaluate_every=50,
        num_held_out=32,
        micro_batch_sequences=32,
    ),
}


class Distillation:
    """Trains mixers and norms of `student` in place; see `training.run.Stage`.

    Where it has windows for document tokens, answers and the questions before them see everything
    (`training.window_mask`); the teacher always does.
    """

    def __init__(self, student: Model, teacher: Model) -> None:
        self.model, self.teacher = student, teacher
        self.parameters: dict[str, nn.Parameter] = {}
        for name, parameter in student.named_parameters():
            if ".mixer." in name or "norm" in name:
                parameter.requires_grad_(True)
                self.parameters[name] = parameter
        self.clip_groups = [list(self.parameters.values())]

    def learn(self, token_ids: Tensor, is_answer: Tensor, weight: float) -> float:
        hidden = self._hidden(self.model, token_ids, is_answer)
        loss, gradient = chunked_loss.learn(
            self.model,
            self.teacher,
            hidden,
            self._teacher_hidden(token_ids),
            token_ids,
            is_answer,
            weight=weight,
            answer_weight=ANSWER_WEIGHT,
        )
        torch.autograd.backward(hidden, gradient)
        return loss

    @torch.no_grad()
    def judge(self, held_out: Sequences) -> dict[str, Any]:
        """Nats per token: of the hybrid, of the parent, and the divergence between them."""
        device = self.model.device
        sums, count = torch.zeros(3, dtype=torch.float64, device=device), 0
        for index in range(len(held_out)):
            token_ids, is_answer = held_out.at(index)
            got = self._hidden(self.model, token_ids, is_answer)
            wanted = self._teacher_hidden(token_ids)
            for rows in chunked_loss.blocks(len(token_ids) - 1, device):
                ours, theirs = self.model.logits(got[rows]), self.teacher.logits(wanted[rows])
                next_ids = token_ids[1:][rows]
                divergence, surprise, *_ = chunked_loss.compare(ours, theirs, next_ids)
                own = -torch.log_softmax(theirs, dim=-1).gather(1, next_ids[:, None])
                sums += torch.stack([surprise.sum(), own.sum(), divergence.sum()]).double()
                count += len(divergence)
        nll, parent_nll, divergence_mean = (sums / count).tolist()
        return {"nll": nll, "parent_nll": parent_nll, "kl": divergence_mean}

    def flops_per_sequence(self, num_tokens: int) -> int:
        """A frozen matmul costs its forward twice, a learned one three times."""
        config = self.model.config
        teacher, forward = (
            flops.of_model(each, num_tokens, num_scored=num_tokens).total
            for each in (self.teacher.config, config)
        )
        layers = range(config.num_layers)
        mixers = sum(flops.of_mixer(config, index, num_tokens).total for index in layers)
        return teacher + 2 * forward + mixers

    @torch.no_grad()
    def _teacher_hidden(self, token_ids: Tensor) -> Tensor:
        return self._hidden(self.teacher, token_ids)

    @staticmethod
    def _hidden(model: Model, token_ids: Tensor, is_answer: Tensor | None = None) -> Tensor:
        states = model.empty_states(differentiable=True, num_sequences=token_ids[:1].numel())
        if is_answer is not None:
            window_mask.mark(states, is_answer)
        hidden: Tensor = model(token_ids, states, 0)
        return hidden


def prepare(job: TrainingInputs, options: argparse.Namespace) -> Prepared:
    teacher = job.load_parent().to(job.place.device)
    teacher.prepare_for_inference()
    directory: Path = options.student
    checkpoint = Checkpoint(directory)
    student = load(checkpoint, read_config(directory), device=job.place.device, dtype=torch.float32)
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    shared = {"stage": "distil", "student": checkpoint.fingerprint().hex()}
    return Prepared(Distillation(student, teacher), config, shared)


def command(arguments: Sequence[str] | None = None) -> None:
    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--student", type=Path, required=True, help="the model to go on with")

    main(__doc__ or "", PRESETS, prepare, add_options, arguments)


if __name__ == "__main__":
    command()
