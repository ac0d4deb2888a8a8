"""Are the kernels right on this device? The tests, and how far each is from its definition."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import kernels
from benchmarks.device.bench import Bench
from kernels import Int4Weight, Int8Tensor, Int8Weight

ROOT = Path(__file__).parents[2]
_LONGEST_S = 420.0

# Float32 here means products that lose nothing to speak of (three tf32 products, or float32's own):
# a single tf32 product would be near 3e-4.
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 8e-3}


def kernel_tests() -> list[str]:
    """Files whose tests run on the GPU where there is one."""
    folder = ROOT / "tests/kernels"
    return sorted(
        str(path.relative_to(ROOT))
        for path in folder.glob("test_*.py")
        if "tests.kernels.interpreted" in path.read_text(encoding="utf-8")
    )


def tests(bench: Bench) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "default"]
    command += ["--tb=line"]
    if bench.dry:  # the whole suite is run on a CPU anyway
        command += ["tests/kernels/test_norm.py", "-k", "definition"]
    else:
        command += [*kernel_tests(), *_workers()]
    limit = min(max(bench.seconds_left - 5, 10), _LONGEST_S)
    # The suite's own set-up needs what reads documents, and gives each test a home, so a cache.
    command += ["--confcutdir=tests/kernels"]
    environment = {**os.environ, "TRITON_CACHE_DIR": str(ROOT / "build/triton-cache")}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        bench.add("pytest", note=f"did not end in {limit:.0f} s", passed=0, failed=1)
        return
    counts = {
        word: int(found[1]) if (found := re.search(rf"(\d+) {word}", done.stdout)) else 0
        for word in ("passed", "failed", "error", "skipped")
    }
    wrong = [x for x in done.stdout.splitlines() if x.startswith(("FAILED", "ERROR", "E "))]
    bench.add("pytest", **counts, exit_code=done.returncode, failures=wrong[:40])
    if not counts["passed"]:
        raise RuntimeError((done.stdout + done.stderr)[-600:])


def _workers() -> list[str]:
    try:
        import xdist  # type: ignore[import-not-found, import-untyped, unused-ignore] # noqa: F401
    except ImportError:
        return []
    return ["-n", str(min(8, os.cpu_count() or 1))]


def accuracy(bench: Bench) -> None:
    """RMS of the difference over RMS of the definition in float64, random data, real widths."""
    for dtype, limit in LIMITS.items():
        for name, got, want in _cases(bench, dtype):
            error = float((got.double() - want).norm() / want.norm())
            right = error <= limit  # NaN is not
            bench.add(f"{name} {str(dtype)[6:]}", error=error, limit=limit, right=right)


Case = tuple[str, Tensor, Tensor]


def _cases(bench: Bench, dtype: torch.dtype) -> Iterator[Case]:
    tokens, heads = bench.pick(700, 20), bench.pick(8, 1)
    qkv = bench.random(tokens, heads, 3 * 128, dtype=dtype)
    q, k, v = qkv.chunk(3, dim=-1)
    slopes = torch.logspace(-4, -0.5, heads, device=bench.device)
    state = bench.random(heads, 128, 128, dtype=torch.float32)
    out, new = kernels.lightning_attention(q, k, v, slopes, state, implementation="triton")
    want, want_new = kernels.lightning_attention(q, k, v, slopes, state, implementation="naive")
    yield "lightning out", out, want
    yield "lightning state", new, want_new
    yield from _attention(bench, dtype)
    yield from _experts(bench, dtype)
    x, skip = bench.random(2, tokens, bench.pick(6144, 64), dtype=dtype)
    weight = bench.random(x.shape[-1], dtype=dtype)
    yield "norm", *_both(lambda name: kernels.rms_norm(x, weight, 1e-5, implementation=name))
    yield (
        "norm of sum",
        *_both(
            lambda name: kernels.rms_norm_of_sum(
                skip, x, 3.5, 0.25, weight, 1e-5, implementation=name
            )[1]
        ),
    )


def _both(work: Callable[[str], Tensor]) -> tuple[Tensor, Tensor]:
    return work("triton"), work("naive")


def _attention(bench: Bench, dtype: torch.dtype) -> Iterator[Case]:
    keys, groups, per_group = bench.pick((5000, 2, 8), (70, 1, 2))
    k, v = bench.random(2, keys, groups, 128, dtype=dtype)
    pairs = {"": (k, v), " int8": (Int8Tensor.quantize(k), Int8Tensor.quantize(v))}
    for kind, pair in pairs.items():
        for queries in (1, bench.pick(300, 5)):
            q = bench.random(queries, groups * per_group, 128, dtype=dtype)
            got, want = _both(
                lambda name, q=q, pair=pair: kernels.attention(  # type: ignore[misc]
                    q, [pair], 128**-0.5, implementation=name
                )
            )
            yield f"attention{kind} {queries} queries", got, want


def _experts(bench: Bench, dtype: torch.dtype) -> Iterator[Case]:
    width, inner, count = bench.pick((1024, 512, 8), (64, 32, 3))
    gate_up = bench.random(count, 2 * inner, width, dtype=torch.float32, std=width**-0.5)
    down = bench.random(count, width, inner, dtype=torch.float32, std=inner**-0.5)
    group = bench.pick(64, 32)
    kinds = {
        "": (gate_up.to(dtype), down.to(dtype)),
        " int8": (Int8Weight.quantize(gate_up), Int8Weight.quantize(down)),
        " int4": (Int4Weight.quantize(gate_up, group), Int4Weight.quantize(down, group)),
    }
    for kind, stacks in kinds.items():
        for tokens in (1, bench.pick(600, 12)):
            x = bench.random(tokens, width, dtype=dtype)
            logits = bench.random(tokens, count, dtype=torch.float32)
            weights, ids = logits.softmax(-1).topk(2)
            got, want = _both(
                lambda name, x=x, ids=ids, weights=weights, stacks=stacks: kernels.experts(  # type: ignore[misc]
                    x, ids, weights, *stacks, implementation=name
                )
            )
            yield f"experts{kind} {tokens} tokens", got, want
