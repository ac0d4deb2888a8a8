"""A GGUF file run by mm1 where it lies, and by llama.cpp: same file, same tokens, in turns.

    python -m benchmarks.gguf FILE [--lengths 512 2048 8192] [--rounds 3] [--threads 2] [--busy N]
    python -m benchmarks.gguf FILE --logprobs TEXT [--float32 FILE]
    python -m benchmarks.gguf FILE --effect TEXT [--documents FOLDER --ask QUESTION ...]

Sides are mm1, mm1 with --fast (activations in eight bits) and llama.cpp, which is the llama-server
of xllamacpp. Each runs in a process of its own and the best round counts. Prefill is held against a
large float32 product, decode (16 tokens behind the prompt) against the rate at which memory is
read, both measured in the same run; of the file all but the embedding is read for a token. --busy
has N other processes want a core each, as on a machine in use.

--logprobs compares log-probabilities over the first 400 tokens of TEXT at 13 places: mm1's and
llama-server's on the file, each with llama-server's on the same weights as float32, which are
written to --float32 (default: beside the file, .float32.gguf), four bytes a weight.

--effect is what --fast changes: log-probabilities over the first 1,000 tokens of TEXT, of the token
that follows and of the likeliest; with questions also the order of evidence and the answers of
`mm1 analyze FOLDER`.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import PEER_ENVIRONMENT, machine

DECODED = 16
EFFECT_TOKENS = 1000
PLACES = (1, 2, 5, 10, 20, *range(50, 401, 50))
LIKELIEST = 64


def token_ids(count: int, seed: int) -> list[int]:
    chosen = random.Random(seed)
    return [chosen.randrange(1000, 20_000) for _ in range(count)]


def mm1(file: Path, length: int, threads: int, *, fast: bool = False) -> dict[str, float]:
    begun = time.perf_counter()
    import torch

    from engine.context import Context

    torch.set_num_threads(threads)
    model = opened(file, fast=fast)
    opened_s = time.perf_counter() - begun
    with torch.inference_mode():
        first = Context(model, 1024)
        first.extend(token_ids(32, 0))  # the JIT compiles
        first.extend([7])
        compiled = time.perf_counter() - begun - opened_s
        context, ids = Context(model, 1024), token_ids(length, 1)
        begun = time.perf_counter()
        context.extend(ids)
        prefill = length / (time.perf_counter() - begun)
        begun = time.perf_counter()
        for _ in range(DECODED):
            context.extend([7])
        decode = DECODED / (time.perf_counter() - begun)
    return {"prefill": prefill, "decode": decode, "open": opened_s, "compile": compiled}


def mm1_fast(file: Path, length: int, threads: int) -> dict[str, float]:
    return mm1(file, length, threads, fast=True)


def opened(file: Path, *, fast: bool = False) -> Any:  # noqa: ANN401 (a Model, which imports torch)
    import torch

    from engine.model_source import ModelSource
    from engine.weights import load

    cpu = torch.device("cpu")
    source = ModelSource(file)
    checkpoint = source.open_checkpoint(has_int8_rows=fast)
    model = load(checkpoint, source.config, device=cpu, dtype=torch.float32)
    model.prepare_for_inference()
    return model


def llama(file: Path, length: int, threads: int) -> dict[str, float]:
    begun = time.perf_counter()
    with llama_server(file, length + 2 * DECODED, threads) as at:
        opened_s = time.perf_counter() - begun
        body = {"prompt": token_ids(length, 1), "n_predict": DECODED + 1, "ignore_eos": True}
        timings = asked(at, body | {"cache_prompt": False})["timings"]
    prefill, decode = timings["prompt_per_second"], timings["predicted_per_second"]
    return {"prefill": prefill, "decode": decode, "open": opened_s}


@contextmanager
def busy(num_processes: int) -> Iterator[None]:
    """Beside so many that compute and never wait."""
    command = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(command) for _ in range(num_processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@contextmanager
def llama_server(
    file: Path, num_tokens: int, threads: int, *, has_float32_kv: bool = False
) -> Iterator[str]:
    """Its address. Leave the process by `os._exit`: its end may wait for itself."""
    import xllamacpp  # type: ignore[import-untyped, unused-ignore]

    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_parallel, parameters.n_ctx = str(file), 1, num_tokens
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    if has_float32_kv:  # else it rounds keys and values to float16
        off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.flash_attn_type = off
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    server = xllamacpp.Server(parameters)
    yield server.listening_address


def asked(at: str, body: dict[str, Any]) -> dict[str, Any]:
    content = json.dumps({"temperature": 0, **body}).encode()
    request = urllib.request.Request(
        f"{at}/completion", content, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=3600) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


SIDES = {"mm1": mm1, "mm1 --fast": mm1_fast, "llama.cpp": llama}


def limits(file: Path, threads: int) -> tuple[float, float]:
    """Tokens per second if prefill were float32 products alone, and decode reading alone."""
    import torch

    from engine.model_source import ModelSource
    from engine.placement.flops import of_model

    torch.set_num_threads(threads)
    config = ModelSource(file).config
    flops = of_model(config, 512).total / 512
    embedding = dict(config.quantization.blocks)["embed.weight"].num_bytes
    read = file.stat().st_size - (0 if config.tied_embeddings else embedding)
    return machine.product_flops() / flops, machine.read_bytes_per_s() / read


def one_round(name: str, file: Path, length: int, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.gguf", str(file), "--side", name]
    command += ["--lengths", str(length), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=PEER_ENVIRONMENT)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def speeds(file: Path, lengths: Sequence[int], num_rounds: int, threads: int) -> None:
    best_prefill, best_decode = limits(file, threads)
    print(f"limits: float32 products {best_prefill:.0f}, reading {best_decode:.0f} tokens/s")
    for length in lengths:
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
        for _ in range(num_rounds):
            for name in SIDES:
                rounds[name].append(one_round(name, file, length, threads))
        for name, found in rounds.items():
            prefill, decode = (max(one[key] for one in found) for key in ("prefill", "decode"))
            opened_s, compiled, memory = (
                min(one.get(key, 0.0) for one in found) for key in ("open", "compile", "memory")
            )
            print(
                f"{length:>6} {name:<10} prefill {prefill:6.1f} ({prefill / best_prefill:4.0%})  "
                f"decode {decode:5.1f} ({decode / best_decode:4.0%})  open {opened_s:.1f} s, first "
                f"tokens {compiled:.1f} s  {memory:.2f} GB"
            )
        for name in ("mm1", "mm1 --fast"):
            ratios = [
                max(one[key] for one in rounds[name]) / max(one[key] for one in rounds["llama.cpp"])
                for key in ("prefill", "decode")
            ]
            print(
                f"{length:>6} {name} : llama.cpp  prefill {ratios[0]:.2f}  decode {ratios[1]:.2f}"
            )


def logprobs(file: Path, text: Path, as_float32: Path, threads: int) -> None:
    """Prints the largest difference among the likeliest tokens at each place, of both sides."""
    import torch

    from engine.context import Context
    from engine.tokenizer import Tokenizer

    torch.set_num_threads(threads)
    ids = Tokenizer(file).encode(text.read_text(encoding="utf-8"))[: PLACES[-1]]
    places = [place for place in PLACES if place <= len(ids)]
    if not as_float32.exists():
        with_float32(file, as_float32)
    model = opened(file)
    with torch.inference_mode():
        chunks = Context(model, 256).chunks(ids)
        rows = torch.cat([model.logits(hidden) for _, hidden in chunks]).double().log_softmax(-1)
    told: dict[str, list[dict[int, float]]] = {}
    for name, served in (("float32", as_float32), ("blocks", file)):
        with llama_server(served, len(ids) + DECODED, threads, has_float32_kv=True) as at:
            told[name] = [likeliest(at, ids[:place]) for place in places]
    off = {"mm1": [0.0], "llama.cpp": [0.0]}
    num_same = 0
    for place, want, theirs in zip(places, told["float32"], told["blocks"], strict=True):
        ours = rows[place - 1]
        num_same += int(ours.argmax()) == max(want, key=want.__getitem__)
        off["mm1"].append(max(abs(float(ours[token]) - value) for token, value in want.items()))
        off["llama.cpp"].append(
            max(abs(theirs[token] - value) for token, value in want.items() if token in theirs)
        )
    for name, found in off.items():
        print(f"{name:<10} off by {max(found):.1e} at most, from the same weights as float32")
    print(f"the likeliest token of mm1 is that of float32 at {num_same} of {len(places)} places")


def effect(file: Path, text: Path, threads: int) -> None:
    """Prints what --fast changes in log-probabilities; both sides read in one chunk."""
    import torch

    from engine.context import Context
    from engine.tokenizer import Tokenizer

    torch.set_num_threads(threads)
    ids = Tokenizer(file).encode(text.read_text(encoding="utf-8"))[:EFFECT_TOKENS]
    rows = []
    with torch.inference_mode():
        for fast in (False, True):
            model = opened(file, fast=fast)
            chunks = Context(model, EFFECT_TOKENS).chunks(ids)
            logits = torch.cat([model.logits(hidden) for _, hidden in chunks])
            rows.append(logits.double().log_softmax(-1))
    exact, fast_rows = rows
    following = torch.tensor(ids[1:])[:, None]
    most, likeliest_ids = exact.max(dim=-1, keepdim=True)
    for name, off in (
        ("token that follows", (fast_rows - exact)[:-1].gather(1, following)),
        ("likeliest token", fast_rows.gather(1, likeliest_ids) - most),
    ):
        print(f"{name}: off by {off.abs().mean():.4f} on average, {off.abs().max():.3f} at most")
    same = (fast_rows.argmax(-1) == likeliest_ids[:, 0]).double().mean()
    kl = (exact.exp() * (exact - fast_rows)).sum(-1).mean()
    nll = [-one[:-1].gather(1, following).mean() for one in rows]
    print(f"{len(ids)} tokens: the likeliest the same at {same:.1%}, KL {kl:.1e} nats,")
    print(f"nats of the text {nll[0]:.4f} without, {nll[1]:.4f} with")


def effect_on_answers(file: Path, documents: Path, questions: Sequence[str]) -> None:
    """Prints for each question whether evidence and answer are the same with --fast."""
    command = [sys.executable, "-m", "mm1cli", "analyze", str(documents), "--model", str(file)]
    command += ["--json", "--no-cache", *(word for text in questions for word in ("--ask", text))]
    told = []
    for more in ((), ("--fast",)):
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=True)
        told.append(json.loads(done.stdout)["answers"])
    for question, exact, fast in zip(questions, *told, strict=True):
        orders = [[(one["path"], one["start"]) for one in a["citations"]] for a in (exact, fast)]
        print(f"{question}: evidence {'the same' if orders[0] == orders[1] else orders}")
        answers = [exact["answer"], fast["answer"]]
        print(f"  answer {'the same' if answers[0] == answers[1] else ''}: {answers}")


def likeliest(at: str, ids: Sequence[int]) -> dict[int, float]:
    answer = asked(at, {"prompt": list(ids), "n_predict": 1, "n_probs": LIKELIEST})
    found = answer["completion_probabilities"][0]["top_logprobs"]
    return {token["id"]: token["logprob"] for token in found}


def with_float32(source: Path, target: Path) -> Path:
    """The GGUF file `source` with every tensor as the float32 numbers its blocks stand for."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_array(field.name, field.contents())
        else:
            writer.add_key_value(field.name, field.contents(), kind)
    for tensor in reader.tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float32).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--logprobs", type=Path)
    parser.add_argument("--float32", type=Path)
    parser.add_argument("--effect", type=Path)
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--ask", nargs="+", default=[])
    parser.add_argument("--side", choices=SIDES)
    arguments = parser.parse_args()
    file, threads = arguments.file, arguments.threads
    if arguments.side:
        found = SIDES[arguments.side](file, arguments.lengths[0], threads)
        print(json.dumps(found | {"memory": machine.peak_bytes() / 1e9}), flush=True)
        os._exit(0)
    if arguments.effect is not None:
        effect(file, arguments.effect, threads)
        if arguments.ask:
            effect_on_answers(file, arguments.documents, arguments.ask)
        return
    if arguments.logprobs is None:
        with busy(arguments.busy):
            speeds(file, arguments.lengths, arguments.rounds, threads)
        return
    as_float32 = arguments.float32 or file.with_suffix(".float32.gguf")
    logprobs(file, arguments.logprobs, as_float32, threads)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
