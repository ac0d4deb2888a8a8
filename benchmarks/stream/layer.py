"""Real-size MiniMax-M1 layers streamed through a pool smaller than one of them.

    python -m benchmarks.stream layer [--tokens 64 1024] [--pool-gb 4] [--kinds lightning softmax]
        [--written] [--folder DIR]

Per number of tokens: one pass over the layers with a cold disk; the same parts read and not used;
the same products with one expert's weights in memory and nothing read. The share is that of the
slower of the two in the pass: 1 is perfect overlap. Weights are a sparse file that reads as zeros
without a disk, or with --written 11.4 GB a layer of bytes on one. Memory is the highest the pass
took beyond what the process had before, beside what was planned.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks import machine
from benchmarks.context.disk import forget
from benchmarks.stream import _checkpoint
from engine import placement
from engine.checkpoint import Checkpoint
from engine.config import Mixer, ModelConfig
from engine.families import read_config
from engine.prefill import layer_major
from engine.streamed.model import StreamedModel, parts_of, stream
from engine.streamed.weight_groups import DENSE, GroupKey, WeightGroup, WeightGroups

CPU = torch.device("cpu")
GB = 10**9


def main(given: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stream layer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--pool-gb", type=float, default=4.0)
    parser.add_argument("--kinds", nargs="+", default=["lightning", "softmax"])
    parser.add_argument("--written", action="store_true")
    parser.add_argument("--folder", type=Path, help="default: a new one for temporary files")
    options = parser.parse_args(given)
    kinds = [Mixer(kind) for kind in options.kinds]
    folder = Path(tempfile.mkdtemp(prefix="layers-", dir=options.folder))
    try:
        layer_bytes = _checkpoint.write(folder, kinds, is_sparse=not options.written)
        how = "written" if options.written else "sparse"
        print(f"{' + '.join(kinds)}, {layer_bytes / GB:.1f} GB of {how} weights, ", end="")
        print(f"pool {options.pool_gb:g} GB, {torch.get_num_threads()} threads")
        rows = [_measure(folder, count, int(options.pool_gb * GB), how) for count in options.tokens]
    finally:
        shutil.rmtree(folder)
    machine.print_result("stream layer", rows)


def _measure(folder: Path, num_tokens: int, pool_bytes: int, how: str) -> dict[str, object]:
    checkpoint, config = Checkpoint(folder), read_config(folder)
    planned = _planned_bytes(checkpoint, config, num_tokens, pool_bytes)
    forget(folder)
    before = machine.resident_bytes()
    machine.forget_peak()
    model = _model(checkpoint, config, pool_bytes)
    began_cpu_s = time.process_time()
    each_s, read_bytes = _pass(model, num_tokens)
    cpu_s = time.process_time() - began_cpu_s
    peak = machine.peak_bytes() - before
    done = model.io_stats
    model.pool.close()
    forget(folder)
    read_s, alone_bytes = _read_alone(checkpoint, config)
    with _nothing_read():
        compute_s = sum(_pass(_model(checkpoint, config, pool_bytes), num_tokens)[0])
    total_s = sum(each_s)
    share = max(read_s, compute_s) / total_s
    row: dict[str, object] = {
        "weights": how,
        "tokens": num_tokens,
        "layer_s": [round(seconds, 2) for seconds in each_s],
        "read_alone_s": round(read_s, 2),
        "compute_alone_s": round(compute_s, 2),
        "share": round(share, 3),
        "read_gb": round(read_bytes / GB, 2),
        "gb_per_s": round(read_bytes / total_s / GB, 3),
        "alone_gb_per_s": round(alone_bytes / read_s / GB, 3),
        "cpu_s": round(cpu_s, 2),
        "waited_s": round(done.waited_s, 2),
        "peak_gb": round(peak / GB, 2),
        "planned_gb": round(planned / GB, 2),
    }
    layers = " + ".join(f"{seconds:.1f}" for seconds in each_s)
    print(
        f"{num_tokens:6,} tokens: {layers} s, reading alone {read_s:.1f} s at "
        f"{alone_bytes / read_s / GB:.2f} GB/s, products alone {compute_s:.1f} s, "
        f"share {share:.0%}; {read_bytes / GB:.1f} GB read; memory {peak / GB:.2f} GB of "
        f"{planned / GB:.2f} planned",
        flush=True,
    )
    return row


def _model(checkpoint: Checkpoint, config: ModelConfig, pool_bytes: int) -> StreamedModel:
    model = stream(checkpoint, config, device=CPU, dtype=torch.float32, pool_bytes=pool_bytes)
    model.prepare_for_inference()
    return model


@torch.inference_mode()
def _pass(model: StreamedModel, num_tokens: int) -> tuple[list[float], int]:
    """Seconds of each layer, and bytes read, of reading so many tokens as one chunk."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, _checkpoint.VOCAB_SIZE, (num_tokens,), generator=generator).tolist()
    marks = [time.perf_counter()]
    states = model.empty_states()
    run = layer_major(
        model, states, ids, 0, num_tokens, on_chunk=lambda *_: marks.append(time.perf_counter())
    )
    for _, hidden in run:
        assert bool(hidden.isfinite().all())
    return [end - begin for begin, end in pairwise(marks)], model.io_stats.read_bytes


def _read_alone(checkpoint: Checkpoint, config: ModelConfig) -> tuple[float, int]:
    """Seconds and bytes of reading every part once, each in the memory of the one before."""
    parts = parts_of(checkpoint, config, device=CPU, dtype=torch.float32)
    keys = [
        GroupKey(n, e) for n in range(config.num_layers) for e in range(DENSE, config.num_experts)
    ]
    dropped: list[WeightGroup] = []
    began = time.perf_counter()
    for key in keys:
        dropped = [parts.read(key, dropped)]
    return time.perf_counter() - began, sum(map(parts.read_bytes, keys))


@contextmanager
def _nothing_read() -> Iterator[None]:
    """Inside, each dense part is read, and one expert; others are given that one's weights."""
    original, kept = WeightGroups.read, list[WeightGroup]()

    def read(parts: WeightGroups, key: GroupKey, dropped: list[WeightGroup]) -> WeightGroup:
        if key.expert == DENSE:
            return original(parts, key, dropped)
        dropped.clear()
        if not kept:
            kept.append(original(parts, key, []))
        return WeightGroup(kept[0].weights)

    setattr(WeightGroups, "read", read)  # noqa: B010 (mypy forbids the plain form)
    try:
        yield
    finally:
        setattr(WeightGroups, "read", original)  # noqa: B010


def _planned_bytes(
    checkpoint: Checkpoint, config: ModelConfig, num_tokens: int, pool_bytes: int
) -> int:
    planned = placement.plan(
        config,
        num_tokens,
        num_tokens,
        torch.float32,
        precision=placement.stored_precision(checkpoint, config),
        machine=placement.Machine(0),
        streams=True,
    )
    return planned.total_bytes - planned.pool_bytes + pool_bytes + planned.spill_bytes
