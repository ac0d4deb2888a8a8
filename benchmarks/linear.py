"""Products of few float32 rows with one weight, ours and what torch offers: rate, and error.

    python -m benchmarks.linear [--threads 1] [--rows 1 4 8 16 64 1024]

Widths are those of a small model and of a large one. Each product goes over as many weights as fill
the caches several times; the best time of each weight counts. GB/s are of the weight as it is
stored, the error is the RMS of the difference over that of the product in float64, with the weight
as int8 or int4 has it where it is stored so: what the product adds, not what storing lost.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from benchmarks import machine
from kernels.linear import dequantize_blocks, fp16_weight, jit, naive, onednn

SHAPES = {"up": (3072, 576), "down": (576, 1536), "head": (49_152, 576), "wide": (4096, 4096)}
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


def packed_bf16(x: Tensor, weight: Tensor) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), weight, None, "none", [], "")
    return out.float()


def seconds(product: Callable[[Any], Tensor], weights: list[Any], budget_s: float = 0.3) -> float:
    """Of one product, weights out of the cache: the mean of each weight's best time."""
    best = [float("inf")] * len(weights)
    end = time.perf_counter() + budget_s
    while best[-1] == float("inf") or time.perf_counter() < end:
        for at, weight in enumerate(weights):
            began = time.perf_counter()
            product(weight)
            best[at] = min(best[at], time.perf_counter() - began)
    return sum(best) / len(best)


def measure(shape: tuple[int, int], name: str, num_rows: int) -> dict[str, object]:
    stored_bytes, store, product = CANDIDATES[name]
    num_bytes = stored_bytes * shape[0] * shape[1]
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(*shape, generator=generator) / shape[1] ** 0.5
    x = torch.randn(num_rows, shape[1], generator=generator)
    stored = [store(weight) for _ in range(max(2, int(_MOST_BYTES / num_bytes)))]
    is_quantised = isinstance(stored[0], kernels.Int8Weight | kernels.Int4Weight)
    want = naive.linear(x, stored[0] if is_quantised else weight)
    difference = (product(x, stored[0]).double() - want).square().mean().sqrt()
    took = seconds(lambda one: product(x, one), stored)
    return {
        "rows": num_rows,
        "us": took * 1e6,
        "gb_s": num_bytes / took / 1e9,
        "gflop_s": 2 * num_rows * weight.numel() / took / 1e9,
        "error": float(difference / want.square().mean().sqrt()),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, nargs="*", default=(1, 4, 8, 16, 64, 1024))
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=tuple(SHAPES))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    rows = []
    print(f"{'':<6} {'':<18} {'rows':>5} {'us':>9} {'GB/s':>6} {'GFLOP/s':>8} {'error':>8}")
    for shape_name in arguments.shapes:
        for name in CANDIDATES:
            for num_rows in arguments.rows:
                found: dict[str, Any] = {"shape": shape_name, "product": name}
                try:
                    found |= measure(SHAPES[shape_name], name, num_rows)
                except (AttributeError, RuntimeError) as error:
                    print(f"{shape_name:<6} {name:<18} {str(error).splitlines()[0][:60]}")
                    break
                rows.append(found)
                print(
                    f"{shape_name:<6} {name:<18} {num_rows:>5} {found['us']:>9.0f} "
                    f"{found['gb_s']:>6.1f} {found['gflop_s']:>8.1f} {found['error']:>8.1g}",
                    flush=True,
                )
    machine.print_result("linear", rows)


if __name__ == "__main__":
    main()
