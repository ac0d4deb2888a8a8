"""Typed look-ups in the metadata of a GGUF file, which is hostile input until it has been here."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from engine.errors import GgufError
from engine.gguf.header import Texts

Metadata = dict[str, Any]
T = TypeVar("T")


def get(metadata: Metadata, key: str, kind: type[T], default: T | None = None) -> T:
    value = metadata.get(key, default)
    if isinstance(value, np.ndarray | Texts):
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


def end_ids(metadata: Metadata, vocab_size: int) -> list[int]:
    """The ids that end an answer: of the end of text, of a turn, of a message; the first first."""
    ids = (token_id(metadata, role, vocab_size) for role in ("eos", "eot", "eom"))
    return list(dict.fromkeys(each for each in ids if each is not None))


def length(metadata: Metadata, key: str) -> int:
    """Of a list, which is not made for it."""
    value = metadata.get(key)
    if not isinstance(value, np.ndarray | Texts):
        raise GgufError(f"the metadata lacks {key} or has it in an unexpected form")
    return len(value)


def flags(metadata: Metadata, key: str, length: int) -> list[bool]:
    """A list of as many truth values, whatever kind of number stands for them."""
    values = get(metadata, key, list)
    if len(values) != length or any(value not in (0, 1) for value in values):
        raise GgufError(f"{key} must be {length} times true or false")
    return [bool(value) for value in values]


@dataclass(frozen=True, slots=True)
class Values:
    """The keys of one architecture, by their names behind its own."""

    metadata: Metadata
    architecture: str

    def has(self, name: str) -> bool:
        return self._key(name) in self.metadata

    def text(self, name: str, default: str) -> str:
        return get(self.metadata, self._key(name), str, default)

    def count(self, name: str, default: int | None = None) -> int:
        """Of at least one."""
        return count(self.metadata, self._key(name), default)

    def integer(self, name: str, default: int) -> int:
        return get(self.metadata, self._key(name), int, default)

    def positive(self, name: str, default: float | None = None) -> float:
        return positive(self.metadata, self._key(name), default)

    def number(self, name: str, default: float) -> float:
        return get(self.metadata, self._key(name), float, default)

    def is_sliding(self, num_layers: int, period: int) -> list[bool]:
        """Which layers see a window: told one by one, or all but each `period`-th, which may be
        told instead."""
        key = self._key("attention.sliding_window_pattern")
        if isinstance(self.metadata.get(key), np.ndarray):
            return flags(self.metadata, key, num_layers)
        period = count(self.metadata, key, period)
        return [(layer + 1) % period != 0 for layer in range(num_layers)]

    def expect(self, name: str, expected: int) -> None:
        """Raises GgufError if the file says something else."""
        if (announced := self.count(name, expected)) != expected:
            key = self._key(name)
            raise GgufError(f"{key} is {announced} where the rest of the file says {expected}")

    def _key(self, name: str) -> str:
        return f"{self.architecture}.{name}"
