"""A whole decoder layer of few rows on CPUs in one native call: norm, softmax attention, SwiGLU.

Each row gets the bits that `rms_norm`, `linear`, `rotate`, `attention`, `rms_norm_of_sum` and
`swiglu` give it one after the other: their JIT's functions are called here in a `Program`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention import Int8Tensor, Rows, Segments
from kernels.attention import jit as attention
from kernels.jit import run
from kernels.jit.program import ROWS, Call, Program, Slot
from kernels.linear import Matrix, has_linear_calls, linear_calls
from kernels.norm import jit as norm
from kernels.rotary import jit as rotary
from kernels.swiglu import jit as swiglu

MOST_ROWS = run.SMALL_M
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """h = a h + b attention(norm(h)), h = a h + b mlp(norm(h)), a and b being `attention_residual`
    and `mlp_residual`. Of D channels, H heads and G key-value heads of E, F in the MLP:"""

    mixer_norm: Tensor  # [D]
    qkv: Matrix  # [(H + 2 G) E, D]
    qkv_bias: Tensor | None
    out: Matrix  # [D, H E]
    mlp_norm: Tensor  # [D]
    gate_up: Matrix  # [2 F, D]
    down: Matrix  # [D, F]
    eps: float
    heads: tuple[int, int]  # H, G
    head_dim: int
    rotary_dim: int  # of E: so many turn
    scale: float
    attention_residual: tuple[float, float] = (1.0, 1.0)
    mlp_residual: tuple[float, float] = (1.0, 1.0)


def is_usable(weights: DecoderWeights) -> bool:
    """Whether all of it is computed here."""
    matrices = (weights.qkv, weights.out, weights.gate_up, weights.down)
    vectors = [weights.mixer_norm, weights.mlp_norm]
    vectors += [] if weights.qkv_bias is None else [weights.qkv_bias]
    return (
        all(one.is_cpu and one.dtype == torch.float32 for one in vectors)
        and all(one.is_contiguous() for one in vectors)
        and all(map(has_linear_calls, matrices))
        and all(op.is_usable() for op in (norm, rotary, swiglu))
        and attention.is_usable(weights.head_dim)
        and attention.quantizes(weights.head_dim)
    )


class DecoderLayer:
    """For `weights` with which it `is_usable`, and which stay where they are."""

    def __init__(self, weights: DecoderWeights) -> None:
        self._weights = weights
        self._programs: dict[bool, _LayerProgram] = {}  # by whether keys and values are int8

    def __call__(
        self,
        hidden: Tensor,
        turns: tuple[Tensor, Tensor] | None,
        before: Segments,
        block: tuple[Rows, Rows],
        used: int,
    ) -> Tensor:
        """hidden [T, D], T <= MOST_ROWS, float32; cosines and sines [T, 1, R / 2], if heads turn.

        Keys and values [n, G, E] of these tokens are put into `block` behind the `used` rows that
        are in use; it has room for 4,096 at most. `before` are those of the tokens before it.
        Returns [T, D].
        """
        is_int8 = isinstance(block[0], Int8Tensor)
        if (program := self._programs.get(is_int8)) is None:
            program = self._programs[is_int8] = _LayerProgram(self._weights, is_int8)
        hidden = hidden.contiguous()
        out = torch.empty_like(hidden)
        cosine, sine = (0, 0) if turns is None else (turns[0].data_ptr(), turns[1].data_ptr())
        places = (hidden.data_ptr(), out.data_ptr(), cosine, sine)
        program.run(len(hidden), places, before, block, used)
        return out


class _LayerProgram:
    """The calls of a layer. The last block is an input; those before it are inserted, as the time
    they take is beyond that of Python."""

    def __init__(self, weights: DecoderWeights, is_int8: bool) -> None:
        self._weights, self._is_int8 = weights, is_int8
        num_heads, num_kv_heads = weights.heads
        self._group = (num_kv_heads, num_heads // num_kv_heads, weights.head_dim)
        self._program = Program(_NUM_INPUTS)
        self._q, self._mixed = (self._floats(num_heads * weights.head_dim) for _ in range(2))
        self._parts = self._floats(attention.part_elements((1, *self._group)))
        self._add_calls()

    def run(
        self,
        num_rows: int,
        places: tuple[int, int, int, int],
        before: Segments,
        block: tuple[Rows, Rows],
        used: int,
    ) -> None:
        addresses, strides = attention.addresses_of(*block)
        num_keys, group = used + num_rows, self._group
        inserted, first, num_chunks = list[Call](), 0, attention.chunks_of(num_keys)
        if before:
            memory, first = self._program.memory(), 1
            q, parts, mixed = (memory + one.offset for one in (self._q, self._parts, self._mixed))
            all_keys = num_keys + sum(keys.shape[0] for keys, _ in before)
            seen, most = [(q, before, all_keys)], attention.MOST_KEYS
            shape, scale = (num_rows, *group), self._weights.scale
            inserted += attention.attention_calls(seen, parts, mixed, shape, most, scale)
        sizes = (1, 1, _FLOAT_BYTES, _FLOAT_BYTES) if self._is_int8 else (_FLOAT_BYTES,) * 4
        tokens = (strides[0], strides[2], strides[4], strides[4])
        room = (
            at + used * size * token
            for at, size, token in zip(addresses, sizes, tokens, strict=True)
        )
        counts = (num_keys, used + 1, num_chunks, first, first + num_chunks)
        num_heads = num_rows * self._weights.heads[0]
        inputs = (*places, *addresses, *strides, *room, *counts, num_heads)
        self._program.run(num_rows, inputs, inserted)

    def _floats(self, count: int) -> Slot:
        return self._program.room(_FLOAT_BYTES * count)

    def _add_calls(self) -> None:
        weights, program = self._weights, self._program
        hidden, out = program.inputs[:2]
        width, mlp_size = len(weights.mlp_norm), weights.down.shape[1]
        normed, projected, total = (self._floats(width) for _ in range(3))
        gate_up, gated = self._floats(2 * mlp_size), self._floats(mlp_size)
        qkv = self._floats(sum(_qkv_sizes(weights)))

        def multiply(x: Slot, weight: Matrix, into: Slot) -> None:
            program.add(*linear_calls(program, x, weight, into))

        program.add(norm.norm_call(hidden, weights.mixer_norm, weights.eps, normed, ROWS))
        multiply(normed, weights.qkv, qkv)
        program.add(*self._attention(qkv))
        multiply(self._mixed, weights.out, projected)
        sums, norm_of_sum = (hidden, projected, total), (weights.mlp_norm, weights.eps)
        residual = weights.attention_residual
        program.add(norm.norm_of_sum_call(*sums, residual, *norm_of_sum, normed, ROWS))
        multiply(normed, weights.gate_up, gate_up)
        program.add(swiglu.swiglu_call(gate_up, gated, ROWS, mlp_size))
        multiply(gated, weights.down, projected)
        sums = (total, projected, out)
        program.add(norm.sum_call(*sums, weights.mlp_residual, width, ROWS))

    def _attention(self, qkv: Slot) -> Iterator[Call]:
        """From the projected rows to what the heads see."""
        weights, inputs = self._weights, self._program.inputs
        cosine, sine = inputs[2:4]
        (keys, values, *scales), strides, room = inputs[4:8], inputs[8:14], inputs[14:18]
        num_keys, seen, *parts, num_heads = inputs[18:]
        pairs, head_dim = weights.rotary_dim // 2, weights.head_dim
        bias = None if weights.qkv_bias is None else weights.qkv_bias.data_ptr()
        row = sum(_qkv_sizes(weights))
        turned = self._floats(weights.heads[1] * head_dim)

        def rotated(number: int, into: Slot, strides: Sequence[Slot] | None = None) -> Call:
            """q, k or v, the last of which does not turn."""
            first = _FLOAT_BYTES * sum(_qkv_sizes(weights)[:number])
            turns = (cosine, sine, 0 if number == 2 else pairs)
            shape = (ROWS, (*weights.heads, weights.heads[1])[number], head_dim)
            own_bias = None if bias is None else bias + first
            return rotary.rotate_call(qkv + first, row, turns, own_bias, shape, into, strides)

        yield rotated(0, self._q)
        for number in (0, 1):
            own = strides[2 * number : 2 * number + 2]
            if not self._is_int8:
                yield rotated(number + 1, room[number], own)
                continue
            yield rotated(number + 1, turned)
            shape = (ROWS, weights.heads[1], head_dim)
            places = (turned, room[number], room[number + 2])
            yield attention.quantize_call(*places, shape, (*own, *strides[4:]))
        yield self._program.inserted()
        yield from attention.tile_calls(
            self._q,
            attention.Tile(keys, values, scales[0], scales[1], tuple(strides)),
            (ROWS, *self._group),
            (num_keys, seen),
            attention.Parts(*parts),
            (self._parts, self._mixed, num_heads, attention.num_parts()),
            weights.scale,
            is_int8=self._is_int8,
        )


# hidden, result, cosine, sine; of the last block four addresses, six strides, and the addresses of
# the room for new rows; keys there, keys the first row sees, three of `attention.Parts`; T H.
_NUM_INPUTS = 4 + 4 + 6 + 4 + 2 + 3 + 1


def _qkv_sizes(weights: DecoderWeights) -> tuple[int, int, int]:
    num_heads, num_kv_heads = weights.heads
    kv_size = num_kv_heads * weights.head_dim
    return num_heads * weights.head_dim, kv_size, kv_size
