"""Save and restore a context of a small Lightning hybrid, at lengths up to a million tokens.

    python -m benchmarks.context [--lengths 8192 65536 262144] [--kv int8] [--lightning 1]

The model is random and small (its answers mean nothing; its bytes and times do): 7 Lightning layers
(or as many as --lightning says) and 1 softmax layer of width 128, 2 heads of 64. Document tokens
see a window in the softmax layer, so prefill is linear; the question sees everything. For each
length: seconds of prefill and, apart from it, of saving; bytes; seconds to open with every
checksum, after the system was asked to forget the files and from its cache, beside reading the
same bytes once; and seconds until the first token of an answer, cold against restored, whose
logits must be equal bit by bit.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks import machine
from benchmarks.context import disk
from engine.api import ContextPlan
from engine.checkpoint import Checkpoint
from engine.context import Context
from engine.families import read_config
from engine.model import Model
from engine.store.manifest import Compatibility
from engine.store.store import Store
from engine.weights import load
from training.export import tensors_of

LENGTHS = (8_192, 65_536, 262_144, 1_000_000)
QUESTION_TOKENS = 32
CHUNK_TOKENS = 1024

_HYBRID = {
    "model_type": "mm1",
    "vocab_size": 4096,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "max_position_embeddings": 1_048_576,
    "layer_kinds": {
        "local": {"mixer": "lightning", "silu": False, "qk_norm": True, "rotary_dim": 64},
        "far": {"mixer": "softmax", "rotary_dim": 32, "window_tokens": 512, "sink_tokens": 4},
    },
}


def hybrid(folder: Path, num_lightning: int) -> Model:
    """The random model, through a checkpoint as any other."""
    folder.mkdir(parents=True, exist_ok=True)
    config_json = {**_HYBRID, "layers": ["local"] * num_lightning + ["far"]}
    (folder / "config.json").write_text(json.dumps(config_json), encoding="utf-8")
    config = read_config(folder)
    torch.manual_seed(0)
    model = Model(config)
    for parameter in model.parameters():
        scale = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 1.0
        parameter.data = scale * torch.randn_like(parameter)
    save_file(tensors_of(model), folder / "model.safetensors")
    loaded = load(Checkpoint(folder), config, device=torch.device("cpu"), dtype=torch.float32)
    loaded.prepare_for_inference()
    return loaded


def measure(model: Model, length: int, kv: str, folder: Path) -> dict[str, float]:
    draw = random.Random(length)
    ids = [draw.randrange(4096) for _ in range(length)]
    question = ids[:QUESTION_TOKENS]
    store = Store(folder, model, Compatibility("benchmark", CHUNK_TOKENS, kv))

    def first_token(context: Context) -> float:
        """Seconds of a question's own tokens, and its logits."""
        fork = context.fork()
        fork.end_of_documents()
        took = machine.seconds(lambda: fork.extend(question))
        assert fork.logits is not None
        logits.append(fork.logits)
        return took

    logits: list[torch.Tensor] = []
    with disk.saving() as spent:
        began = time.perf_counter()
        built = store.build(ContextPlan(ids)).context
        build_s = time.perf_counter() - began
    question_s = first_token(built)
    del built
    is_cold = disk.forget(folder)
    began = time.perf_counter()
    num_bytes = disk.read_all(folder)
    read_s = time.perf_counter() - began
    disk.forget(folder)
    began = time.perf_counter()
    restored = store.open()
    open_s = time.perf_counter() - began
    restored_question_s = first_token(restored)
    warm_open_s = machine.seconds(store.open)
    warm_read_s = machine.seconds(lambda: disk.read_all(folder))
    assert torch.equal(*logits), "the restored context answers otherwise"
    return {
        "tokens": length,
        "bytes": num_bytes,
        "prefill_s": build_s - spent.seconds,
        "save_s": spent.seconds,
        "is_cold": is_cold,
        "read_once_s": read_s,
        "open_s": open_s,
        "warm_read_once_s": warm_read_s,
        "warm_open_s": warm_open_s,
        "question_s": question_s,
        "restored_question_s": restored_question_s,
        "cold_first_token_s": build_s - spent.seconds + question_s,
        "restored_first_token_s": open_s + restored_question_s,
        "resident_bytes": machine.resident_bytes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--kv", choices=("float32", "int8"), default="float32")
    parser.add_argument("--lightning", type=int, default=7, help="Lightning layers. [7]")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, help="where to save, if not a temporary folder")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    root = arguments.folder or Path(tempfile.mkdtemp(prefix="mm1-context-"))
    rows: list[dict[str, float]] = []
    try:
        model = hybrid(root / "model", arguments.lightning)
        print(
            f"{'tokens':>9} {'MB':>6} {'prefill s':>9} {'save s':>7} {'read s':>7} {'open s':>7} "
            f"{'ratio':>6} {'in cache: read s':>16} {'open s':>7} {'ratio':>6} "
            f"{'first token: cold s':>19} {'restored s':>10}",
            flush=True,
        )
        for length in arguments.lengths:
            row = measure(model, length, arguments.kv, root / "context")
            shutil.rmtree(root / "context")
            rows.append(row)
            print(
                f"{length:>9,} {row['bytes'] / 1e6:>6.0f} {row['prefill_s']:>9.1f} "
                f"{row['save_s']:>7.2f} {row['read_once_s']:>7.2f} {row['open_s']:>7.2f} "
                f"{row['open_s'] / row['read_once_s']:>5.1f}x {row['warm_read_once_s']:>16.2f} "
                f"{row['warm_open_s']:>7.2f} {row['warm_open_s'] / row['warm_read_once_s']:>5.1f}x "
                f"{row['cold_first_token_s']:>19.1f} {row['restored_first_token_s']:>10.2f}",
                flush=True,
            )
    finally:
        if arguments.folder is None:
            shutil.rmtree(root, ignore_errors=True)
    facts = {"kv": arguments.kv, "lightning_layers": arguments.lightning}
    machine.print_result("context", [{**facts, **row} for row in rows])


if __name__ == "__main__":
    main()
