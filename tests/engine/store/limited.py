"""Builds, opens and asks a context whose KV is larger than the memory this process may take.

    python limited.py FOLDER mapped|by-layers|in-memory|unlimited

Run by test_memory.py. Prints a hash of the logits after a question, so that runs can be compared;
`mapped` also what is said of the memory before work. `by-layers` reads all tokens through one layer
after the other, is stopped in the last one, and goes on in the same process.
"""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import builds
import torch
import xxhash
from streamed import streamed
from tiny import mm1_config, write_checkpoint

from engine import placement
from engine.api import ContextPlan
from engine.checkpoint import Checkpoint
from engine.context import Context
from engine.errors import PlacementError
from engine.families import read_config
from engine.placement import memory
from engine.store.manifest import Compatibility
from engine.store.store import Store
from engine.weights import load

NUM_TOKENS, SEGMENT, CHUNK_TOKENS = 10_500, 512, 256
HEADROOM_BYTES = 80 << 20
CONFIG = mm1_config(
    num_attention_heads=8,
    num_key_value_heads=8,
    head_dim=128,
    layer_kinds={
        "far": {"mixer": "softmax", "rotary_dim": 8, "window_tokens": 32, "sink_tokens": 2}
    },
    layers=["far", "far"],
)


def digest(context):
    context = context.fork()
    context.end_of_documents()
    context.extend(range(4, 40))
    return xxhash.xxh3_128_hexdigest(context.logits.numpy().tobytes())


def asked(config, is_mapped):
    planned = placement.plan(config, NUM_TOKENS, CHUNK_TOKENS, torch.float32, is_mapped=is_mapped)
    try:
        placement.check(planned, torch.device("cpu"), planned.weights_bytes)
    except PlacementError as error:
        return str(error)
    return "fits"


def stop_at(num_chunks):
    left = [num_chunks]

    def hook(*_):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    return hook


def main(folder, how):
    torch.set_num_threads(1)
    builds.make_small(setattr, SEGMENT)
    directory = write_checkpoint(folder / "model", CONFIG)
    config = read_config(directory)
    model = load(Checkpoint(directory), config, device=torch.device("cpu"), dtype=torch.float32)
    model.prepare_for_inference()
    ids = torch.randint(4, 290, (NUM_TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    digest(Context(model, CHUNK_TOKENS))  # what libraries allocate once
    if how != "unlimited":
        taken = memory.field(Path("/proc/self/status"), "VmData:", 1024)
        limit = taken + HEADROOM_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if how == "by-layers":
        folder = folder / "context"
        store = Store(folder, model, Compatibility("tiny", CHUNK_TOKENS, "float32"))
        with streamed():
            hook = model.layers[1].register_forward_hook(stop_at(NUM_TOKENS // CHUNK_TOKENS))
            with suppress(KeyboardInterrupt):
                store.build(ContextPlan(ids))
            hook.remove()
            built = store.build(ContextPlan(ids))
            assert built.reused_layers == 1
        print(digest(built.context))
        assert built.context.num_bytes > 2 * HEADROOM_BYTES
        print(digest(store.open()))
    elif how == "mapped":
        store = Store(folder / "context", model, Compatibility("tiny", CHUNK_TOKENS, "float32"))
        print(digest(store.build(ContextPlan(ids)).context))
        opened = store.open()
        print(digest(opened))
        kv_bytes = opened.num_bytes
        assert kv_bytes > 2 * HEADROOM_BYTES, kv_bytes
        print(asked(config, is_mapped=True))
        print(asked(config, is_mapped=False))
    else:
        context = Context(model, CHUNK_TOKENS)
        context.extend(ids)
        print(digest(context))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
