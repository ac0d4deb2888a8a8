"""Reading and writing beside llama.cpp and transformers: same weights, same lengths, one run.

    python -m benchmarks.stream peers [--model DIR] [--hybrid DIR] [--lengths 512 2048 7000] \\
        [--llama-bench PROGRAM --gguf FILE] [--minimax] [--threads 2] [--rounds 3] [--cpu-time]

--model is a Llama checkpoint, --gguf the same weights for llama.cpp's own `llama-bench`, --hybrid a
checkpoint of about that size with Lightning layers. --minimax compares with transformers'
MiniMaxForCausalLM on a random checkpoint at 8,192 tokens, or at --minimax-tokens. Every side runs
in a process of its own, sides take turns, and the best round counts. Prefill is held against a
large float32 product, decode against the rate at which a matrix-vector product reads memory, both
measured in the same run; what llama.cpp reads per token is taken to be its file. Writing is of
tokens given, one by one, without speculation.

--cpu-time counts what the processor worked for each side instead of what the clock says, on one
thread: the only measure that means something while others use the machine, too.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

import kernels
from benchmarks import PEER_ENVIRONMENT, machine
from benchmarks.stream.work import (
    bytes_per_weight,
    decode_bytes,
    matrix_sizes,
    prefill_operations,
)
from engine.config import ModelConfig
from engine.families import read_config

DECODED = 32
MINIMAX: dict[str, Any] = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "rotary_dim": 64,  # all of the head: with less transformers rotates other dimensions
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "layer_types": (["linear_attention"] * 7 + ["full_attention"]),
    "block_size": 256,
    "max_position_embeddings": 65_536,
    "bos_token_id": None,
    "eos_token_id": None,
}


Work = Callable[[], object]
Side = tuple[Callable[[], dict[str, float]], ModelConfig, float]  # and the bytes of a weight
Clock = Callable[[Work], float]  # seconds of some work


def seconds_of_processor(work: Work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def timed(clock: Clock, prefill: Work, decode: Callable[[int], object]) -> dict[str, float]:
    """Seconds of the prompt and of the fastest token, and the memory at the peak of both: all of
    it, and what it is more than before."""
    before = machine.resident_bytes()
    machine.forget_peak()  # that of loading
    prefill_s = clock(prefill)
    decode_s = min(clock(partial(decode, at)) for at in range(DECODED))
    peak = machine.peak_bytes()
    found = {"prefill_s": prefill_s, "decode_s": decode_s}
    return {**found, "grown_bytes": peak - before, "peak_bytes": peak}


def ceilings(clock: Clock) -> tuple[float, float]:
    """Operations per second of a large float32 product by the faster of both libraries, bytes per
    second of reading a matrix."""
    left, right = torch.randn(2, machine.PRODUCT_SIZE, machine.PRODUCT_SIZE)
    matrix, vector = torch.ones(2**14, 2**13), torch.ones(2**13)
    packed = kernels.prepack(right)
    product_s = min(
        clock(work)
        for work in (lambda: left @ right, lambda: kernels.linear(left, packed))
        for _ in range(3)
    )
    return 2 * machine.PRODUCT_SIZE**3 / product_s, matrix.nbytes / min(
        clock(lambda: matrix @ vector) for _ in range(3)
    )


def token_ids(length: int, vocab_size: int) -> list[int]:
    generator = torch.Generator().manual_seed(length)
    ids: list[int] = torch.randint(100, vocab_size - 100, (length,), generator=generator).tolist()
    return ids


def ours(directory: Path, length: int, clock: Clock) -> dict[str, float]:
    from engine import placement
    from engine.checkpoint import Checkpoint
    from engine.context import Context
    from engine.placement.weight_bytes import fp16_copies_bytes
    from engine.weights import load

    config = read_config(directory)
    model = load(Checkpoint(directory), config, device=torch.device("cpu"), dtype=torch.float32)
    model.prepare_for_inference(small_m=fp16_copies_bytes(config, placement.physical_bytes()) > 0)
    ids = token_ids(length, config.vocab_size)
    warm, context = Context(model, 1024), Context(model, 1024)
    warm.extend(ids[:64])
    warm.extend(ids[:1])
    return timed(clock, lambda: context.extend(ids), lambda at: context.extend(ids[at : at + 1]))


@torch.inference_mode()
def transformers(directory: Path, length: int, clock: Clock) -> dict[str, float]:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    model.train(False)
    ids = torch.tensor([token_ids(length, model.config.vocab_size)])
    model(ids[:, :64])
    cache: list[Any] = []

    def prefill() -> None:
        cache.append(model(ids, use_cache=True, logits_to_keep=1).past_key_values)

    return timed(
        clock,
        prefill,
        lambda at: model(ids[:, at : at + 1], past_key_values=cache[0], logits_to_keep=1),
    )


def llama(
    program: Path, gguf: Path, length: int, threads: int, *, is_cpu: bool
) -> dict[str, float]:
    command = [str(program), "-m", str(gguf), "-t", str(threads), "-o", "json"]
    command += ["--no-warmup"] if is_cpu else []
    prefill, decode = ["-p", str(length), "-n", "0"], ["-p", "0", "-d", str(length), "-n"]
    if is_cpu:  # one run more, or so many tokens more, is what they cost
        repeats = [_child_seconds([*command, *prefill, "-r", count]) for count in "12"]
        tokens = [
            _child_seconds([*command, *decode, str(count), "-r", "1"]) for count in (8, 8 + DECODED)
        ]
        return {
            "prefill_s": repeats[1] - repeats[0],
            "decode_s": (tokens[1] - tokens[0]) / DECODED,
        }
    best = []
    for what in (prefill, [*decode, str(DECODED)]):
        done = subprocess.run(
            [*command, *what, "-r", "2"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=True,
            env=PEER_ENVIRONMENT,
        )
        (found,) = json.loads(done.stdout)
        best.append(min(found["samples_ns"]) / 1e9)
    return {"prefill_s": best[0], "decode_s": best[1] / DECODED}


def _child_seconds(command: list[str]) -> float:
    """Of the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, check=True, env=PEER_ENVIRONMENT
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_minimax(directory: Path) -> None:
    from transformers import MiniMaxConfig, MiniMaxForCausalLM

    torch.manual_seed(0)
    model = MiniMaxForCausalLM(MiniMaxConfig(**MINIMAX))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.05)
    model.save_pretrained(directory)


def child(side: str, directory: Path, length: int, threads: int, is_cpu: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.stream", "peers", "--child", side]
    command += ["--cpu-time"] if is_cpu else []
    command += ["--model", str(directory), "--lengths", str(length), "--threads", str(threads)]
    environment = None if side == "mm1" else PEER_ENVIRONMENT
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{side} at {length:,} tokens: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def best_of(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: min(found[name] for found in rounds) for name in rounds[0]}


def compare(
    sides: Mapping[str, Side],
    base: str,
    length: int,
    num_rounds: int,
    clock: Clock,
) -> list[dict[str, object]]:
    """A table of `sides`, each (measure, config, bytes of a weight), against the side `base`."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    product = reading = 0.0
    for _ in range(num_rounds):
        product, reading = map(max, zip((product, reading), ceilings(clock), strict=True))
        for name, (measure, _, _) in sides.items():
            found[name].append(measure())
    best = {name: best_of(rounds) for name, rounds in found.items()}
    rows: list[dict[str, object]] = []
    for name, (_, config, weight_bytes) in sides.items():
        side = best[name]
        row: dict[str, object] = {
            "tokens": length,
            "side": name,
            "prefill_tok_s": length / side["prefill_s"],
            "prefill_ratio": best[base]["prefill_s"] / side["prefill_s"],
            "share_of_product": prefill_operations(config, length) / side["prefill_s"] / product,
            "decode_tok_s": 1 / side["decode_s"],
            "decode_ratio": best[base]["decode_s"] / side["decode_s"],
            "share_of_reading": decode_bytes(config, length, weight_bytes)
            / side["decode_s"]
            / reading,
            "grown_bytes": side.get("grown_bytes"),
            "peak_bytes": side.get("peak_bytes"),
            "product_gflop_s": product / 1e9,
            "reading_gb_s": reading / 1e9,
        }
        rows.append(row)
        grown, peak = (
            f"{side[name] / 1e6:.0f}" if name in side else ""
            for name in ("grown_bytes", "peak_bytes")
        )
        print(
            f"{length:>7,} {name:<13} {row['prefill_tok_s']:>8.0f} {row['prefill_ratio']:>6.2f} "
            f"{row['share_of_product']:>6.0%} {row['decode_tok_s']:>8.1f} "
            f"{row['decode_ratio']:>6.2f} {row['share_of_reading']:>6.0%} {grown:>7} {peak:>7}",
            flush=True,
        )
    return rows


def main(given: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream peers", description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--hybrid", type=Path)
    parser.add_argument("--quantised", type=Path, help="the same model in int8 or int4")
    parser.add_argument("--llama-bench", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--minimax", action="store_true")
    parser.add_argument("--minimax-tokens", type=int, nargs="*", default=(8192,))
    parser.add_argument("--lengths", type=int, nargs="*", default=(512, 2048, 7000, 32_000))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    is_cpu, directory = arguments.cpu_time, arguments.model
    threads = 1 if is_cpu else arguments.threads
    clock: Clock = seconds_of_processor if is_cpu else machine.seconds
    torch.set_num_threads(threads)
    if arguments.child:
        measure = ours if arguments.child == "mm1" else transformers
        print(json.dumps(measure(directory, arguments.lengths[0], clock)))
        return
    print(f"{'tokens':>7} {'':<13} {'prefill':>8} {'ratio':>6} {'limit':>6} {'decode':>8} ", end="")
    print(f"{'ratio':>6} {'limit':>6} {'MB more':>7} {'MB':>7}")
    rows = []
    for length in arguments.lengths if directory else ():
        config = read_config(directory)
        sides: dict[str, Side] = {}
        for name, side, at, weight_bytes in (
            ("mm1", "mm1", directory, None),
            ("mm1 quantised", "mm1", arguments.quantised, None),
            ("mm1 hybrid", "mm1", arguments.hybrid, None),
            ("transformers", "transformers", directory, 4.0),
        ):
            if at is not None:
                measure = partial(child, side, at, length, threads, is_cpu)
                one = read_config(at)
                sides[name] = (measure, one, weight_bytes or bytes_per_weight(one))
        base = "transformers"
        if arguments.llama_bench:
            base, size = "llama.cpp", arguments.gguf.stat().st_size
            per_weight = size / sum(matrix_sizes(config))
            sides[base] = (
                partial(
                    llama,
                    arguments.llama_bench,
                    arguments.gguf,
                    length,
                    threads,
                    is_cpu=is_cpu,
                ),
                config,
                per_weight,
            )
        rows += compare(sides, base, length, arguments.rounds, clock)
    if arguments.minimax:
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder)
            write_minimax(at)
            for length in arguments.minimax_tokens:
                sides = {
                    name: (
                        partial(child, side, at, length, threads, is_cpu),
                        read_config(at),
                        4.0,
                    )
                    for name, side in (("mm1 m1-like", "mm1"), ("MiniMax hf", "transformers"))
                }
                rows += compare(sides, "MiniMax hf", length, arguments.rounds, clock)
    machine.print_result("stream.peers", rows)
