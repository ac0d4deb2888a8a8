"""Save and restore a context of a small Lightning hybrid, at lengths up to a million tokens.

    python -m benchmarks.context [--lengths 8192 65536 262144] [--folder DIR]

The model is random and small (its answers mean nothing; its bytes and times do): 7 Lightning layers
and 1 softmax layer whose document tokens see a window, so that its prefill is linear. For each
length: seconds of a build with and without saving; bytes on disk; seconds to open, with every
checksum, from a disk whose cache was dropped if that is allowed here, beside reading the same
bytes once; and seconds until the first token of an answer, cold against restored.
"""

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks import machine
from engine.checkpoint import Checkpoint, load
from engine.families import read_config
from engine.model import Model
from engine.store.manifest import Maker
from engine.store.plan import ContextPlan
from engine.store.store import Store
from training.export import tensors_of

LENGTHS = (8_192, 65_536, 262_144, 1_000_000)
QUESTION_TOKENS = 32
CHUNK_TOKENS = 1024

_HYBRID = {
    "model_type": "mm1",
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
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
    "layers": ["local"] * 7 + ["far"],
}


def hybrid(folder: Path) -> Model:
    """The random model, through a checkpoint as any other."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_HYBRID), encoding="utf-8")
    config = read_config(folder)
    torch.manual_seed(0)
    model = Model(config)
    for parameter in model.parameters():
        scale = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 1.0
        parameter.data = scale * torch.randn_like(parameter)
    save_file(tensors_of(model), folder / "model.safetensors")
    loaded = load(Checkpoint(folder), config, device=torch.device("cpu"), dtype=torch.float32)
    loaded.settle()
    return loaded


def drop_cache() -> bool:
    """Asks the system to forget what it has read; False where that is not allowed."""
    with suppress(OSError):
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
        return True
    return False


def read_all(folder: Path) -> int:
    """Reads every byte once, as plainly as can be."""
    total = 0
    buffer = bytearray(1 << 22)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    total += count
    return total


def measure(model: Model, length: int, folder: Path) -> dict[str, object]:
    from engine.context import Context

    draw = random.Random(length)
    ids = [draw.randrange(4096) for _ in range(length)]
    question = ids[:QUESTION_TOKENS]
    maker = Maker("benchmark", CHUNK_TOKENS, "float32")
    store = Store(folder, model, maker)

    def first_token(context: Context) -> float:
        fork = context.fork()
        fork.attend_globally()
        took = machine.seconds(lambda: fork.extend(question))
        assert fork.logits is not None
        return took

    plain = Context(model, CHUNK_TOKENS)
    prefill_s = machine.seconds(partial(plain.extend, ids))
    question_s = first_token(plain)
    build_s = machine.seconds(lambda: store.build(ContextPlan(ids)))
    cold_disk = drop_cache()
    began = time.perf_counter()
    num_bytes = read_all(folder)
    read_s = time.perf_counter() - began
    drop_cache()
    began = time.perf_counter()
    restored = store.open()
    open_s = time.perf_counter() - began
    restored_question_s = first_token(restored)
    began = time.perf_counter()
    store.open(check=False)
    unchecked_s = time.perf_counter() - began
    return {
        "tokens": length,
        "prefill_s": prefill_s,
        "build_s": build_s,
        "bytes": num_bytes,
        "cold_disk": cold_disk,
        "read_once_s": read_s,
        "open_s": open_s,
        "open_unchecked_s": unchecked_s,
        "question_s": question_s,
        "restored_question_s": restored_question_s,
        "cold_first_token_s": prefill_s + question_s,
        "restored_first_token_s": open_s + restored_question_s,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--folder", type=Path, help="where to save, if not a temporary folder")
    arguments = parser.parse_args()
    root = arguments.folder or Path(tempfile.mkdtemp(prefix="mm1-context-"))
    rows = []
    try:
        model = hybrid(root / "model")
        print(
            f"{'tokens':>9} {'prefill s':>9} {'build s':>8} {'MB':>7} {'read s':>7} {'open s':>7} "
            f"{'of reading':>10} {'first token: cold s':>19} {'restored s':>10}"
        )
        for length in arguments.lengths:
            row = measure(model, length, root / "context")
            shutil.rmtree(root / "context")
            rows.append(row)
            ratio = row["open_s"] / row["read_once_s"]  # type: ignore[operator]
            print(
                f"{length:>9,} {row['prefill_s']:>9.1f} {row['build_s']:>8.1f} "
                f"{row['bytes'] / 1e6:>7.0f} {row['read_once_s']:>7.2f} "  # type: ignore[operator]
                f"{row['open_s']:>7.2f} {ratio:>9.1f}x {row['cold_first_token_s']:>19.1f} "
                f"{row['restored_first_token_s']:>10.2f}"
            )
    finally:
        if arguments.folder is None:
            shutil.rmtree(root, ignore_errors=True)
    machine.print_result("context", rows)


if __name__ == "__main__":
    main()
