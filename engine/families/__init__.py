"""Checkpoint families: how their config keys and tensor names become ours. One file each."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.config import ModelConfig
from engine.errors import ConfigError
from engine.families import (
    bailing,
    gemma3,
    granite,
    llama,
    minicpm_sala,
    minimax,
    mistral,
    mm1,
    olmo,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
    qwen3_next,
    smollm3,
)
from engine.families.family import Family
from engine.files import read_json, tensor_rows
from engine.quantized.forms import read_quantization

FAMILIES: tuple[Family, ...] = (
    minimax.FAMILY,
    mm1.FAMILY,
    llama.FAMILY,
    mistral.FAMILY,
    qwen2.FAMILY,
    qwen3.FAMILY,
    qwen3_moe.FAMILY,
    smollm3.FAMILY,
    granite.FAMILY,
    phi3.FAMILY,
    olmo.FAMILY_2,
    olmo.FAMILY_3,
    gemma3.FAMILY,
    *qwen3_next.FAMILIES,
    *bailing.FAMILIES,
    minicpm_sala.FAMILY,
)


def family_of(raw: Mapping[str, Any]) -> Family:
    """The family of a parsed config.json. Raises ConfigError naming what is supported.

    By `architectures`, for one model_type can stand for models that differ; by `model_type` where
    none is named.
    """
    named = raw.get("architectures") or []
    if not isinstance(named, list):
        raise ConfigError(f"config: architectures must be a list, got {named!r:.80}")
    for family in FAMILIES:
        if any(name in family.architectures for name in named):
            return family
        if not named and raw.get("model_type") in family.model_types:
            return family
    what = (
        f"architecture {named[0]!r:.80}" if named else f"model_type {raw.get('model_type')!r:.80}"
    )
    known = ", ".join(dict.fromkeys(name for family in FAMILIES for name in family.model_types))
    raise ConfigError(f"config: {what} is not supported, only {known}")


def family_named(name: str) -> Family:
    return next(family for family in FAMILIES if name == family.name)


def read_config(directory: Path, raw: Mapping[str, Any] | None = None) -> ModelConfig:
    """The validated config of the checkpoint in `directory`. `raw` is its config.json, if it was
    read already. Raises ConfigError."""
    if raw is None:
        raw = read_json(directory / "config.json")
    try:
        family = family_of(raw)
        config = family.by_tensors(family.read_config(raw), partial(tensor_rows, directory))
        return replace(config, quantization=read_quantization(raw))
    except (TypeError, AttributeError, KeyError, OverflowError) as error:
        raise ConfigError(f"{directory / 'config.json'}: malformed ({error})") from None
