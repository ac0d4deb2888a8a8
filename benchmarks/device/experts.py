"""32 experts of MiniMax-M1's size, two for each token, in bf16, int8 and int4."""

from functools import partial

import torch
from torch import Tensor

import kernels
from benchmarks.device.bench import Bench
from kernels import Int4Weight, Int8Weight
from kernels.quantized import Weight

WIDTH, INNER, COUNT, CHOSEN = 6144, 9216, 32, 2
KINDS = ("bf16", "int8", "int4")
_GROUP = 64


def stack(bench: Bench, kind: str, count: int, rows: int, columns: int) -> Weight:
    """Random weights made in the form they are kept in: quantising them would take 60 GB."""
    std = columns**-0.5
    if kind == "bf16":
        return bench.random(count, rows, columns, std=std)
    shape, device = (count, rows, columns), bench.device
    if kind == "int8":
        codes = torch.randint(-127, 128, shape, dtype=torch.int8, device=device)
        return Int8Weight(codes, torch.full(shape[:2], std / 73, device=device))
    packed = torch.randint(0, 256, (count, rows, columns // 2), dtype=torch.uint8, device=device)
    scales = torch.full((count, rows, columns // _GROUP), std / 4.6, device=device).half()
    return Int4Weight(packed, scales, -7.5 * scales)


def bytes_of(weight: Weight) -> int:
    return weight.nbytes if isinstance(weight, Tensor) else weight.num_bytes


def _sizes(bench: Bench) -> tuple[int, int, int]:
    return bench.pick((WIDTH, INNER, COUNT), (128, 64, 3))


def _routing(bench: Bench, tokens: int, count: int) -> tuple[Tensor, Tensor]:
    logits = bench.random(tokens, count, dtype=torch.float32)
    weights, ids = logits.softmax(-1).topk(CHOSEN)
    return ids, weights / weights.sum(-1, keepdim=True)


def many(bench: Bench) -> None:
    width, inner, count = _sizes(bench)
    tokens = bench.pick(16_384, 12)
    flops = 6.0 * tokens * CHOSEN * width * inner
    x = bench.random(tokens, width)
    ids, weights = _routing(bench, tokens, count)
    for kind in KINDS:
        bench.tidy()
        gate_up = stack(bench, kind, count, 2 * inner, width)
        down = stack(bench, kind, count, width, inner)
        timing = bench.time(
            partial(kernels.experts, x, ids, weights, gate_up, down, implementation="triton")
        )
        bench.rate(f"{tokens} tokens, {kind}", timing, flops=flops)
        if isinstance(gate_up, Tensor) and isinstance(down, Tensor):
            rows = bench.random(count, tokens * CHOSEN // count, width)
            between = bench.random(count, rows.shape[1], inner)

            def products(
                rows: Tensor = rows, inner: Tensor = between, up: Tensor = gate_up,
                down: Tensor = down,
            ) -> None:  # fmt: skip
                torch.bmm(rows, up.mT)
                torch.bmm(inner, down.mT)

            used = rows.shape[0] * rows.shape[1] / (tokens * CHOSEN)
            bench.against(
                f"{tokens} tokens, torch bmm of equal shares alone", products, flops=used * flops
            )
        del gate_up, down


def one(bench: Bench) -> None:
    """Other experts at each call, so that no weight stays in the L2."""
    width, inner, count = _sizes(bench)
    calls = bench.pick(8, 2)
    tokens = [bench.random(1, width) for _ in range(calls)]
    routings = [_routing(bench, 1, count) for _ in range(calls)]
    for kind in KINDS:
        bench.tidy()
        gate_up = stack(bench, kind, count, 2 * inner, width)
        down = stack(bench, kind, count, width, inner)

        def work(gate_up: Weight = gate_up, down: Weight = down) -> None:
            for x, (ids, weights) in zip(tokens, routings, strict=True):
                kernels.experts(x, ids, weights, gate_up, down, implementation="triton")

        timing, recorded = bench.time_recorded(work, calls=calls)
        num_bytes = (bytes_of(gate_up) + bytes_of(down)) * CHOSEN / count
        bench.rate(f"one token, {kind}", timing, num_bytes=num_bytes, recorded=recorded)
        del gate_up, down
