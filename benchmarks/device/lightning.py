"""Lightning Attention at MiniMax-M1's shape: 64 heads of 128 channels."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import kernels
from benchmarks.device.bench import Bench
from engine.layers.lightning import slopes as layer_slopes

HEADS, HEAD_DIM = 64, 128
_BLOCK = 64  # tokens whose scores are all computed, in the kernel and in its peer


def flops_of(num_tokens: int, heads: int, dim: int) -> float:
    """Of the blocked form: into and out of the state, and the scores of a block. What the kernel
    multiplies twice to keep the state exact counts once."""
    return num_tokens * heads * (4.0 * dim * dim + 4.0 * _BLOCK * dim)


def prefill(bench: Bench) -> None:
    heads = bench.pick(HEADS, 2)
    slopes = layer_slopes(heads, 3, 80).to(bench.device)
    for tokens in bench.pick((2**16, 2**18, 2**20), (70, 130)):
        bench.tidy()
        fused = bench.random(tokens, heads, 3 * HEAD_DIM)
        q, k, v = fused.chunk(3, dim=-1)
        state = bench.random(heads, HEAD_DIM, HEAD_DIM, dtype=torch.float32)
        timing = bench.time(
            partial(kernels.lightning_attention, q, k, v, slopes, state, implementation="triton")
        )
        flops, num_bytes = flops_of(tokens, heads, HEAD_DIM), 4.0 * q.numel() * q.itemsize
        bench.rate(f"{tokens} tokens", timing, flops=flops, num_bytes=num_bytes, tokens=tokens)
        bench.against(
            f"{tokens} tokens, chunk_simple_gla",
            partial(_peer, q, k, v, slopes, state),
            flops=flops,
            num_bytes=num_bytes,
            tokens=tokens,
        )
        del fused, q, k, v  # 48 GiB at the last length


def _peer(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, state: Tensor) -> object:
    """flash-linear-attention's op itself, on the same views, with the same decay."""
    from importlib import import_module

    op: Callable[..., object] = import_module("fla.ops.simple_gla").chunk_simple_gla
    return op(
        q[None], k[None], v[None], g_gamma=-slopes, scale=1.0,
        initial_state=state[None], output_final_state=True,
    )  # fmt: skip


def decode(bench: Bench) -> None:
    """One token through as many states as M1 has Lightning layers: no state stays in the L2."""
    heads, layers = bench.pick((HEADS, 70), (2, 2))
    slopes = layer_slopes(heads, 3, 80).to(bench.device)
    states = bench.random(layers, heads, HEAD_DIM, HEAD_DIM, dtype=torch.float32)
    q, k, v = bench.random(1, heads, 3 * HEAD_DIM).chunk(3, dim=-1)

    def work() -> None:
        for state in states:
            kernels.lightning_attention(q, k, v, slopes, state, implementation="triton")

    timing, recorded = bench.time_recorded(work, calls=layers)
    num_bytes = 2.0 * states[0].nbytes + 4 * q.nbytes
    bench.rate("one token", timing, num_bytes=num_bytes, recorded=recorded)
