"""Products of few float32 rows with one weight, ours and what torch offers: rate, and error.

    python -m benchmarks.linear [--threads 1] [--rows 1 4 8 16 64 512] [--products Q4_K float32]

Widths are those of a small model and of a large one. Each product goes over as many weights as fill
the caches several times; the best time of each weight counts. GB/s are of the weight as it is
stored, the error is the RMS of the difference over that of the product in float64, with the weight
as int8, int4 or GGML's blocks have it where it is stored so: what the product adds, not what
storing lost. Of GGML's blocks the weights are random blocks.

Every product takes turns with oneDNN's in float32, whose rate is beside its own, so that the two
stay comparable on a machine that others load. "read" is the share of the rate at which this machine
reads memory at all.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from benchmarks import machine
from kernels.ggml.random import random_weight
from kernels.linear import dense, dequantize_blocks, fp16_weight, jit, naive, onednn

SHAPES = {
    "up": (3072, 576),
    "down": (576, 1536),
    "head": (49_152, 576),
    "gate": (8960, 1536),
    "wide": (4096, 4096),
}
_MOST_BYTES = 128 * 2**20
Candidate = tuple[float, Callable[[Tensor], Any], Callable[[Tensor, Any], Tensor]]


def int8_dynamic(weight: Tensor) -> Any:  # noqa: ANN401
    scales = weight.abs().amax(dim=1) / 127
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    codes = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(codes, None)


def int8_of_bf16(x: Tensor, weight: kernels.Int8Weight) -> Tensor:
    return dequantize_blocks.linear(x.bfloat16(), weight).float()


def bf16_packed(weight: Tensor) -> Tensor:
    blocked: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), 1)
    return blocked


def blocks_like(kind: kernels.BlockType, weight: Tensor) -> kernels.GgmlWeight:
    generator = torch.Generator().manual_seed(0)
    return random_weight(kind, weight.shape[0], weight.shape[1], generator)


# Bytes of a weight, how it is stored, and the product.
CANDIDATES: dict[str, Candidate] = {
    "float32": (4, lambda w: w, F.linear),
    "packed": (4, onednn.prepack, onednn.linear),
    "half": (2, fp16_weight.prepack, fp16_weight.linear),
    "bf16 packed": (2, bf16_packed, lambda x, w: packed_bf16(x, w)),
    "int8": (1, kernels.Int8Weight.quantize, jit.linear),
    "int4/32": (0.625, lambda w: kernels.Int4Weight.quantize(w, 32), jit.linear),
    "int4/64": (0.5625, kernels.Int4Weight.quantize, jit.linear),
    "int8 by blocks": (1, kernels.Int8Weight.quantize, dequantize_blocks.linear),
    "int4/32 by blocks": (
        0.625,
        lambda w: kernels.Int4Weight.quantize(w, 32),
        dequantize_blocks.linear,
    ),
    "int8, bf16 rows": (1, kernels.Int8Weight.quantize, int8_of_bf16),
    "int8 dynamic": (1, int8_dynamic, lambda x, w: torch.ops.quantized.linear_dynamic(x, w)),
}


for kind in kernels.BlockType:
    CANDIDATES[kind.value] = (
        kind.num_bytes / kind.elements,
        partial(blocks_like, kind),
        kernels.linear,
    )


def packed_bf16(x: Tensor, weight: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), weight, None, "none", [], "")
    return out.float()


def seconds(
    product: Callable[[Any], Tensor],
    weights: list[Any],
    other: Callable[[], Tensor],
    budget_s: float,
) -> tuple[float, float]:
    """Of one product, weights out of the cache: the mean of each weight's best time; and the best
    of another that takes turns with it."""
    best, best_other = [float("inf")] * len(weights), float("inf")
    end = time.perf_counter() + budget_s
    while best[-1] == float("inf") or time.perf_counter() < end:
        for at, weight in enumerate(weights):
            began = time.perf_counter()
            product(weight)
            best[at] = min(best[at], time.perf_counter() - began)
        best_other = min(best_other, machine.seconds(other))
    return sum(best) / len(best), best_other


def measure(
    shape: tuple[int, int], name: str, num_rows: int, budget_s: float, read_bytes_per_s: float
) -> dict[str, object]:
    stored_bytes, store, product = CANDIDATES[name]
    num_bytes = stored_bytes * shape[0] * shape[1]
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(*shape, generator=generator) / shape[1] ** 0.5
    x = torch.randn(num_rows, shape[1], generator=generator)
    stored = [store(weight) for _ in range(max(2, int(_MOST_BYTES / num_bytes)))]
    quantised = kernels.Int8Weight | kernels.Int4Weight | kernels.GgmlWeight
    is_quantised = isinstance(stored[0], quantised)
    want = naive.linear(x, stored[0] if is_quantised else weight)
    difference = (product(x, stored[0]).double() - want).square().mean().sqrt()
    took, plain = seconds(
        lambda one: product(x, one), stored, lambda: dense.large_m(x, weight), budget_s
    )
    num_flops = 2 * num_rows * weight.numel()
    return {
        "rows": num_rows,
        "us": took * 1e6,
        "gb_s": num_bytes / took / 1e9,
        "read": num_bytes / took / read_bytes_per_s,
        "gflop_s": num_flops / took / 1e9,
        "float32_gflop_s": num_flops / plain / 1e9,
        "error": float(difference / want.square().mean().sqrt()),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, nargs="*", default=(1, 4, 8, 16, 64, 512))
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=tuple(SHAPES))
    parser.add_argument("--products", nargs="*", choices=CANDIDATES, default=tuple(CANDIDATES))
    parser.add_argument("--budget", type=float, default=0.3, help="seconds a row")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    rows = []
    read_bytes_per_s = machine.read_bytes_per_s()
    print(
        f"{'':<6} {'':<18} {'rows':>5} {'us':>9} {'GB/s':>6} {'read':>5} {'GFLOP/s':>8} "
        f"{'float32':>8} {'error':>8}"
    )
    for shape_name in arguments.shapes:
        for name in arguments.products:
            for num_rows in arguments.rows:
                found: dict[str, Any] = {"shape": shape_name, "product": name}
                try:
                    shape = SHAPES[shape_name]
                    found |= measure(shape, name, num_rows, arguments.budget, read_bytes_per_s)
                except (AttributeError, RuntimeError, ValueError) as error:
                    print(f"{shape_name:<6} {name:<18} {str(error).splitlines()[0][:60]}")
                    break
                rows.append(found)
                print(
                    f"{shape_name:<6} {name:<18} {num_rows:>5} {found['us']:>9.0f} "
                    f"{found['gb_s']:>6.1f} {found['read']:>5.0%} {found['gflop_s']:>8.1f} "
                    f"{found['float32_gflop_s']:>8.1f} {found['error']:>8.1g}",
                    flush=True,
                )
    machine.print_result("linear", rows)


if __name__ == "__main__":
    main()
