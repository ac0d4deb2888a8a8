"""Lightning Attention of many bfloat16 tokens in Triton: groups side by side, blocks in turn.

For a block of m tokens, i, j = 1..m, slope s (arXiv 2401.04658, algorithm 1):
    O  = e^(-s i) (Q S) + ((Q K^T) [i >= j] e^(-s (i - j))) V
    S' = e^(-s m) S + K^T (V e^(-s (m - j)))
The tokens are cut into groups of many blocks: as few as keep the GPU busy, one if the heads do.
One kernel sums k^T v over every group but the last. A second one starts each group from the state
before it, which it adds up from the initial state and those sums, and walks through the group's
blocks with the state in registers. So q, k, v and the output move once, k and v of all groups but
the last twice, and no block's state at all. Memory beyond the result: a state for each head and
group but the last, in all under `_NUM_PROGRAMS` tiles, 4 MiB, at any length.

Every exponent is <= 0; decays multiply float32 values; sums are float32. Matmuls take the state
and the scores rounded to bfloat16, as the output is. What goes into the state is split into a high
and a low bfloat16 part, exact to 2^-16, so that the state is that of the recurrence.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.compilation import Compilation


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tokens of a block, value channels of a program, and how a program is laid out."""

    block_tokens: int
    block_values: int
    num_warps: int
    num_stages: int


# Hopper and Blackwell multiply out of shared memory, and 8 warps leave a thread half of what 4
# would have to hold: 4 spill. Ampere holds operands in registers too, so everything is halved.
_TILES = {8: Tiles(32, 32, 4, 2), 9: Tiles(64, 64, 8, 3)}

# One to a multiprocessor of an H100, fixed: no result depends on the size of the GPU.
_NUM_PROGRAMS = 128
_FEWEST_BLOCKS = 8  # of a group: with fewer, starting it costs more than its work


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """bfloat16 q, k, v with dense channels; float32 slopes and state, contiguous."""
    (num_tokens, num_heads, key_dim), value_dim = q.shape, v.shape[-1]
    tiles = _tiles(q.device)
    q, k, v = (_with_near_rows(x, tiles.block_tokens) for x in (q, k, v))
    constants = _constants(
        tiles, num_heads, key_dim, value_dim, *(x.stride()[:2] for x in (q, k, v))
    )
    num_tiles = triton.cdiv(value_dim, constants["BLOCK_E"])
    group_tokens = _group_tokens(num_tokens, tiles.block_tokens, num_heads * num_tiles)
    num_groups = triton.cdiv(num_tokens, group_tokens)
    options = {"num_warps": tiles.num_warps, "num_stages": tiles.num_stages}
    out = torch.empty(num_tokens, num_heads, value_dim, dtype=q.dtype, device=q.device)
    new_state = torch.empty_like(state)
    sums = torch.empty(num_groups - 1, *state.shape, dtype=torch.float32, device=q.device)
    if num_groups > 1:
        group_sums[num_tiles, num_heads, num_groups - 1](
            k, v, slopes, sums, group_tokens, **_without_q(constants), **options
        )
    outputs[num_tiles, num_heads, num_groups](
        q, k, v, slopes, state, sums, out, new_state, num_tokens, group_tokens,
        **constants, **options,
    )  # fmt: skip
    return out, new_state


def _tiles(device: torch.device) -> Tiles:
    if device.type != "cuda":
        return _TILES[9]
    major, _ = torch.cuda.get_device_capability(device)
    return _TILES[8 if major <= 8 else 9]


def _with_near_rows(x: Tensor, block_tokens: int) -> Tensor:
    """`x`, copied if a block of its rows spans 2^31 elements: in a block addresses are 32 bits."""
    return x if block_tokens * x.stride(0) < 2**31 else x.contiguous()


def _group_tokens(num_tokens: int, block_tokens: int, programs_per_group: int) -> int:
    most_groups = max(_NUM_PROGRAMS // programs_per_group, 1)
    num_blocks = -(-num_tokens // (block_tokens * most_groups))
    return block_tokens * max(num_blocks, _FEWEST_BLOCKS)


def _constants(
    tiles: Tiles,
    num_heads: int,
    key_dim: int,
    value_dim: int,
    q_stride: tuple[int, ...],
    k_stride: tuple[int, ...],
    v_stride: tuple[int, ...],
) -> dict[str, int]:
    """What a kernel is compiled for. Strides are among it, since addresses then need no registers.

    They are the same for every chunk of every prefill of a model.
    """
    sizes = {"H": num_heads, "D": key_dim, "E": value_dim}
    strides = dict(zip(("Q_TOKEN", "Q_HEAD"), q_stride, strict=True))
    strides |= dict(zip(("K_TOKEN", "K_HEAD"), k_stride, strict=True))
    strides |= dict(zip(("V_TOKEN", "V_HEAD"), v_stride, strict=True))
    blocks = {
        "BLOCK_T": tiles.block_tokens,
        "BLOCK_D": max(16, triton.next_power_of_2(key_dim)),
        "BLOCK_E": min(tiles.block_values, max(16, triton.next_power_of_2(value_dim))),
    }
    return sizes | strides | blocks


def _without_q(constants: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in constants.items() if not name.startswith("Q_")}


@triton.jit
def group_sums(
    k, v, slopes, sums, group_tokens,
    H: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    K_TOKEN: tl.constexpr, K_HEAD: tl.constexpr, V_TOKEN: tl.constexpr, V_HEAD: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """sums[g] = sum_j e^(-s (n - j)) k_j^T v_j over the n tokens of group g, all of them real."""
    tile, head, group = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    slope = tl.load(slopes + head)
    first = group * group_tokens
    k += first.to(tl.int64) * K_TOKEN + head * K_HEAD
    v += first.to(tl.int64) * V_TOKEN + head * V_HEAD
    S = tl.zeros((BLOCK_D, BLOCK_E), tl.float32)
    for _ in range(0, group_tokens, BLOCK_T):
        k_rows = _rows(k, K_TOKEN, BLOCK_T, BLOCK_T, 0, D, BLOCK_D)
        v_rows = _rows(v, V_TOKEN, BLOCK_T, BLOCK_T, tile * BLOCK_E, E, BLOCK_E)
        S = _add_block(S, k_rows, v_rows, slope, BLOCK_T, BLOCK_T)
        k += BLOCK_T * K_TOKEN
        v += BLOCK_T * V_TOKEN
    at, inside = _in_state(tile, D, E, BLOCK_D, BLOCK_E)
    tl.store(sums + (group.to(tl.int64) * H + head) * D * E + at, S, mask=inside)


@triton.jit
def outputs(
    q, k, v, slopes, state, sums, out, new_state, num_tokens, group_tokens,
    H: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    Q_TOKEN: tl.constexpr, Q_HEAD: tl.constexpr,
    K_TOKEN: tl.constexpr, K_HEAD: tl.constexpr, V_TOKEN: tl.constexpr, V_HEAD: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    tile, head, group = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    slope = tl.load(slopes + head)
    first = group * group_tokens
    q += first.to(tl.int64) * Q_TOKEN + head * Q_HEAD
    k += first.to(tl.int64) * K_TOKEN + head * K_HEAD
    v += first.to(tl.int64) * V_TOKEN + head * V_HEAD
    out += (first.to(tl.int64) * H + head) * E
    at, inside = _in_state(tile, D, E, BLOCK_D, BLOCK_E)
    S = tl.load(state + head * D * E + at, mask=inside, other=0.0)
    sums += head * D * E
    for _ in range(group):
        S = S * tl.exp(-slope * group_tokens) + tl.load(sums + at, mask=inside, other=0.0)
        sums += H * D * E

    i = tl.arange(0, BLOCK_T)
    distance = i[:, None] - i[None, :]
    within = tl.where(distance >= 0, tl.exp(-slope * tl.maximum(distance, 0)), 0.0)
    column = tile * BLOCK_E + tl.arange(0, BLOCK_E)
    for start in range(first, min(first + group_tokens, num_tokens), BLOCK_T):
        m = min(num_tokens - start, BLOCK_T)
        q_rows = _rows(q, Q_TOKEN, m, BLOCK_T, 0, D, BLOCK_D)
        k_rows = _rows(k, K_TOKEN, m, BLOCK_T, 0, D, BLOCK_D)
        v_rows = _rows(v, V_TOKEN, m, BLOCK_T, tile * BLOCK_E, E, BLOCK_E)
        o_rows = tl.dot(q_rows, S.to(tl.bfloat16)) * tl.exp(-slope * (i + 1))[:, None]
        scores = tl.dot(q_rows, tl.trans(k_rows)) * within
        o_rows += tl.dot(scores.to(tl.bfloat16), v_rows)
        real = (i < m)[:, None]
        if E % BLOCK_E:
            real = real & (column < E)[None, :]
        tl.store(out + i[:, None] * H * E + column[None, :], o_rows.to(tl.bfloat16), mask=real)
        S = _add_block(S, k_rows, v_rows, slope, m, BLOCK_T)
        q += BLOCK_T * Q_TOKEN
        k += BLOCK_T * K_TOKEN
        v += BLOCK_T * V_TOKEN
        out += BLOCK_T * H * E
    if group == tl.num_programs(2) - 1:
        tl.store(new_state + head * D * E + at, S, mask=inside)


@triton.jit
def _add_block(S, k_rows, v_rows, slope, m, BLOCK_T: tl.constexpr):
    """S' = e^(-s m) S + K^T (V e^(-s (m - j))); rows after the m-th are zero."""
    j = tl.arange(0, BLOCK_T) + 1
    until_end = tl.exp(-slope * tl.maximum(m - j, 0))
    decayed = v_rows.to(tl.float32) * until_end[:, None]
    high = decayed.to(tl.bfloat16)
    low = (decayed - high.to(tl.float32)).to(tl.bfloat16)
    S = S * tl.exp(-slope * m) + tl.dot(tl.trans(k_rows), high)
    return S + tl.dot(tl.trans(k_rows), low)


@triton.jit
def _rows(
    pointer, STRIDE: tl.constexpr, num_rows, BLOCK_T: tl.constexpr,
    from_column, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The first `num_rows` rows, some of their columns; zero beyond."""
    row = tl.arange(0, BLOCK_T)
    column = from_column + tl.arange(0, BLOCK)
    inside = (row < num_rows)[:, None]
    if WIDTH % BLOCK:
        inside = inside & (column < WIDTH)[None, :]
    return tl.load(pointer + row[:, None] * STRIDE + column[None, :], mask=inside, other=0.0)


@triton.jit
def _in_state(tile, D: tl.constexpr, E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr):
    """Where a tile lies in a state [D, E], and which of it is inside."""
    d = tl.arange(0, BLOCK_D)[:, None]
    e = tile * BLOCK_E + tl.arange(0, BLOCK_E)[None, :]
    inside = tl.full((BLOCK_D, BLOCK_E), True, tl.int1)
    if D % BLOCK_D:
        inside = inside & (d < D)
    if E % BLOCK_E:
        inside = inside & (e < E)
    return d * E + e, inside


def _compilations(
    num_heads: int, head_dim: int, tiles: Tiles, capabilities: tuple[int, ...]
) -> list[Compilation]:
    """Both kernels for q, k, v that are views of fused rows [q_h|k_h|v_h]."""
    stride = (num_heads * 3 * head_dim, 3 * head_dim)
    constants = _constants(tiles, num_heads, head_dim, head_dim, stride, stride, stride)
    kinds = dict.fromkeys(("q", "k", "v", "out"), "*bf16")
    kinds |= dict.fromkeys(("slopes", "state", "sums", "new_state"), "*fp32")
    kinds |= dict.fromkeys(("num_tokens", "group_tokens"), "i32")
    aligned = tuple(name for name in kinds if name != "num_tokens")
    kinds |= dict.fromkeys(constants, "constexpr")
    return [
        Compilation(
            name=f"lightning {kernel.__name__} bf16 {num_heads} x {head_dim}",
            kernel=kernel,
            signature={name: kinds[name] for name in kernel.arg_names},
            constants={name: x for name, x in constants.items() if name in kernel.arg_names},
            num_warps=tiles.num_warps,
            num_stages=tiles.num_stages,
            aligned=tuple(name for name in aligned if name in kernel.arg_names),
            capabilities=capabilities,
        )
        for kernel in (group_sums, outputs)
    ]


COMPILATIONS = tuple(
    compilation
    for num_heads, head_dim in ((64, 128), (9, 64))
    for major, capabilities in ((8, (80,)), (9, (90, 100)))
    for compilation in _compilations(num_heads, head_dim, _TILES[major], capabilities)
)
