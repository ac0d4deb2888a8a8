"""Lightning Attention in Triton: few tokens in turn, many bfloat16 tokens in blocks.

No kernel here has a backward pass: where a gradient is wanted, the torch form runs.
"""

import torch
from torch import Tensor

from kernels import gradients
from kernels.lightning import chunked, dense, triton_decode, triton_layer, triton_prefill

COMPILATIONS = (
    *triton_prefill.COMPILATIONS,
    *triton_decode.COMPILATIONS,
    *triton_layer.COMPILATIONS,
)

# As many tokens as speculation verifies at once; they get the bits of one token at a time.
MOST_TOKENS_IN_TURN = 16


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    if gradients.wanted(q, k, v, slopes, state):
        return chunked.lightning_attention(q, k, v, slopes, state)
    q, k, v = map(_dense_channels, (q, k, v))
    slopes, state = slopes.float().contiguous(), state.float().contiguous()
    if q.dtype == torch.bfloat16 and q.shape[0] > MOST_TOKENS_IN_TURN:
        return triton_prefill.lightning_attention(q, k, v, slopes, state)
    return triton_decode.lightning_attention(q, k, v, slopes, state)


def lightning_state(
    k: Tensor, v: Tensor, slopes: Tensor, state: Tensor, num_tokens: Tensor
) -> Tensor:
    if gradients.wanted(k, v, slopes, state):
        return chunked.lightning_state(k, v, slopes, state, num_tokens)
    k, v = map(_dense_channels, (k, v))
    slopes, state = slopes.float().contiguous(), state.float().contiguous()
    return triton_decode.lightning_state(k, v, slopes, state, num_tokens)


def lightning_inputs(
    qkv: Tensor,
    num_heads: int,
    silu: bool,
    norm: tuple[Tensor, Tensor, float] | None,
    rope: tuple[Tensor, Tensor] | None,
    scale: float,
    heads_together: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    changed = silu or norm is not None or rope is not None or scale != 1.0
    if not changed or gradients.wanted(qkv, *(norm or ())[:2]):
        return dense.lightning_inputs(qkv, num_heads, silu, norm, rope, scale, heads_together)
    return triton_layer.lightning_inputs(
        _dense_channels(qkv), num_heads, silu, norm, rope, scale, heads_together
    )


def lightning_output(out: Tensor, gate: Tensor, weight: Tensor, eps: float, groups: int) -> Tensor:
    too_wide = gate.shape[1] // groups > triton_layer.LARGEST_GROUP
    if too_wide or gradients.wanted(out, gate, weight):
        return dense.lightning_output(out, gate, weight, eps, groups)
    out = _dense_channels(out.reshape(gate.shape))
    return triton_layer.lightning_output(out, _dense_channels(gate), weight, eps, groups)


def _dense_channels(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
