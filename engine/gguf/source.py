"""What an architecture makes of a GGUF file: a config.json, and where its tensors come from."""

from dataclasses import dataclass
from typing import Any

from engine.errors import GgufError
from engine.gguf.file import GgufTensor


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of a Hugging Face directory by its name there, and its rows in the file.

    With `rotary_heads` each head's rows hold rotary pairs side by side, where halves are wanted.
    """

    name: str
    tensor: GgufTensor
    rotary_heads: int | None = None


@dataclass(frozen=True, slots=True)
class Described:
    config: dict[str, Any]
    sources: list[Source]


class Tensors:
    """Those of a file, each to be taken once, in the shape its metadata asks for."""

    def __init__(self, tensors: dict[str, GgufTensor]) -> None:
        self._left = dict(tensors)

    def __contains__(self, name: str) -> bool:
        return f"{name}.weight" in self._left

    def take(self, name: str, expected: tuple[int, ...]) -> GgufTensor:
        """Raises GgufError if it is missing or of another shape."""
        tensor = self._left.pop(f"{name}.weight", None)
        if tensor is None:
            raise GgufError(f"the tensor {name}.weight is missing")
        if tensor.shape != expected:
            raise GgufError(f"{name}.weight is {tensor.shape} where {expected} is announced")
        return tensor

    def finish(self, model: str) -> None:
        """Raises GgufError if one was not taken: what it is for would be left out in silence."""
        if self._left:
            raise GgufError(f"the tensor {min(self._left)!r} has no place in a {model} model")
