"""Which weights of a checkpoint are stored in few bits, and how: see docs/quantize.md.

Imports no torch: what a model takes is known from config.json alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Self

from engine.errors import ConfigError

KEY = "quantization"  # in config.json
# What `kernels.linear` is given.
MATRICES = frozenset({"qkv", "qkvz", "q", "q_a", "q_b", "kv_a", "gate", "out", "gate_up", "down"})

_MOST_EXCEPTIONS = 10_000

# Of one tensor on disk: the name after the weight's, its dtype and its shape.
Part = tuple[str, str, tuple[int, ...]]


class Form(StrEnum):
    """How a matrix is stored; "int4/64" is int4 in groups of 64, "blocks" a GGUF file's own."""

    PLAIN = "plain"
    INT8 = "int8"
    INT4_128 = "int4/128"
    INT4_64 = "int4/64"
    INT4_32 = "int4/32"
    BLOCKS = "blocks"

    @property
    def group(self) -> int:
        """Elements of a row that share a scale and an offset; 0 unless int4."""
        return int(self.value.partition("/")[2] or 0)

    @property
    def bits(self) -> str:
        """ "int4" whatever its groups are, else as it is called."""
        return self.value.partition("/")[0]

    def fitting(self, width: int) -> "Form":
        """This form, or the next more exact one that rows of `width` elements divide into."""
        if not self.group:
            return self
        groups = (form for form in Form if 0 < form.group <= self.group)
        return next((form for form in groups if not width % form.group), Form.INT8)

    def parts(self, num_rows: int, width: int) -> tuple[Part, ...]:
        """The tensors that hold a matrix [num_rows, width]; none for a plain one.

        Raises ConfigError if rows do not divide into groups.
        """
        if self is Form.PLAIN:
            return ()
        if self is Form.INT8:
            return ("codes", "I8", (num_rows, width)), ("scales", "F32", (num_rows,))
        if width % self.group:
            raise ConfigError(f"config: rows of {width} do not divide into groups of {self.group}")
        groups = (num_rows, width // self.group)
        codes: Part = ("codes", "U8", (num_rows, width // 2))
        return codes, ("scales", "F16", groups), ("offsets", "F16", groups)

    def num_bytes(self, num_rows: int, width: int) -> int:
        """Of a matrix that is not plain."""
        parts = self.parts(num_rows, width)
        return sum(ITEM_BYTES[dtype] * math.prod(shape) for _, dtype, shape in parts)


class Blocks(NamedTuple):
    """A parameter as a GGUF file has it: GGML's names of its tensors' types, and all its bytes."""

    types: tuple[str, ...]
    num_bytes: int


# What `--to int8` and `--to int4` choose.
USUAL = {form.bits: form for form in (Form.INT8, Form.INT4_64)}

ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I8": 1,
    "U8": 1,
    "F8_E4M3": 1,
}  # safetensors' names


@dataclass(frozen=True, slots=True)
class Quantization:
    """The form of every matrix: `form`, but for the parameters of our model in `exceptions`.

    Embedding, head, router and norms are always plain. A parameter made of several tensors (q, k
    and v; the experts of a layer) has one form. Of a GGUF file that is run where it lies `blocks`
    are those that stay as they are in the file, embedding and head among them.
    """

    form: Form = Form.PLAIN
    exceptions: tuple[tuple[str, Form], ...] = ()
    blocks: tuple[tuple[str, Blocks], ...] = ()

    @classmethod
    def fitting(cls, form: Form, widths: Mapping[str, int]) -> Self:
        """All matrices in `form`; where rows of `widths` elements do not divide, the next more
        exact one. Parameters that are no matrices may be among them."""
        own = {name: form.fitting(width) for name, width in widths.items() if is_matrix(name)}
        return cls(form, tuple((name, one) for name, one in own.items() if one is not form))

    def form_of(self, parameter: str) -> Form:
        if self.blocks and parameter in dict(self.blocks):
            return Form.BLOCKS
        if not is_matrix(parameter):
            return Form.PLAIN
        return dict(self.exceptions).get(parameter, self.form)

    def num_bytes(self, parameter: str, num_rows: int, width: int) -> int:
        """Of a matrix [num_rows, width] that is not plain."""
        form = self.form_of(parameter)
        if form is Form.BLOCKS:
            return dict(self.blocks)[parameter].num_bytes
        return form.num_bytes(num_rows, width)

    def as_json(self) -> dict[str, Any]:
        return {"format": self.form.value, "exceptions": dict(self.exceptions)}

    def __str__(self) -> str:
        kinds = dict.fromkeys([self.form, *(form for _, form in self.exceptions)])
        if not self.blocks:
            return ", ".join(kind.value for kind in kinds)
        return ", ".join(dict.fromkeys(name for _, own in self.blocks for name in own.types))


UNQUANTIZED = Quantization()


def is_matrix(parameter: str) -> bool:
    """Whether the parameter of our model may be stored in few bits."""
    return parameter.rpartition(".")[2] in MATRICES


def read_quantization(raw: Mapping[str, Any]) -> Quantization:
    """From a parsed config.json. Raises ConfigError."""
    entry = raw.get(KEY)
    if entry is None:
        return UNQUANTIZED
    if not isinstance(entry, dict) or not entry.keys() <= {"format", "exceptions"}:
        raise ConfigError(f"config: {KEY} must be an object of format and exceptions")
    exceptions = entry.get("exceptions", {})
    if not isinstance(exceptions, dict) or len(exceptions) > _MOST_EXCEPTIONS:
        raise ConfigError(f"config: exceptions of {KEY} must be an object, name to form")
    if odd := [name for name in exceptions if not is_matrix(name)]:
        raise ConfigError(f"config: {odd[0]!r:.80} is no matrix and cannot be quantised")
    found = tuple((name, _form(value)) for name, value in exceptions.items())
    return Quantization(_form(entry.get("format")), found)


def _form(value: object) -> Form:
    known = [form.value for form in Form if form is not Form.BLOCKS]
    if not isinstance(value, str) or value not in known:
        raise ConfigError(f"config: {KEY} of form {value!r:.80}, not one of {', '.join(known)}")
    return Form(value)
