"""Maths on tensors. Knows no model, no file, no terminal.

Every op is a plain function with one public signature here; its folder holds `naive.py`, the
definition in float64, and the implementations tested against it. `implementation` picks one by
name; by default the registry picks by device and dtype.
"""

from torch import Tensor

from kernels import attention as _attention
from kernels import experts as _experts
from kernels import lightning as _lightning
from kernels import linear as _linear
from kernels.attention import Int8Rows, Segments
from kernels.linear import packed as _packed

__all__ = ["Int8Rows", "attention", "experts", "lightning_attention", "linear", "prepack"]


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
    float32. Any T >= 1. Returns (out [T, H, E] in q's dtype, new state float32); the arguments are
    not changed. Raises ValueError if nothing serves this device and dtype.
    """
    choice = _lightning.REGISTRY.choose(q.device, q.dtype, implementation)
    return choice.function(q, k, v, slopes, state)


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
    (k [n, G, D], v [n, G, D]), in q's dtype or as `Int8Rows`, which are made dense a tile at a
    time. Memory beyond the result is O(T + S), never T x S; with a window the time is
    O(T (window + sinks)). Returns [T, H, D] in q's dtype; the arguments are not changed.
    """
    if window is not None and window < 1:
        raise ValueError(f"attention: a window of {window} tokens; a query must see itself")
    choice = _attention.REGISTRY.choose(q.device, q.dtype, implementation)
    return choice.function(q, segments, scale, window, sinks)


def experts(
    x: Tensor,
    expert_ids: Tensor,
    expert_weights: Tensor,
    gate_up: Tensor,
    down: Tensor,
    *,
    implementation: str | None = None,
) -> Tensor:
    """Mixture of experts: each token's K chosen SwiGLU experts, weighted and summed.

    y = sum_k w_k  down_e (silu(gate_e x) * up_e x),  e = expert_ids[t, k]

    Shapes: x [T, D]; expert_ids [T, K] int64, distinct in a row; expert_weights [T, K];
    gate_up [N, 2F, D], gate rows first; down [N, D, F]. Returns [T, D] in x's dtype. The sum runs
    in expert order, so a run is reproducible bit by bit.
    """
    choice = _experts.REGISTRY.choose(x.device, x.dtype, implementation)
    return choice.function(x, expert_ids, expert_weights, gate_up, down)


def linear(x: Tensor, weight: Tensor, *, implementation: str | None = None) -> Tensor:
    """x @ weight^T. Shapes: x [T, I]; weight [O, I], plain or from `prepack`.

    Returns [T, O] in x's dtype.
    """
    if implementation is None and weight.is_mkldnn:
        implementation = "packed"
    choice = _linear.REGISTRY.choose(x.device, x.dtype, implementation)
    return choice.function(x, weight)


def prepack(weight: Tensor) -> Tensor:
    """`weight` [O, I] in the layout `linear` is fastest with here, or `weight` itself.

    For inference: a packed weight has no gradient and can only be given to `linear`.
    """
    return _packed.prepack(weight) if _packed.can_prepack(weight) else weight
