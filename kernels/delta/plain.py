"""The short convolution in torch's own operations, a stretch of tokens at a time in the cache."""

import torch
import torch.nn.functional as F
from torch import Tensor

_TOKENS = 64  # at a time


def short_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor, silu: bool
) -> tuple[Tensor, Tensor]:
    before = weight.shape[1] - 1
    taps = weight.float().T.contiguous()  # [K, C]
    rows = torch.cat([state.to(x.dtype), x])  # [K - 1 + T, C]
    out = torch.empty_like(x)
    for start in range(0, len(x), _TOKENS):
        some = rows[start : start + _TOKENS + before].float()
        total = some[before:] * taps[before]
        for tap in range(before):
            total.addcmul_(some[tap : tap + len(total)], taps[tap])
        if bias is not None:
            total += bias
        out[start : start + _TOKENS] = F.silu(total, inplace=True) if silu else total
    return out, rows[len(x) :].clone()
