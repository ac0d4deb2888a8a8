"""Reads and answers with a model of several times the memory this process may take.

    python streamed_limited.py make FOLDER HIDDEN_SIZE NUM_LAYERS
    python streamed_limited.py run FOLDER HEADROOM_MB|unlimited

Run by test_stream_memory.py. `make` writes a random checkpoint of MiniMax-M1's layer shape: seven
Lightning layers, then a softmax layer; 32 experts twice as wide as the model. `run`
prints a hash of the logits after a prompt and after each written token, and of what is judged in
contexts that together are larger than the limit; the bytes of the limit, those of the checkpoint,
and how many of those contexts were read at once.
"""

import resource
import sys
from functools import partial
from pathlib import Path

import torch
import xxhash
from safetensors.torch import save_file
from tiny import (
    minimax_config,
    shapes,
    write_checkpoint,
    write_config,
    write_index,
    write_tokenizer,
)

from engine.checkpoint import Checkpoint
from engine.engine import Engine
from engine.errors import PlacementError
from engine.placement.memory import field
from engine.weights import load

NUM_TOKENS, CHUNK_TOKENS, NUM_WRITTEN = 200, 64, 6
NUM_JUDGED, JUDGED_TOKENS = 16, 280


def make(folder, hidden_size, num_layers):
    config = minimax_config(
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 2,
        num_attention_heads=hidden_size // 96,
        num_key_value_heads=1,
        head_dim=128,
        rotary_dim=64,
        num_local_experts=32,
        num_hidden_layers=num_layers,
        attn_type_list=([0] * 7 + [1]) * (num_layers // 8),
    )
    write_checkpoint(folder / "tiny", minimax_config())
    write_tokenizer(folder)
    write_config(folder, config)
    shards = {}
    for name in shapes(config):
        words = name.split(".")
        # As the published shards: much smaller than the memory, which opening one takes of.
        part = [words[2], words[5][0] if "experts" in words else "x"] if "layers" in words else [""]
        shards.setdefault(f"model-{'-'.join(part)}.safetensors", []).append(name)
    wanted, generator = shapes(config), torch.Generator().manual_seed(0)
    for shard, names in shards.items():
        weights = {}
        for name in names:
            values = torch.randn(wanted[name], generator=generator)
            values = 1 + 0.1 * values if values.dim() == 1 else values / wanted[name][1] ** 0.5
            weights[name] = values if ".gate." in name else values.bfloat16()
        save_file(weights, folder / shard)
    write_index(folder, {name: shard for shard, names in shards.items() for name in names})


def run(folder, headroom):
    Engine(folder / "tiny", pool_bytes=10**6).new_context().extend([5, 6, 7])  # loads libraries
    limit = 0
    if headroom != "unlimited":
        taken = field(Path("/proc/self/status"), "VmData:", 1024)
        limit = taken + (int(headroom) << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    engine = Engine(folder, chunk_tokens=CHUNK_TOKENS, threads=1, num_tokens=NUM_TOKENS)
    assert (engine.io_stats is None) == (headroom == "unlimited"), "streams only where it must"
    ids = torch.randint(4, 290, (NUM_TOKENS,), generator=torch.Generator().manual_seed(1))
    context = engine.new_context()
    context.extend(ids.tolist())
    rows = [context.logits]
    for _ in range(NUM_WRITTEN):
        context.extend([int(context.logits.argmax())])
        rows.append(context.logits)
    assert torch.stack(rows).std() > 0.1
    now, most = [], 0

    def judged(number):
        nonlocal most
        now.append(number)
        most = max(most, len(now))
        judging = engine.new_context()
        judging.extend(torch.roll(ids, number).tolist() + [9] * (JUDGED_TOKENS - NUM_TOKENS - 8))
        scores = judging.fork().score(list(range(4, 12)))
        now.remove(number)
        return scores

    scores = engine.map_requests([partial(judged, n) for n in range(NUM_JUDGED)], JUDGED_TOKENS)
    rows.append(torch.cat(scores))
    print(xxhash.xxh3_128_hexdigest(torch.cat(rows).numpy().tobytes()))
    print(limit)
    print(sum(path.stat().st_size for path in folder.glob("*.safetensors")))
    print(most)
    if headroom != "unlimited":
        try:
            load(Checkpoint(folder), engine.config, device=torch.device("cpu"), dtype=torch.float32)
        except (MemoryError, RuntimeError, PlacementError) as error:  # of an array, of a mapping
            assert "memory" in str(error), error
        else:
            raise AssertionError("the limit is none")


if __name__ == "__main__":
    torch.set_num_threads(1)
    action, where, *rest = sys.argv[1:]
    if action == "make":
        make(Path(where), *map(int, rest))
    else:
        run(Path(where), rest[0])
