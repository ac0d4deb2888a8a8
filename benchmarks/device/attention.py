"""Softmax attention at MiniMax-M1's shape: 64 heads, 8 of keys and values, 128 channels."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from benchmarks.device.bench import Bench
from engine.layers.kv_cache import BLOCK_TOKENS
from kernels import Int8Tensor, KeyBlocks
from kernels.attention import Rows

HEADS, KV_HEADS, HEAD_DIM = 64, 8, 128
_ODD = 1000  # tokens beyond the last border: the final block is a partial one


def _blocks(bench: Bench, num_keys: int, kv_heads: int, int8: bool) -> list[tuple[Rows, Rows]]:
    """As a `KVCache` has them: blocks apart, head-major, the last one partly filled."""
    size = bench.pick(BLOCK_TOKENS, 64)
    found: list[tuple[Rows, Rows]] = []
    for first in range(0, num_keys, size):
        pair = bench.random(2, kv_heads, size, HEAD_DIM).transpose(1, 2)
        count = min(size, num_keys - first)
        rows = (pair[0][:count], pair[1][:count])
        found.append((Int8Tensor.quantize(rows[0]), Int8Tensor.quantize(rows[1])) if int8 else rows)
    return found


def prefill(bench: Bench) -> None:
    heads, kv_heads, queries = bench.pick((HEADS, KV_HEADS, 4096), (2, 1, 20))
    for prefix in bench.pick((2**16, 2**18, 2**20), (64, 128)):
        bench.tidy()
        num_keys = prefix + queries + bench.pick(_ODD, 7)
        q = bench.random(queries, heads, HEAD_DIM)
        flops = 4.0 * HEAD_DIM * heads * queries * (num_keys - queries / 2)
        for int8 in (False, True):
            blocks = _blocks(bench, num_keys, kv_heads, int8)
            timing = bench.time(
                partial(kernels.attention, q, blocks, HEAD_DIM**-0.5, implementation="triton")
            )
            kind = "int8" if int8 else "bf16"
            bench.rate(f"{queries} queries, {prefix} before, {kind}", timing, flops=flops)
            del blocks
        k, v = bench.random(2, num_keys, kv_heads, HEAD_DIM)
        peer = _peer(q, k, v, causal=True)
        bench.against(f"{queries} queries, {prefix} before, torch flash", peer, flops=flops)


def decode(bench: Bench) -> None:
    heads, kv_heads = bench.pick((HEADS, KV_HEADS), (2, 1))
    q = bench.random(1, heads, HEAD_DIM)
    for num_keys in bench.pick((2**16, 2**18, 2**20), (200,)):
        for int8 in (False, True):
            bench.tidy()
            blocks = _blocks(bench, num_keys, kv_heads, int8)
            count = torch.full((1,), num_keys, device=bench.device)
            keys = KeyBlocks(blocks, count)
            work = partial(
                kernels.attention_of_blocks, q, keys, HEAD_DIM**-0.5, implementation="triton"
            )
            timing, recorded = bench.time_recorded(work)
            per_row = HEAD_DIM + 4 if int8 else 2 * HEAD_DIM
            num_bytes = 2.0 * num_keys * kv_heads * per_row
            kind = "int8" if int8 else "bf16"
            bench.rate(f"{num_keys} keys, {kind}", timing, num_bytes=num_bytes, recorded=recorded)
        k, v = bench.random(2, num_keys, kv_heads, HEAD_DIM)
        num_bytes = 2.0 * k.nbytes
        peer = _peer(q, k, v, causal=False)
        bench.against(f"{num_keys} keys, torch flash", peer, num_bytes=num_bytes)


def _peer(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Callable[[], object]:
    """PyTorch's fused kernels over keys in one piece, the causal edge at the lower right."""
    from torch.nn.attention.bias import causal_lower_right

    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    mask = causal_lower_right(q.shape[2], k.shape[2]) if causal else None
    return partial(F.scaled_dot_product_attention, q, k, v, attn_mask=mask, enable_gqa=True)
