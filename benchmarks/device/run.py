"""One run of the steps that are not done yet."""

import argparse
import time
import traceback
from importlib import import_module

import torch

from benchmarks.device.bench import Bench, first_line
from benchmarks.device.results import Results, facts
from benchmarks.device.steps import STEPS, Step, reason_to_skip


class DeviceLostError(Exception):
    """The device answers nothing any more; a new process may use it again."""


def run(options: argparse.Namespace, end: float) -> list[str]:
    """The names of the steps that failed. Raises SystemExit where there is no GPU."""
    dry: bool = options.dry_run
    if not dry and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU; --dry-run runs every step on the CPU")
    if dry:
        _interpret()
    results = Results.open(options.out, facts(dry), anew=options.anew)
    print(", ".join(f"{key} {value}" for key, value in results.facts.items()), flush=True)
    chosen = [s for s in STEPS if not options.only or s.name.startswith(tuple(options.only))]
    for step in chosen:
        status = results.steps.get(step.name, {}).get("status")
        if status == "done" or (status == "failed" and options.going_on):
            continue
        left = end - time.monotonic()
        if reason := reason_to_skip(step, float("inf") if dry else left, results.known):
            print(f"-- {step.name}: skipped, {reason}", flush=True)
            results.keep(step.name, "skipped", 0.0, [], reason)
            continue
        _take(step, results, Bench(torch.device("cpu" if dry else "cuda"), dry, end, results.known))
    results.save()
    print("\n" + results.table())
    print(f"{results.path} and results.md beside it")
    names = {step.name for step in chosen}
    return [n for n, s in results.steps.items() if n in names and s["status"] == "failed"]


def _take(step: Step, results: Results, bench: Bench) -> None:
    print(f"-- {step.name}: {bench.seconds_left:.0f} s are left", flush=True)
    torch.manual_seed(0)
    began, status, reason = time.monotonic(), "done", ""
    try:
        with torch.inference_mode():
            step.run(bench)
            bench.synchronize()
    except Exception as error:
        traceback.print_exc()
        status, reason = "failed", first_line(error)
    results.keep(step.name, status, time.monotonic() - began, bench.rows, reason)
    for row in bench.rows:
        values = (f"{key} {_short(value)}" for key, value in row.items() if key != "case")
        print(f"   {row['case']}: {', '.join(values)}", flush=True)
    print(f"   {status} in {time.monotonic() - began:.1f} s {reason}", flush=True)
    try:
        bench.tidy()
        bench.synchronize()
    except RuntimeError as error:
        raise DeviceLostError from error


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _interpret() -> None:
    """Triton's interpreter with its repairs, and every op by Triton: the GPU's own path."""
    torch.set_num_threads(1)
    import_module("tests.kernels.interpreted")
    setattr(import_module("engine.layers.kv_cache"), "BLOCK_TOKENS", 64)  # noqa: B010
    registry = import_module("kernels.registry").Registry
    choose = registry.choose

    def by_triton(
        self: object, device: torch.device, dtype: torch.dtype, name: str | None = None
    ) -> object:
        try:
            return choose(self, device, dtype, name or "triton")
        except ValueError:
            return choose(self, device, dtype, name)

    registry.choose = by_triton
