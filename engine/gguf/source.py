"""What an architecture makes of a GGUF file: a config.json, and where its tensors come from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import GgufError
from engine.gguf.file import PLAIN_KINDS, Bytes, GgufTensor

Order = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of a Hugging Face directory by its name there, and its rows in the file.

    With `rotary_heads` each head's rows hold rotary pairs side by side, where halves are wanted.
    `row_order` names the file's row for each that is wanted, not all need be; `column_order` the
    file's column. `published_shape` is the tensor's in the directory where the file has others:
    as many values. `shift` is to be added to each value: -1 where the file holds a norm's
    weights + 1. With `holds_decay` the file has -exp(x) for each value x.
    """

    name: str
    tensor: GgufTensor
    rotary_heads: int | None = None
    shift: float = 0.0
    row_order: Order | None = None
    column_order: Order | None = None
    published_shape: tuple[int, ...] | None = None
    holds_decay: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """In the directory."""
        if self.published_shape is not None:
            return self.published_shape
        if self.row_order is None:
            return self.tensor.shape
        return len(self.row_order), *self.tensor.shape[1:]

    def rows(self) -> Bytes:
        """[rows, bytes per row] in Hugging Face's order, still packed: a view of the file, or where
        rows are ordered a copy. Of a vector all is one row. Columns are as in the file."""
        packed = self.tensor.packed
        if self.rotary_heads is None and self.row_order is None:
            return packed
        is_vector = len(self.tensor.shape) == 1
        if is_vector:  # a bias: its values are ordered as a matrix's rows
            if self.tensor.kind not in PLAIN_KINDS:
                raise GgufError(f"{self.name} is a vector in {self.tensor.kind.name} blocks")
            packed = packed.reshape(self.tensor.shape[0], -1)
        if self.row_order is not None:
            packed = packed[self.row_order]
        if self.rotary_heads is not None:
            pairs = packed.reshape(self.rotary_heads, -1, 2, packed.shape[-1])
            packed = np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(packed.shape)
        return packed.reshape(1, -1) if is_vector else packed


@dataclass(frozen=True, slots=True)
class Described:
    config: dict[str, Any]
    sources: list[Source]


class Tensors:
    """Those of a file, each to be taken once, in the shape its metadata asks for."""

    def __init__(self, tensors: dict[str, GgufTensor]) -> None:
        self._left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        """Whether it is left, by its whole name."""
        return name in self._left

    def take(self, name: str, *expected: tuple[int, ...]) -> GgufTensor:
        """By its whole name, `.weight` or `.bias` included. Raises GgufError if it is missing or of
        none of the shapes `expected`."""
        tensor = self._left.pop(name, None)
        if tensor is None:
            raise GgufError(f"the tensor {name} is missing")
        if tensor.shape not in expected:
            raise GgufError(f"{name} is {tensor.shape} where {expected[0]} is announced")
        return tensor

    def leave(self, prefix: str) -> None:
        """Those whose names begin so are not for this program."""
        self._left = {name: one for name, one in self._left.items() if not name.startswith(prefix)}

    def finish(self, model: str) -> None:
        """Raises GgufError if one was not taken: what it is for would be left out in silence."""
        if self._left:
            raise GgufError(f"the tensor {min(self._left)!r:.80} has no place in a {model} model")


def unstacked(stack: GgufTensor) -> list[GgufTensor]:
    """The tensors [rows, columns] of a stack [n, rows, columns]: views of it."""
    count, *shape = stack.shape
    rows = shape[0]
    return [
        GgufTensor(stack.kind, tuple(shape), stack.packed[start : start + rows])
        for start in range(0, count * rows, rows)
    ]
