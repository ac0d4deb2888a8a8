"""Stage 1: every Lightning layer imitates the attention it replaces, all at once.

    python -m training.align --parent DIR --text text.jsonl.xz --run runs/align [--preset cpu]

One pass of the parent gives each layer its input and the output to imitate (teacher forcing), so
the layers learn independently; the loss is the squared error over the output's variance, averaged
over layers. Judged by the share of variance explained per layer on held-out text.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.layers.lightning import LightningAttention, LightningState
from engine.model import Layer, Model
from engine.placement import flops
from training.command import Prepared, TrainingInputs, main
from training.convert import (
    RECIPE_HELP,
    SMOLLM2_KEPT,
    ConversionConfig,
    convert,
    hybrid_config,
    match_variance,
)
from training.data import Sequences
from training.schedule import Schedule
from training.teacher import capture_mixer_io

PRESETS = {
    "smoke": Schedule(
        steps=30,
        batch_sequences=2,
        sequence_tokens=64,
        peak_rate=3e-3,
        final_rate=1e-4,
        warmup_steps=3,
        norm_factor=5.0,
        save_every=10,
        evaluate_every=15,
        num_held_out=4,
    ),
    "cpu": Schedule(
        steps=600,
        batch_sequences=2,
        sequence_tokens=512,
        peak_rate=2e-3,
        final_rate=1e-5,
        warmup_steps=20,
        norm_factor=5.0,
        save_every=50,
        evaluate_every=100,
        num_held_out=16,
    ),
    "gpu": Schedule(
        steps=900,
        batch_sequences=128,
        sequence_tokens=512,
        peak_rate=1e-3,
        final_rate=1e-5,
        warmup_steps=20,
        norm_factor=5.0,
        save_every=50,
        evaluate_every=50,
        num_held_out=64,
        micro_batch_sequences=64,
    ),
}


class Alignment:
    """Trains the mixers of `hybrid`'s Lightning layers in place; see `training.run.Stage`."""

    def __init__(self, hybrid: Model, teacher: Model) -> None:
        self.model, self.teacher = hybrid, teacher
        self.mixers: dict[int, LightningAttention] = {}
        self.parameters: dict[str, nn.Parameter] = {}
        self.clip_groups: list[list[nn.Parameter]] = []
        for index, layer in enumerate(hybrid.layers):
            assert isinstance(layer, Layer)
            if isinstance(layer.mixer, LightningAttention):
                self.mixers[index] = layer.mixer.requires_grad_(True)
                named = dict(layer.mixer.named_parameters(f"layers.{index}.mixer"))
                self.parameters |= named
                self.clip_groups.append(list(named.values()))

    def learn(self, token_ids: Tensor, is_answer: Tensor, weight: float) -> float:  # noqa: ARG002
        losses = []
        io = capture_mixer_io(self.teacher, token_ids)
        for index in self.mixers:  # one layer's graph in memory at a time
            error, variance = self._error(index, *io[index])
            loss = (error / variance).mean()
            (weight * loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()

    @torch.no_grad()
    def judge(self, held_out: Sequences) -> dict[str, Any]:
        """Share of the variance explained: of each layer, and on average."""
        errors = dict.fromkeys(self.mixers, 0.0)
        variances = dict.fromkeys(self.mixers, 0.0)
        for index in range(len(held_out)):
            io = capture_mixer_io(self.teacher, held_out.at(index)[0])
            for layer in self.mixers:
                error, variance = self._error(layer, *io[layer])
                errors[layer] += error.item()
                variances[layer] += variance.item()
        explained = {layer: 1 - errors[layer] / variances[layer] for layer in self.mixers}
        mean = sum(explained.values()) / len(explained)
        return {"variance_explained": mean, "by_layer": explained}

    def flops_per_sequence(self, num_tokens: int) -> int:
        config = self.model.config
        learned = sum(flops.of_mixer(config, x, num_tokens).total for x in self.mixers)
        teacher = flops.of_model(self.teacher.config, num_tokens, num_scored=0)
        return teacher.total + 3 * learned

    def _error(self, index: int, seen: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error of layer `index`, and the variance of all it is to imitate.

        One each for every sequence beside each other.
        """
        num_sequences = seen[0].numel() // seen.shape[-1]
        state = LightningState.empty(self.model.config, self.model.device, num_sequences)
        got = self.mixers[index](seen, state, 0).float()
        wanted = wanted.float()
        return (got - wanted).square().mean(dim=(0, -1)), wanted.var(dim=(0, -1))


def prepare(job: TrainingInputs, options: argparse.Namespace) -> Prepared:
    parent = job.load_parent()
    config = hybrid_config(job.parent_config(), ConversionConfig.parse(options.keep))
    hybrid = convert(parent, config).to(job.place.device)
    parent.to(job.place.device).prepare_for_inference()
    match_variance(hybrid, parent, job.data.at(0)[0].to(job.place.device))
    return Prepared(Alignment(hybrid, parent), config, {"stage": "align", "kept": options.keep})


def command(arguments: Sequence[str] | None = None) -> None:
    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--keep",
            default=SMOLLM2_KEPT,
            help=f"{RECIPE_HELP} (default: %(default)s)",
        )

    main(__doc__ or "", PRESETS, prepare, add_options, arguments)


if __name__ == "__main__":
    command()
