"""A whole decoder layer of few rows on CPUs in one native call: norm, softmax attention, SwiGLU.

Each row gets the bits that `rms_norm`, `linear`, `rotate`, `attention`, `rms_norm_of_sum` and
`swiglu` give it one after the other: their JIT's functions are called here in a `Program`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.attention import Int8Tensor, Segments
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
        self._weights, self._program = weights, Program(num_inputs=4)
        (num_heads, num_kv_heads), head_dim = weights.heads, weights.head_dim
        size, self._stride = num_heads * head_dim, (num_heads + 2 * num_kv_heads) * head_dim
        self._qkv, self._q, self._mixed = (self._floats(n) for n in (self._stride, size, size))
        self._turned = self._floats(num_kv_heads * head_dim)
        grouped = (1, num_kv_heads, num_heads // num_kv_heads, head_dim)
        self._parts = self._floats(attention.part_elements(grouped))
        self._add_calls()

    def _floats(self, count: int) -> Slot:
        return self._program.room(_FLOAT_BYTES * count)

    def _add_calls(self) -> None:
        weights, program = self._weights, self._program
        hidden, cosine, sine, out = program.inputs
        width, mlp_size = len(weights.mlp_norm), weights.down.shape[1]
        normed, projected, total = (self._floats(width) for _ in range(3))
        gate_up, gated = self._floats(2 * mlp_size), self._floats(mlp_size)

        def multiply(x: Slot, weight: Matrix, into: Slot) -> None:
            program.add(*linear_calls(program, x, weight, into))

        program.add(norm.norm_call(hidden, weights.mixer_norm, weights.eps, normed, ROWS))
        multiply(normed, weights.qkv, self._qkv)
        turns, shape = (cosine, sine, weights.rotary_dim // 2), (ROWS, weights.heads[0])
        q_shape = (*shape, weights.head_dim)
        bias = self._bias(0)
        program.add(rotary.rotate_call(self._qkv, self._stride, turns, bias, q_shape, self._q))
        program.add_inserted()
        multiply(self._mixed, weights.out, projected)
        sums, norm_of_sum = (hidden, projected, total), (weights.mlp_norm, weights.eps)
        residual = weights.attention_residual
        program.add(norm.norm_of_sum_call(*sums, residual, *norm_of_sum, normed, ROWS))
        multiply(normed, weights.gate_up, gate_up)
        program.add(swiglu.swiglu_call(gate_up, gated, ROWS, mlp_size))
        multiply(gated, weights.down, projected)
        sums = (total, projected, out)
        program.add(norm.sum_call(*sums, weights.mlp_residual, width, ROWS))

    def __call__(
        self, hidden: Tensor, turns: tuple[Tensor, Tensor] | None, room: Segments, seen: Segments
    ) -> Tensor:
        """hidden [T, D], T <= MOST_ROWS, float32; cosines and sines [T, 1, R / 2], if heads turn.

        `room` [n, G, E] is where the keys and values of these tokens are put, in order; they are
        the end of `seen`. Returns [T, D].
        """
        hidden = hidden.contiguous()
        out, weights, memory = torch.empty_like(hidden), self._weights, self._program.memory()
        (num_heads, num_kv_heads), num_keys = weights.heads, sum(keys.shape[0] for keys, _ in seen)
        shape = (len(hidden), num_kv_heads, num_heads // num_kv_heads, weights.head_dim)
        cosine, sine = (0, 0) if turns is None else (turns[0].data_ptr(), turns[1].data_ptr())
        q, parts, mixed = (memory + one.offset for one in (self._q, self._parts, self._mixed))
        attended = attention.attention_calls(
            [(q, seen, num_keys)], parts, mixed, shape, num_keys, weights.scale
        )
        calls = [*self._appended(memory, cosine, sine, room), *attended]
        inputs = (hidden.data_ptr(), cosine, sine, out.data_ptr())
        self._program.run(len(hidden), inputs, calls)
        return out

    def _appended(self, memory: int, cosine: int, sine: int, room: Segments) -> Iterator[Call]:
        """Keys and values, from where qkv is, into `room`."""
        weights, half = self._weights, self._weights.rotary_dim // 2
        (num_heads, num_kv_heads), head_dim = weights.heads, weights.head_dim
        firsts = [num_heads * head_dim, (num_heads + num_kv_heads) * head_dim]
        qkv, turned = memory + self._qkv.offset, memory + self._turned.offset
        for pair in room:
            count = pair[0].shape[0]
            shape = (count, num_kv_heads, head_dim)
            for rows, first, pairs in zip(pair, firsts, (half, 0), strict=True):
                x, turns = qkv + _FLOAT_BYTES * first, (cosine, sine, pairs)
                place = (turned, None) if isinstance(rows, Int8Tensor) else _place(rows)
                yield rotary.rotate_call(x, self._stride, turns, self._bias(first), shape, *place)
                if isinstance(rows, Int8Tensor):
                    yield attention.quantize_call(turned, rows)
            qkv += _FLOAT_BYTES * count * self._stride
            cosine, sine = (one + _FLOAT_BYTES * count * half for one in (cosine, sine))

    def _bias(self, first: int) -> int | None:
        """That of the projected columns from `first` on."""
        bias = self._weights.qkv_bias
        return None if bias is None else bias.data_ptr() + _FLOAT_BYTES * first


def _place(rows: Tensor) -> tuple[int, tuple[int, int]]:
    """Where `rows` [n, G, E] are, and how far their tokens and heads lie apart."""
    token, head, _ = rows.stride()
    return rows.data_ptr(), (token, head)
