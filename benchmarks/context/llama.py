"""Saved contexts of mm1 and llama.cpp's saved slots, same model, tokens and machine.

    PYTHONPATH=.:/folder/with/xllamacpp python -m benchmarks.context.llama \\
        --model DIR --gguf FILE [--lengths 2048 7000] [--threads 1]

Each side reads the tokens and saves; llama.cpp through its server's /slots?action=save, on
127.0.0.1 only. Then a new process restores and answers a question of 32 tokens behind them.
`prompt_n` is how many tokens llama.cpp's server says it had to read then: 32 if the restored slot
was used.
"""

import argparse
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import PEER_ENVIRONMENT, machine
from benchmarks.context import disk
from engine.api import ContextPlan
from engine.engine import Engine

QUESTION_TOKENS = 32


class Slots:
    """llama.cpp's server in this process, with one slot. Only on this machine's own address."""

    def __init__(self, gguf: Path, folder: Path, threads: int) -> None:
        llama: Any = importlib.import_module("xllamacpp")
        parameters = llama.CommonParams()
        parameters.model.path = str(gguf)
        parameters.n_ctx, parameters.n_parallel = 8192, 1
        parameters.slot_save_path, parameters.endpoint_slots = f"{folder}/", True
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.hostnames, parameters.port = ["127.0.0.1"], 0
        self._server = llama.Server(parameters)
        self._at = self._server.listening_address

    def post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        request = urllib.request.Request(
            self._at + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            parsed: dict[str, Any] = json.load(answer)
        return parsed

    def first_token(self, ids: Sequence[int]) -> tuple[float, int]:
        """Seconds until one token is written behind `ids`, and how many had to be read for it."""
        began = time.perf_counter()
        body = {"prompt": list(ids), "n_predict": 1, "cache_prompt": True, "id_slot": 0}
        timings = self.post("/completion", body)["timings"]
        return time.perf_counter() - began, timings["prompt_n"]

    def slot(self, action: str) -> float:
        return machine.seconds(
            lambda: self.post(f"/slots/0?action={action}", {"filename": "context.bin"})
        )


def save_slot(gguf: Path, folder: Path, ids: list[int], threads: int) -> dict[str, float]:
    slots = Slots(gguf, folder, threads)
    prefill_s, _ = slots.first_token(ids)
    return {"prefill_s": prefill_s, "save_s": slots.slot("save")}


def restore_slot(gguf: Path, folder: Path, ids: list[int], threads: int) -> dict[str, float]:
    slots = Slots(gguf, folder, threads)
    restore_s = slots.slot("restore")
    question_s, prompt_n = slots.first_token([*ids, *ids[:QUESTION_TOKENS]])
    return {"restore_s": restore_s, "question_s": question_s, "prompt_n": prompt_n}


def save_context(engine: Engine, folder: Path, ids: list[int]) -> dict[str, float]:
    with disk.saving() as spent:
        build_s = machine.seconds(lambda: engine.build_context(folder, ContextPlan(ids)))
    return {"prefill_s": build_s - spent.seconds, "save_s": spent.seconds}


def restore_context(engine: Engine, folder: Path, ids: list[int]) -> dict[str, float]:
    began = time.perf_counter()
    context = engine.open_context(folder)
    restore_s = time.perf_counter() - began
    fork = context.fork()
    question_s = machine.seconds(lambda: fork.extend(ids[:QUESTION_TOKENS]))
    return {"restore_s": restore_s, "question_s": question_s, "prompt_n": QUESTION_TOKENS}


def work(arguments: argparse.Namespace) -> dict[str, float]:
    """One half of one measurement, in a process of its own."""
    side, half = arguments.child
    ids: list[int] = json.loads((arguments.folder / "ids.json").read_text(encoding="utf-8"))
    if side == "llama.cpp":
        do = save_slot if half == "save" else restore_slot
        return do(arguments.gguf, arguments.folder, ids, arguments.threads)
    engine = Engine(arguments.model, threads=arguments.threads, kv=side.removeprefix("mm1 "))
    act = save_context if half == "save" else restore_context
    return act(engine, arguments.folder / "context", ids)


def measure(arguments: argparse.Namespace, side: str, length: int) -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix="mm1-slots-"))
    try:
        generator = torch.Generator().manual_seed(length)
        ids = torch.randint(100, 40_000, (length,), generator=generator).tolist()
        (folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
        row: dict[str, object] = {"side": side, "tokens": length}
        for half in ("save", "restore"):
            disk.forget(folder)
            command = [sys.executable, "-m", "benchmarks.context.llama", "--child", side, half]
            command += ["--model", str(arguments.model), "--gguf", str(arguments.gguf)]
            command += ["--threads", str(arguments.threads), "--folder", str(folder)]
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True, env=PEER_ENVIRONMENT
            )
            row |= json.loads(done.stdout.splitlines()[-1])
            if half == "save":
                saved = folder / ("context.bin" if side == "llama.cpp" else "context")
                row["bytes"] = saved.stat().st_size if saved.is_file() else disk.read_all(saved)
        return row
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--lengths", type=int, nargs="*", default=(2048, 7000))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(work(arguments)))
        return
    rows = []
    print(
        f"{'tokens':>7} {'':<12} {'prefill s':>9} {'save s':>7} {'MB':>6} {'restore s':>9} "
        f"{'question s':>10} {'tokens read for it':>18}"
    )
    for length in arguments.lengths:
        for side in ("mm1 float32", "mm1 int8", "llama.cpp"):
            row: dict[str, Any] = measure(arguments, side, length)
            rows.append(row)
            print(
                f"{length:>7,} {side:<12} {row['prefill_s']:>9.1f} {row['save_s']:>7.2f} "
                f"{row['bytes'] / 1e6:>6.0f} {row['restore_s']:>9.2f} {row['question_s']:>10.2f} "
                f"{row['prompt_n']:>18}",
                flush=True,
            )
    machine.print_result("context.llama", rows)


if __name__ == "__main__":
    main()
