"""What lies between the products: one pass over memory each, so held against the copy."""

from collections.abc import Callable, Iterator
from functools import partial

import torch.nn.functional as F

import kernels
from benchmarks.device.bench import Bench


def run(bench: Bench) -> None:
    for name, work, num_bytes in _cases(bench):
        bench.rate(name, bench.time(work, flush=True), num_bytes=num_bytes)


def _cases(bench: Bench) -> Iterator[tuple[str, Callable[[], object], float]]:
    tokens, width, heads = bench.pick((16_384, 6144, 64), (3, 64, 2))
    x, block = bench.random(2, tokens, width)
    weight = bench.random(width)
    yield (
        "rms_norm",
        partial(kernels.rms_norm, x, weight, 1e-5, implementation="triton"),
        2.0 * x.nbytes,
    )
    yield "torch rms_norm", partial(F.rms_norm, x, (width,), weight, 1e-5), 2.0 * x.nbytes
    yield (
        "rms_norm_of_sum",
        partial(
            kernels.rms_norm_of_sum, x, block, 3.5, 0.25, weight, 1e-5, implementation="triton"
        ),
        4.0 * x.nbytes,
    )
    qkv = bench.random(tokens, heads * 3 * 128)
    inputs = partial(kernels.lightning_inputs, qkv, heads, silu=True, implementation="triton")
    yield "lightning_inputs, silu", inputs, 2.0 * qkv.nbytes
    out, gate = bench.random(tokens, heads, 128), bench.random(tokens, heads * 128)
    own = bench.random(heads * 128)
    output = partial(kernels.lightning_output, out, gate, own, 1e-6, implementation="triton")
    yield "lightning_output", output, 3.0 * gate.nbytes
