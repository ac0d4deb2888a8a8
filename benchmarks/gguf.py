"""A GGUF file run by mm1 where it lies, and by llama.cpp: same file, same tokens, in turns.

    python -m benchmarks.gguf FILE [--lengths 512 2048 8192] [--rounds 3] [--threads 2]

Each side runs in a process of its own and the best round counts. Prefill is held against a large
float32 product, decode (16 tokens behind the prompt) against the rate at which memory is read, both
measured in the same run; of the file all but the embedding is read for a token. llama.cpp is the
llama-server of xllamacpp.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

DECODED = 16


def token_ids(count: int, seed: int) -> list[int]:
    chosen = random.Random(seed)
    return [chosen.randrange(1000, 20_000) for _ in range(count)]


def mm1(file: Path, length: int, threads: int) -> dict[str, float]:
    begun = time.perf_counter()
    import torch

    from engine.checkpoint import load
    from engine.context import Context
    from engine.model_source import open_checkpoint, read_config

    torch.set_num_threads(threads)
    config = read_config(file)
    cpu = torch.device("cpu")
    model = load(open_checkpoint(file), config, device=cpu, dtype=torch.float32)
    model.prepare_for_inference()
    opened = time.perf_counter() - begun
    with torch.inference_mode():
        first = Context(model, 1024)
        first.extend(token_ids(32, 0))  # the JIT compiles
        first.extend([7])
        compiled = time.perf_counter() - begun - opened
        context, ids = Context(model, 1024), token_ids(length, 1)
        begun = time.perf_counter()
        context.extend(ids)
        prefill = length / (time.perf_counter() - begun)
        begun = time.perf_counter()
        for _ in range(DECODED):
            context.extend([7])
        decode = DECODED / (time.perf_counter() - begun)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {
        "prefill": prefill,
        "decode": decode,
        "open": opened,
        "compile": compiled,
        "memory": memory,
    }


def llama(file: Path, length: int, threads: int) -> dict[str, float]:
    import xllamacpp  # type: ignore[import-untyped, unused-ignore]

    begun = time.perf_counter()
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_parallel = str(file), 1
    parameters.n_ctx = length + 2 * DECODED
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(parameters)
    opened = time.perf_counter() - begun
    body = {"prompt": token_ids(length, 1), "n_predict": DECODED + 1, "temperature": 0}
    body |= {"cache_prompt": False, "ignore_eos": True}
    request = urllib.request.Request(
        f"{server.listening_address}/completion",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=3600) as answer:
        timings = json.load(answer)["timings"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {
        "prefill": timings["prompt_per_second"],
        "decode": timings["predicted_per_second"],
        "open": opened,
        "memory": memory,
    }


SIDES = {"mm1": mm1, "llama.cpp": llama}


def limits(file: Path, threads: int) -> tuple[float, float]:
    """Tokens per second if prefill were float32 products alone, and decode reading alone."""
    import torch

    from benchmarks import machine
    from engine.model_source import read_config
    from engine.placement.flops import of_model

    torch.set_num_threads(threads)
    config = read_config(file)
    flops = of_model(config, 512).total / 512
    embedding = dict(config.quantization.blocks)["embed.weight"].num_bytes
    is_tied = config.tied_embeddings
    read = file.stat().st_size - (0 if is_tied else embedding)
    return machine.product_flops() / flops, machine.read_bytes_per_s() / read


def one_round(name: str, file: Path, length: int, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.gguf", str(file), "--side", name]
    command += ["--lengths", str(length), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", choices=SIDES)
    arguments = parser.parse_args()
    file, threads = arguments.file, arguments.threads
    if arguments.side:
        print(json.dumps(SIDES[arguments.side](file, arguments.lengths[0], threads)), flush=True)
        os._exit(0)  # llama-server's end may wait for itself
    best_prefill, best_decode = limits(file, threads)
    print(f"limits: float32 products {best_prefill:.0f}, reading {best_decode:.0f} tokens/s")
    for length in arguments.lengths:
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
        for _ in range(arguments.rounds):
            for name in SIDES:
                rounds[name].append(one_round(name, file, length, threads))
        for name, found in rounds.items():
            prefill, decode = (max(one[key] for one in found) for key in ("prefill", "decode"))
            opened = min(one["open"] for one in found)
            compiled = min(one.get("compile", 0.0) for one in found)
            print(
                f"{length:>6} {name:<10} prefill {prefill:6.1f} ({prefill / best_prefill:4.0%})  "
                f"decode {decode:5.1f} ({decode / best_decode:4.0%})  open {opened:.1f} s, first "
                f"tokens {compiled:.1f} s  {min(one['memory'] for one in found):.2f} GB"
            )
        ratios = [
            max(one[key] for one in rounds["mm1"]) / max(one[key] for one in rounds["llama.cpp"])
            for key in ("prefill", "decode")
        ]
        print(f"{length:>6} mm1 : llama.cpp  prefill {ratios[0]:.2f}  decode {ratios[1]:.2f}")


if __name__ == "__main__":
    main()
