"""What this device can do at best: the two rates every other number is held against."""

from functools import partial

import torch

from benchmarks.device.bench import Bench, Row


def run(bench: Bench) -> None:
    size = bench.pick(4 * 2**30, 2**16)
    source = bench.random(size // 2)
    target = torch.empty_like(source)
    copy = bench.time(partial(target.copy_, source))
    bench.rate("copy", copy, num_bytes=2 * source.nbytes, what="bytes read and written")
    del source, target
    bench.tidy()
    for size in (bench.pick(8192, 64), bench.pick(16_384, 128)):
        left, right = bench.random(size, size), bench.random(size, size)
        product = bench.time(partial(torch.mm, left, right))
        bench.rate(f"product {size}", product, flops=2.0 * size**3, what="bf16, random data")


def of(known: "dict[str, list[Row]] | object") -> tuple[float, float]:
    """TFLOP/s and GB/s as measured here; 0 where they are not known."""
    rows = known.get("ceilings", []) if isinstance(known, dict) else []
    tflops = [float(str(row["tflops"])) for row in rows if "tflops" in row]
    gb_s = [float(str(row["gb_s"])) for row in rows if "gb_s" in row]
    return max(tflops, default=0.0), max(gb_s, default=0.0)
