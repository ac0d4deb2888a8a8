"""The definition: the whole score matrix, in float64."""

import torch
from torch import Tensor

from kernels.attention.int8 import Segments, dense


def attention(
    q: Tensor,
    segments: Segments,
    scale: float,
    window: int | None = None,
    sinks: int = 0,
) -> Tensor:
    k = torch.cat([dense(keys, torch.float64).double() for keys, _ in segments])  # [S, G, D]
    v = torch.cat([dense(values, torch.float64).double() for _, values in segments])
    num_queries, num_heads, _ = q.shape
    num_keys, num_kv_heads, _ = k.shape
    k = k.repeat_interleave(num_heads // num_kv_heads, dim=1)  # [S, H, D]
    v = v.repeat_interleave(num_heads // num_kv_heads, dim=1)
    scores = scale * torch.einsum("thd,shd->hts", q.double(), k)
    query = torch.arange(num_keys - num_queries, num_keys, device=q.device)[:, None]
    key = torch.arange(num_keys, device=q.device)
    hidden = key > query
    if window is not None:
        hidden |= (key <= query - window) & (key >= sinks)
    weights = scores.masked_fill(hidden, -torch.inf).softmax(dim=-1)
    return torch.einsum("hts,shd->thd", weights, v)
