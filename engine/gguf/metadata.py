"""Typed look-ups in the metadata of a GGUF file, which is hostile input until it has been here."""

from typing import Any, TypeVar

import numpy as np

from engine.errors import GgufError

Metadata = dict[str, Any]
T = TypeVar("T")


def get(metadata: Metadata, key: str, kind: type[T], default: T | None = None) -> T:
    value = metadata.get(key, default)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if type(value) is not kind:
        raise GgufError(f"the metadata lacks {key} or has it in an unexpected form")
    return value


def count(metadata: Metadata, key: str, default: int | None = None) -> int:
    if (value := get(metadata, key, int, default)) < 1:
        raise GgufError(f"{key} is {value}")
    return value


def positive(metadata: Metadata, key: str, default: float | None = None) -> float:
    if not 1e-30 < (value := get(metadata, key, float, default)) < 1e30:
        raise GgufError(f"{key} is {value}")
    # The file holds float32; its shortest decimal is what the model's authors wrote down.
    return float(str(np.float32(value)))


def token_id(metadata: Metadata, role: str, vocab_size: int) -> int | None:
    key = f"tokenizer.ggml.{role}_token_id"
    if key in metadata and not 0 <= get(metadata, key, int) < vocab_size:
        raise GgufError(f"the {role} token is not one of the {vocab_size} tokens")
    return metadata.get(key)


def flags(metadata: Metadata, key: str, length: int) -> list[bool]:
    """A list of as many truth values, whatever kind of number stands for them."""
    values = get(metadata, key, list)
    if len(values) != length or any(value not in (0, 1) for value in values):
        raise GgufError(f"{key} must be {length} times true or false")
    return [bool(value) for value in values]
