"""Maths on tensors. Knows no model, no file, no terminal.

Every op is a plain function with one public signature here; its folder holds `naive.py`, the
definition in float64, and the implementations tested against it. `implementation` picks one by
name; by default the registry picks by device and dtype.
"""

import os

# OpenMP reads it once, when torch is loaded. Threads that spin between parallel regions use up
# their share of a core that another program wants, too, and are then waited for: milliseconds a
# region, where waking a sleeping thread takes microseconds.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import attention as _attention
from kernels import delta as _delta
from kernels import experts as _experts
from kernels import geglu as _geglu
from kernels import lightning as _lightning
from kernels import linear as _linear
from kernels import norm as _norm
from kernels import rotary as _rotary
from kernels import swiglu as _swiglu
from kernels.attention import BlockRule, Int8Tensor, KeyBlocks, Parts, Segments
from kernels.experts import ExpertStack
from kernels.ggml import BlockType, GgmlWeight
from kernels.linear import fp16_weight as _fp16_weight
from kernels.linear import jit as _linear_jit
from kernels.linear import narrow as _narrow
from kernels.linear import onednn as _onednn
from kernels.linear.fp16_weight import PackedWeight
from kernels.linear.ggml import jit as _ggml_jit
from kernels.quantized import Int4Weight, Int8Weight, StackedWeight, Weight

__all__ = [
    "BlockRule",
    "BlockType",
    "ExpertStack",
    "GgmlWeight",
    "Int4Weight",
    "Int8Tensor",
    "Int8Weight",
    "KeyBlocks",
    "PackedWeight",
    "StackedWeight",
    "attention",
    "attention_of_blocks",
    "attention_received",
    "block_logsumexp",
    "block_sparse_attention",
    "choose_blocks",
    "embedding",
    "experts",
    "gated_delta",
    "gated_delta_state",
    "geglu",
    "is_batch_invariant",
    "joint_attention",
    "lightning_attention",
    "lightning_inputs",
    "lightning_output",
    "lightning_state",
    "linear",
    "prepack",
    "rms_norm",
    "rms_norm_of_sum",
    "rotate",
    "short_convolution",
    "swiglu",
]


def lightning_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    slopes: Tensor,
    state: Tensor,
    *,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Lightning Attention over T tokens that follow the tokens summed up in `state`.

    S_t = exp(-slope) S_(t-1) + k_t^T v_t,  o_t = q_t S_t   (MiniMax-01, arXiv 2501.08313, eq. 6-9)

    Shapes: q, k [T, H, D]; v [T, H, E]; slopes [H], positive, in nats per token; state [H, D, E]
    float32. Any T >= 1. Returns (out [T, H, E] in q's dtype, new state float32), both with
    gradients where q has one; the arguments are not changed. Raises ValueError if nothing serves
    this device and dtype.
    """
    if implementation is None and torch.is_grad_enabled() and q.requires_grad:
        implementation = "chunked"  # the others have no gradient
    choice = _lightning.REGISTRY.choose(q.device, q.dtype, implementation)
    return choice.function(q, k, v, slopes, state)


def lightning_state(
    k: Tensor,
    v: Tensor,
    slopes: Tensor,
    state: Tensor,
    num_tokens: Tensor,
    *,
    implementation: str | None = None,
) -> Tensor:
    """The state that `lightning_attention` leaves after the first `num_tokens` of T tokens.

    What commits the accepted ones among verified drafts: verify all T from `state`, keep k and v,
    and replace `state` by this. Nothing is undone, so nothing is lost to rounding.

    Shapes: as there; `num_tokens` is one integer, 0 to T, on the same device, which is not asked
    for it. "triton" gives the bits of decoding those tokens one by one. Returns [H, D, E] float32.
    """
    choice = _lightning.STATE.choose(k.device, k.dtype, implementation)
    return choice.function(k, v, slopes, state, num_tokens)


def lightning_inputs(
    qkv: Tensor,
    num_heads: int,
    *,
    silu: bool = False,
    norm: tuple[Tensor, Tensor, float] | None = None,
    rope: tuple[Tensor, Tensor] | None = None,
    scale: float = 1.0,
    heads_together: int = 1,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v for `lightning_attention` from the fused rows [q_h|k_h|v_h] of each head h.

    With `heads_together` n the rows are [q|k|v] of n heads, then of the next n: all q first where
    that is `num_heads`, which it divides.

    In this order, each if asked for: silu of all three; with `norm` (q weight, k weight, eps)
    RMSNorm of q and k over a head's channels (arXiv 1910.07467, eq. 4); with `rope` (cosine, sine)
    rotation of their pairs (i, i + R / 2) (arXiv 2104.09864); `scale` times q.

    Shapes: qkv [T, H 3 D]; weights [D]; cosine, sine [T, 1, R / 2] float32, R <= D. Returns three
    [T, H, D] in qkv's dtype, perhaps views of it; qkv is not changed.
    """
    choice = _lightning.INPUTS.choose(qkv.device, qkv.dtype, implementation)
    return choice.function(qkv, num_heads, silu, norm, rope, scale, heads_together)


def lightning_output(
    out: Tensor,
    gate: Tensor,
    weight: Tensor,
    eps: float,
    groups: int = 1,
    *,
    implementation: str | None = None,
) -> Tensor:
    """sigmoid(gate) * out / rms(out) * weight, the rms over all heads' channels, in float32.

    With `groups`, each of so many equal groups of the channels has its own rms.
    Shapes: out [T, H, E]; gate [T, H E], before the sigmoid; weight [H E]. Returns [T, H E] in
    out's dtype.
    """
    choice = _lightning.OUTPUT.choose(out.device, out.dtype, implementation)
    return choice.function(out, gate, weight, eps, groups)


def gated_delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    beta: Tensor,
    state: Tensor,
    *,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The gated delta rule over T tokens that follow the tokens summed up in `state`.

    S_t = e^(g_t) S_(t-1) + k_t^T beta_t (v_t - k_t e^(g_t) S_(t-1)),  o_t = q_t S_t
    (Gated DeltaNet, arXiv 2412.06464, eq. 10, with the key dimension of S first)

    Shapes: q, k [T, G, D], the norm of each k at most 1; v [T, H, E], H a multiple of G: head h
    reads key head h // (H / G); decay g [T, H], not positive, in nats; beta [T, H], 0 to 1; state
    [H, D, E] float32. Any T >= 1. Returns (out [T, H, E] in q's dtype, new state float32); the
    arguments are not changed. No gradients. Of up to 16 tokens each gets the bits it gets alone.
    """
    choice = _delta.REGISTRY.choose(q.device, q.dtype, implementation)
    return choice.function(q, k, v, decay, beta, state)


def gated_delta_state(
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    beta: Tensor,
    state: Tensor,
    num_tokens: Tensor,
    *,
    implementation: str | None = None,
) -> Tensor:
    """The state that `gated_delta` leaves after the first `num_tokens` of T tokens.

    For accepted drafts, as `lightning_state`. Shapes: as there; `num_tokens` is one integer, 0 to
    T. Returns [H, D, E] float32.
    """
    choice = _delta.STATE.choose(k.device, k.dtype, implementation)
    return choice.function(k, v, decay, beta, state, num_tokens)


def short_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    state: Tensor,
    *,
    silu: bool = False,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Each channel's causal convolution over T tokens that follow the rows in `state`.

    out_t = sum_i weight_i x_(t - K + 1 + i) + bias, i = 0 .. K - 1, and silu of it if asked for
    (Gated DeltaNet, arXiv 2412.06464, section 3.4)

    Shapes: x [T, C]; weight [C, K], its last column the token's own; bias [C]; state [K - 1, C],
    the rows of x before, zeros at the beginning. Returns (out [T, C], new state [K - 1, C]), both
    in x's dtype; the arguments are not changed. Of up to 16 tokens each gets the bits it gets
    alone.
    """
    choice = _delta.CONVOLUTION.choose(x.device, x.dtype, implementation)
    return choice.function(x, weight, bias, state, silu)


def attention(
    q: Tensor,
    segments: Segments,
    scale: float,
    *,
    window: int | None = None,
    sinks: int = 0,
    implementation: str | None = None,
) -> Tensor:
    """Causal softmax attention of the last T positions over all S >= T positions.

    out_i = sum_j softmax_j(scale q_i k_j) v_j over j <= p = S - T + i, heads in groups: query head
    h reads key-value head h // (H / G)   (arXiv 2305.13245). With `window` >= 1 only over those j
    that are > p - window or < `sinks`   (arXiv 2309.17453)

    Shapes: q [T, H, D]; `segments` are the S keys and values in order, cut anywhere, each
    (k [n, G, D], v [n, G, D]), in q's dtype or as `Int8Tensor`, which are made dense a tile at a
    time. Memory beyond the result is O(T + S), never T x S; with a window the time is
    O(T (window + sinks)). Returns [T, H, D] in q's dtype; the arguments are not changed. Where the
    result needs a gradient, ask for `implementation="sdpa"`.
    """
    if window is not None and window < 1:
        raise ValueError(f"attention: a window of {window} tokens; a query must see itself")
    choice = _attention.REGISTRY.choose(q.device, q.dtype, implementation)
    return choice.function(q, segments, scale, window, sinks)


def joint_attention(
    parts: Parts,
    scale: float,
    *,
    window: int | None = None,
    implementation: str | None = None,
) -> Tensor:
    """Attention over the keys of several parts together; each has the queries in a form of its own.

    out_i = sum_p sum_j softmax_pj(scale q^p_i k^p_j) v^p_j. For keys that stand at other distances
    than where they were read: q^p is q rotated for the positions that part p is given (ReRoPE and
    its kin give far keys one distance). Of the last part the last T keys came with the queries, and
    each query sees them up to its own, of the rest all, or a `window` as in `attention`; other
    parts it sees whole.

    Shapes: of each part q [T, H, D] and segments as in `attention`. No gradients. Of up to 16
    queries each gets the bits it gets alone. Returns [T, H, D] in q's dtype.
    """
    q = parts[-1][0]
    choice = _attention.JOINT.choose(q.device, q.dtype, implementation)
    return choice.function(parts, scale, window)


def attention_received(
    q: Tensor, segments: Segments, scale: float, *, implementation: str | None = None
) -> Tensor:
    """How much of the attention of the last T positions each of all S >= T positions gets.

    mass_j = sum_h sum_i softmax_j(scale q_i k_j) over j <= p = S - T + i: `attention` without a
    window, its weights instead of what they weigh. The masses add up to T H.

    Shapes: as there; the values are not read. Memory beyond the result is O(T) times a tile of
    keys. No gradients. Returns [S] float32.
    """
    choice = _attention.RECEIVED.choose(q.device, q.dtype, implementation)
    return choice.function(q, segments, scale)


def block_logsumexp(
    rows: Tensor,
    keys: Tensor,
    scale: float,
    block_tokens: int,
    *,
    first: int = 0,
    implementation: str | None = None,
) -> Tensor:
    """log sum_j exp(scale row k_j) over the keys of each block, from key `first` on.

    A softmax over the blocks of all tiles is each block's share of attention.

    Shapes: rows [R, D], keys [n, D], float32. No gradients. Returns [R, ceil(n / block_tokens)]
    float32, minus infinity for a block of which no key counts.
    """
    choice = _attention.BLOCK_SCORES.choose(rows.device, rows.dtype, implementation)
    return choice.function(rows, keys, scale, block_tokens, first)


def choose_blocks(
    q: Tensor,
    sums: Sequence[Tensor],
    num_keys: int,
    scale: float,
    rule: BlockRule,
    *,
    implementation: str | None = None,
) -> Tensor:
    """The blocks of keys that each of the last T of `num_keys` positions reads, by KV head.

    With f_j the mean of strides j and j + 1 and c_i that of strides 4i to 4i + 7, where all of
    their keys are the query's past, p_j = sum_h exp(scale q_h f_j - logsumexp_i scale q_h c_i)
    over the heads h of a KV head; a block is worth the largest p_j of a mean that touches it
    (InfLLM-V2, arXiv 2509.24663, section 3). The best are chosen, after the first and the nearest
    ones (`BlockRule`); of equal ones the lower.

    Shapes: q [T, H, D]; `sums` [G, n, D] float32 pieces, in order, of the sums of every `stride`
    keys. Every query needs 8 strides of past. No gradients. Of up to 16 queries on a CPU each gets
    what it gets alone. Returns [T, G, ceil(num_keys / block)] bool.
    """
    choice = _attention.BLOCK_CHOICE.choose(q.device, q.dtype, implementation)
    return choice.function(q, sums, num_keys, scale, rule)


def block_sparse_attention(
    q: Tensor,
    segments: Segments,
    chosen: Tensor,
    block_tokens: int,
    scale: float,
    *,
    implementation: str | None = None,
) -> Tensor:
    """`attention` of each query over the keys of its chosen blocks only, up to its own position.

    Shapes: as there; `chosen` [T, G, N] bool, by KV head, in which each query has a block with a
    key it sees. Costs what is chosen, not S. No gradients. Returns [T, H, D] in q's dtype.
    """
    choice = _attention.BLOCK_SPARSE.choose(q.device, q.dtype, implementation)
    return choice.function(q, segments, chosen, block_tokens, scale)


def attention_of_blocks(
    q: Tensor,
    keys: KeyBlocks,
    scale: float,
    *,
    window: int | None = None,
    sinks: int = 0,
    implementation: str | None = None,
) -> Tensor:
    """`attention` over the first `keys.num_keys` keys of blocks that have room for more.

    Shapes: q [T, H, D]. "triton" does not ask the device how many keys there are, so the call can
    be recorded in a CUDA graph and replayed while the blocks fill; call it once before, which lays
    out what it needs. For head sizes it does not know (see `kernels.attention.triton`) it asks.
    No gradients. Returns [T, H, D] in q's dtype.
    """
    choice = _attention.BLOCKS.choose(q.device, q.dtype, implementation)
    return choice.function(q, keys, scale, window, sinks)


def experts(
    x: Tensor,
    expert_ids: Tensor,
    expert_weights: Tensor,
    gate_up: Weight | ExpertStack,
    down: Weight | ExpertStack,
    *,
    implementation: str | None = None,
) -> Tensor:
    """Mixture of experts: each token's K chosen SwiGLU experts, weighted and summed.

    y = sum_k w_k  down_e (silu(gate_e x) * up_e x),  e = expert_ids[t, k]

    Shapes: x [T, D]; expert_ids [T, K] int64, distinct in a row; expert_weights [T, K];
    gate_up [N, 2F, D], gate rows first; down [N, D, F]; each plain, in x's dtype, or quantised, or
    an `ExpertStack`, whose plain weights may be in a narrower dtype. Returns [T, D] in x's dtype.
    The sum runs in expert order, so a run is reproducible bit by bit.
    """
    if implementation is None and isinstance(gate_up, ExpertStack | GgmlWeight | StackedWeight):
        implementation = "grouped"  # the others read the whole stack, and know no blocks
    choice = _experts.REGISTRY.choose(x.device, x.dtype, implementation)
    return choice.function(x, expert_ids, expert_weights, gate_up, down)


def linear(
    x: Tensor, weight: Weight | PackedWeight, *, implementation: str | None = None
) -> Tensor:
    """x @ weight^T. Shapes: x [..., I]; weight [O, I], plain, from `prepack`, or quantised.

    A plain weight may be float16 or bfloat16 and x float32. Returns [..., O] in x's dtype.
    """
    if isinstance(weight, PackedWeight):
        return _fp16_weight.linear(x, weight)
    if not isinstance(weight, Tensor) or _narrow.serves(x, weight):
        if x.dim() == 2:
            return _linear.of_rows(x, weight, implementation)
        product = _linear.of_rows(x.reshape(-1, x.shape[-1]), weight, implementation)
        return product.view(*x.shape[:-1], -1)
    if implementation is None and weight.is_mkldnn:
        implementation = "onednn"
    choice = _linear.REGISTRY.choose(x.device, x.dtype, implementation)
    return choice.function(x, weight)


def embedding(ids: Tensor, weight: Tensor | GgmlWeight) -> Tensor:
    """The rows `ids` of `weight` [N, I], of which only these are made float32.

    Shapes: ids [...] int64. Returns [..., I] float32.
    """
    if isinstance(weight, Tensor):
        return F.embedding(ids, weight).float()
    rows = weight.packed[ids.flatten()]
    return GgmlWeight(weight.type, rows).dequantize().view(*ids.shape, weight.shape[-1])


def is_batch_invariant(weight: Weight | PackedWeight) -> bool:
    """Whether `linear` gives each of M <= 16 float32 rows the bits it gives it alone, on a CPU."""
    if isinstance(weight, PackedWeight):
        return True
    if isinstance(weight, Tensor):
        return _narrow.supports_weight(weight)
    if isinstance(weight, StackedWeight):
        return all(map(is_batch_invariant, weight.parts))
    if isinstance(weight, GgmlWeight):
        return _ggml_jit.supports_weight(weight)
    return _linear_jit.supports_weight(weight)


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, groups: int = 1, *, implementation: str | None = None
) -> Tensor:
    """x / rms(x) * weight over the last dimension   (arXiv 1910.07467, eq. 4), in float32.

    With `groups`, each of so many equal groups of the last dimension has its own rms.
    Shapes: x [..., D]; weight [D]. Returns [..., D] in x's dtype.
    """
    choice = _norm.REGISTRY.choose(x.device, x.dtype, implementation)
    return choice.function(x, weight, eps, groups)


def rms_norm_of_sum(
    skip: Tensor,
    block: Tensor,
    alpha: float,
    beta: float,
    weight: Tensor,
    eps: float,
    *,
    implementation: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The residual sum alpha skip + beta block, and the `rms_norm` of it.

    Shapes: skip, block [..., D]; weight [D]. Returns two [..., D] in skip's dtype; what is normed
    is the sum as returned, rounded.
    """
    choice = _norm.SUM_REGISTRY.choose(skip.device, skip.dtype, implementation)
    return choice.function(skip, block, alpha, beta, weight, eps)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor, *, implementation: str | None = None) -> Tensor:
    """Rotates the pairs (i, i + R / 2) of each head's first R dimensions   (arXiv 2104.09864).

    Shapes: x [T, ..., H, D]; cosine, sine float32 [T, 1, R / 2] of each position, R <= D, or with
    as many dimensions as x. Returns [T, ..., H, D] in x's dtype, x is not changed.
    """
    choice = _rotary.REGISTRY.choose(x.device, x.dtype, implementation)
    return choice.function(x, cosine, sine)


def swiglu(gate_up: Tensor, *, implementation: str | None = None) -> Tensor:
    """silu(gate) * up   (arXiv 2002.05202, eq. 6), silu(x) = x sigmoid(x).

    Shapes: gate_up [..., 2F], the gate first. Returns [..., F] in its dtype.
    """
    choice = _swiglu.REGISTRY.choose(gate_up.device, gate_up.dtype, implementation)
    return choice.function(gate_up)


def geglu(gate_up: Tensor, *, implementation: str | None = None) -> Tensor:
    """gelu(gate) * up   (arXiv 2002.05202, eq. 6), gelu in its tanh form (arXiv 1606.08415).

    Shapes: gate_up [..., 2F], the gate first. Returns [..., F] in its dtype.
    """
    choice = _geglu.REGISTRY.choose(gate_up.device, gate_up.dtype, implementation)
    return choice.function(gate_up)


def prepack(weight: Tensor, *, small_m: bool = False) -> Tensor | PackedWeight:
    """`weight` [O, I] in the layout `linear` is fastest with here, or `weight` itself.

    With `small_m` also in float16, where that keeps what the weight is: matmuls of M up to 16
    are then rounded to about 2e-4 of their size, take half the time, and are batch-invariant. Half
    as much memory again.
    For inference: a packed weight has no gradient and can only be given to `linear`.
    """
    if small_m and _fp16_weight.can_be_fp16(weight):
        return _fp16_weight.prepack(weight)
    return _onednn.prepack(weight) if _onednn.can_prepack(weight) else weight
