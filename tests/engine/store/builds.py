"""What the tests of the store share: a tiny model, small segments, and what a context holds."""

import torch
from tiny import llama_config, load_model, minimax_config, mm1_config, write_checkpoint

from engine.api import ContextPlan
from engine.config import Mixer
from engine.context import Context
from engine.layers import kv_cache
from engine.store import manifest, state_tensors, writer
from engine.store.manifest import NO_KV, Compatibility
from engine.store.store import Store
from kernels import Int8Tensor

CHUNK = 4
SEGMENT = 8
CONFIGS = {
    "minimax": minimax_config,
    "mm1": mm1_config,
    "llama": llama_config,
    "lightning": lambda: minimax_config(attn_type_list=[0, 0, 0, 0]),
}
IDS = torch.randint(4, 290, (90,), generator=torch.Generator().manual_seed(3)).tolist()
QUESTION = [7, 8, 9, 10, 11]


def make_small(set_attribute, segment=SEGMENT):
    """Segments of 8 tokens and a state every 16, through `set_attribute(module, name, value)`."""
    set_attribute(kv_cache, "BLOCK_TOKENS", segment)
    for module in (manifest, writer, state_tensors):
        set_attribute(module, "SEGMENT_TOKENS", segment)
    set_attribute(state_tensors, "STATE_EVERY_TOKENS", 2 * segment)


def tiny_model(family, directory):
    model = load_model(write_checkpoint(directory / family, CONFIGS[family]()))
    model.prepare_for_inference()
    return model


def store(folder, model, **changes):
    kv = "float32" if model.config.count(Mixer.SOFTMAX) else NO_KV
    facts = {"fingerprint": "a" * 64, "chunk_tokens": CHUNK, "kv": kv}
    return Store(folder, model, Compatibility(**{**facts, **changes}))


def build(folder, model, ids=IDS, **options):
    attachments = options.pop("attachments", {})
    ends = options.pop("document_ends", ())
    made = {
        name: options.pop(name) for name in ("chunk_tokens", "kv", "selection") if name in options
    }
    return store(folder, model, **made).build(ContextPlan(ids, ends, attachments), **options)


def cold(model, ids=IDS, *, chunk_tokens=CHUNK, kv_dtype=None):
    context = Context(model, chunk_tokens, kv_dtype=kv_dtype)
    context.extend(ids)
    return context


def contents(context):
    """Everything a context holds, as tensors."""
    found = [context.logits]
    for state in context.states:
        if isinstance(state, kv_cache.KVCache):
            rows = [rows for pair in state.segments() for rows in pair]
            found += [part for one in rows for part in _tensors(one)]
        else:
            found += state.tensors().values()
    return found


def _tensors(rows):
    return (rows.values, rows.scales) if isinstance(rows, Int8Tensor) else (rows,)


def assert_same(context, other):
    """Equal bit by bit, now and after a question."""
    assert context.token_ids == other.token_ids
    pairs = [(context, other), (context.fork(), other.fork())]
    for twin in pairs[1]:
        twin.end_of_documents()
        twin.extend(QUESTION)
    for got_context, want_context in pairs:
        for got, want in zip(contents(got_context), contents(want_context), strict=True):
            assert torch.equal(got, want)
