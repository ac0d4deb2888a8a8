"""A trained model as a checkpoint directory that `mm1 --model DIR` opens."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.families import family_named
from engine.model import Model
from engine.weight_delta import TOKENIZER_FILES
from engine.weights import source_rows

MODEL_FILES = ("config.json", *TOKENIZER_FILES)  # beside the weights


def write_model(
    model: Model, config: Mapping[str, Any], tokenizer_from: Path, directory: Path
) -> None:
    """Writes weights, config.json and tokenizer; replaces a checkpoint that is there.

    `model` must not be settled, and `config` be what it was made from.
    """
    write_checkpoint(tensors_of(model), config, tokenizer_from, directory)


def write_checkpoint(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    tokenizer_from: Path,
    directory: Path,
) -> None:
    """As `write_model`, from tensors under their published names."""
    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file(dict(tensors), part / "model.safetensors", {"format": "pt"})
    (part / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (tokenizer_from / name).exists():
            shutil.copyfile(tokenizer_from / name, part / name)
    shutil.rmtree(directory, ignore_errors=True)
    part.rename(directory)


def tensors_of(model: Model) -> dict[str, Tensor]:
    """Every tensor of the checkpoint under its published name."""
    sources = family_named(model.config.family).sources(model.config)
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        rows = parameter.detach()
        if rows.dim() == 3:  # experts, one below the other
            rows = rows.flatten(0, 1)
        names = sources[name]
        sizes = source_rows(model.config, name, rows.shape[0], len(names))
        parts = torch.split(rows, sizes)
        tensors |= {n: part.contiguous().clone() for n, part in zip(names, parts, strict=True)}
    return tensors
