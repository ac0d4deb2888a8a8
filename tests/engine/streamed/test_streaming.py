"""Red here means a streamed model is not the resident one, or leaves things behind."""

import gc
import json
import os
import tempfile
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny import (
    EXPERTS,
    hf_spelling,
    llama_config,
    minimax_config,
    mm1_config,
    random_weights,
    write_checkpoint,
)

from engine import placement
from engine.checkpoint import Checkpoint
from engine.context import Context
from engine.engine import Engine
from engine.errors import CheckpointError, EngineError, PlacementError
from engine.families import family_named, read_config
from engine.placement import Machine, Precision
from engine.placement.run_bytes import RunSpec
from engine.quantized.forms import KEY, Form
from engine.quantized.quantize import quantize
from engine.streamed.model import parts_of, stream
from engine.streamed.weight_groups import DENSE, GroupKey, WeightGroups
from engine.weights import load
from kernels import Int8Weight

CONFIGS = {
    "m1": minimax_config(),
    "m1 with a shared MLP": minimax_config(shared_intermediate_size=20, num_local_experts=9),
    "hf": hf_spelling(minimax_config()),
    "llama": llama_config(),
    "untied llama": llama_config(tie_word_embeddings=False),
    "mm1": mm1_config(),
    "mm1 with experts": mm1_config(**EXPERTS),
}
# 64 columns divide into groups of 32, 20 and 24 do not: those become int8
QUANTISED_CONFIGS = {
    "m1": minimax_config(shared_intermediate_size=64, num_local_experts=9),
    "llama": llama_config(intermediate_size=64),
    "mm1": mm1_config(intermediate_size=64),
}
CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


def half(weights):
    """As published: bfloat16 but for the router."""
    return {k: v if ".gate.w" in k else v.bfloat16() for k, v in weights.items()}


def model_dir(folder, config, *, is_half=True):
    weights = random_weights(config)
    return write_checkpoint(folder, config, half(weights) if is_half else weights, num_shards=3)


def quantised(folder, form, config, *, is_half=True, plain=()):
    """In `form`, or int8 where rows do not divide; the parameters in `plain` as they were."""
    source = model_dir(folder / "plain", config, is_half=is_half)
    target, read = folder / form.replace("/", " "), read_config(source)
    quantize(source, target, form, shard_bytes=20_000)
    if not plain:
        return target
    tensors = {name: Checkpoint(target).read(name) for name in Checkpoint(target).tensors}
    sources = family_named(read.family).sources(read)
    for name in (name for parameter in plain for name in sources[parameter]):
        for suffix in ("codes", "scales", "offsets"):
            tensors.pop(f"{name}.{suffix}", None)
        tensors[name] = Checkpoint(source).read(name)
    raw = json.loads((target / "config.json").read_text())
    raw[KEY]["exceptions"] |= dict.fromkeys(plain, "plain")
    return write_checkpoint(folder / "mixed", raw, tensors)


PLAIN = [(name, precision) for name in CONFIGS for precision in ("bfloat16", "float32")]
QUANTISED = [(name, form) for name in QUANTISED_CONFIGS for form in (Form.INT8, Form.INT4_32)]
PARTLY_PLAIN = ("layers.0.mixer.out", "layers.1.mlp.down", "layers.2.mlp.gate_up")


@pytest.fixture(scope="module", params=[*PLAIN, *QUANTISED, ("m1", "mixed")], ids=str)
def directory(request, tmp_path_factory):
    name, precision = request.param
    folder = tmp_path_factory.mktemp("model")
    if precision == "mixed":
        return quantised(folder, Form.INT4_32, QUANTISED_CONFIGS["m1"], plain=PARTLY_PLAIN)
    if isinstance(precision, Form):
        return quantised(folder, precision, QUANTISED_CONFIGS[name])
    return model_dir(folder, CONFIGS[name], is_half=precision == "bfloat16")


def least_and_most(checkpoint, config):
    sizes = parts_of(checkpoint, config, **CPU).sizes
    return sizes.least_cache_bytes(config.num_experts_per_token), sizes.layers_bytes


def streamed(directory, share=0.0, **options):
    """With room for the least (share 0) up to for everything (share 1)."""
    checkpoint, config = Checkpoint(directory), read_config(directory)
    least, most = least_and_most(checkpoint, config)
    pool_bytes = least + int(share * (most - least))
    model = stream(checkpoint, config, pool_bytes=pool_bytes, **CPU, **options)
    model.prepare_for_inference()
    return model


def resident(directory):
    model = load(Checkpoint(directory), read_config(directory), **CPU)
    model.prepare_for_inference()
    return model


def logits(model, prompt, steps, chunk_tokens=16):
    context = Context(model, chunk_tokens)
    context.extend(prompt)
    rows = [context.logits]
    for token in steps:
        context.extend([token])
        rows.append(context.logits)
    return torch.stack(rows)


@settings(deadline=None, max_examples=4)
@given(st.floats(0, 1), st.integers(1, 70), st.integers(1, 5), st.integers(1, 40))
def test_every_bit_is_that_of_the_resident_model(directory, share, count, num_steps, chunk_tokens):
    model = streamed(directory, share)
    prompt = torch.randint(4, 290, (count,), generator=torch.Generator().manual_seed(count))
    run = (prompt.tolist(), range(7, 7 + num_steps), chunk_tokens)
    wanted = logits(resident(directory), *run)
    assert bool(wanted.isfinite().all())
    assert torch.equal(logits(model, *run), wanted)


def test_read_past_the_page_cache_every_bit_is_the_same(directory, monkeypatch):
    """Where a tensor lies in its memory goes by where it lies in its file."""
    monkeypatch.setattr(placement.weight_bytes, "_LARGE_BYTES", 1)
    prompt, steps = list(range(4, 90)), [9, 10]
    wanted = logits(resident(directory), prompt, steps)
    assert torch.equal(logits(streamed(directory, 0.3), prompt, steps), wanted)


def test_experts_that_are_large_are_read_past_the_page_cache(tmp_path, monkeypatch):
    """Red: each is copied out of the cache, which takes a processor from the products."""
    monkeypatch.setattr(
        placement.weight_bytes, "_LARGE_BYTES", 2 * placement.weight_bytes.PAGE_BYTES
    )
    directory = model_dir(tmp_path, minimax_config(intermediate_size=600))
    prompt, steps = list(range(4, 90)), [9]
    wanted, read = logits(resident(directory), prompt, steps), {}
    preadv = os.preadv

    def counted(file, *rest):
        read[file] = read.get(file, 0) + (count := preadv(file, *rest))
        return count

    monkeypatch.setattr(os, "preadv", counted)
    model = streamed(directory, 0.3)
    assert torch.equal(logits(model, prompt, steps), wanted)
    shards = model.pool._reader._shards
    if shards._direct:  # the file system has it
        direct = sum(read.get(file, 0) for file in shards._direct.values())
        assert direct > 0.5 * model.io_stats.read_bytes


def test_parts_take_what_is_counted(directory):
    """Red: a quantised weight was made plain while it was read, or a pool holds more than it may"""
    model = streamed(directory, 1.0)
    logits(model, list(range(4, 60)), [9])
    parts = parts_of(Checkpoint(directory), model.config, **CPU)
    for key, entry in model.pool._entries.items():
        held = 0
        for name, weight in entry.part.weights.items():
            form = model.config.quantization.form_of(f"layers.{key.layer}.{name}")
            plain = isinstance(weight, torch.Tensor)
            assert plain == (form is Form.PLAIN)
            assert plain or isinstance(weight, Int8Weight) == (form is Form.INT8)
            held += weight.nbytes if plain else weight.num_bytes
        assert 0 <= parts.num_bytes(key) - held < (1 if key.expert == DENSE else 6 * 64)
        assert entry.part.buffer is None or entry.part.buffer.nbytes == parts.num_bytes(key)
        assert entry.num_bytes == parts.num_bytes(key)
    reader = model.pool._reader
    precision = placement.stored_precision(Checkpoint(directory), model.config)
    run = RunSpec(model.config, 60, 16, torch.float32, torch.float32, False, precision)
    norm = 4 * max(model.config.hidden_size, model.config.attention_size)  # too small to be planned
    assert 0 < reader._staging.num_bytes + len(reader._wide) <= run.reading_bytes() + norm
    assert len(model.pool._entries) == (1 + model.config.num_experts) * model.config.num_layers


@pytest.mark.parametrize("tensor", ["1.self_attn.out_proj", "2.block_sparse_moe.experts.3.w2"])
@pytest.mark.parametrize("suffix", ["scales", "offsets"])
def test_a_scale_that_is_not_finite_is_told_where_it_is_read(tmp_path, tensor, suffix):
    directory = quantised(tmp_path, Form.INT4_32, minimax_config(intermediate_size=64))
    for file in directory.glob("*.safetensors"):
        tensors = load_file(file)
        for name, values in tensors.items():
            if name == f"model.layers.{tensor}.weight.{suffix}":
                values[3, 0] = float("nan")
        save_file(tensors, file)
    with pytest.raises(CheckpointError, match=rf"{tensor}\.weight\.{suffix} is not finite"):
        Context(streamed(directory), 16).extend(range(4, 90))


def test_with_room_for_all_each_weight_is_read_once(tmp_path):
    model = streamed(model_dir(tmp_path, minimax_config()), 1.0)
    logits(model, list(range(4, 60)), range(9, 14))
    keys = [GroupKey(layer, expert) for layer in range(4) for expert in range(DENSE, 4)]
    assert model.io_stats.num_reads == len(keys)
    reader = WeightGroups(
        Checkpoint(tmp_path), model.config, list(resident(tmp_path).layers), **CPU
    )
    assert model.io_stats.read_bytes == sum(map(reader.read_bytes, keys))
    assert model.pool.held_bytes == sum(map(reader.num_bytes, keys)) > model.io_stats.read_bytes


def test_a_long_context_reads_a_layer_once_however_many_chunks(tmp_path):
    """Red here means the point of going layer by layer is lost."""
    directory = model_dir(tmp_path, minimax_config())
    one_layer = least_and_most(Checkpoint(directory), read_config(directory))[1] // 4
    reads = []
    for num_tokens in (64, 640):
        model = stream(
            Checkpoint(directory), read_config(directory), pool_bytes=int(2.2 * one_layer), **CPU
        )
        Context(model, 64).extend([5 + n % 280 for n in range(num_tokens)])
        model.pool.close()
        reads.append(model.io_stats.num_reads)
    assert 20 <= reads[1] <= reads[0] + 5


def test_an_error_on_disk_comes_out_of_reading_tokens(tmp_path):
    directory = model_dir(tmp_path, minimax_config())
    model = streamed(directory)
    context = Context(model, 16)
    for file in directory.glob("*.safetensors"):
        with file.open("rb+") as handle:
            handle.truncate(2000)
    with pytest.raises(CheckpointError, match="cut while in use"):
        context.extend(range(4, 40))
    with pytest.raises(EngineError, match="interrupted"):
        context.extend([1])


def test_an_interruption_between_chunks_is_prompt_and_leaves_nothing_behind(tmp_path):
    directory = model_dir(tmp_path / "m", minimax_config())
    model, spill = streamed(directory, 0.3), tmp_path / "spill"
    model.folder = spill
    seen = []

    def stop(done, total):
        seen.append(done)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Context(model, 16).extend(range(4, 90), stop)
    assert len(seen) == 6
    assert list(spill.iterdir()) == []
    assert all(p.is_meta for layer in model.layers._modules.values() for p in layer.parameters())
    assert not any(entry.num_users for entry in model.pool._entries.values())
    run = (list(range(4, 90)), range(4))
    assert torch.equal(logits(model, *run), logits(resident(directory), *run))
    model.pool.close()
    gc.collect()
    assert all(thread.name != "weights" for thread in threading.enumerate())


def test_a_pass_that_nobody_ended_does_not_disturb_the_next_one(tmp_path):
    """As when the error that ended it is still being looked at."""
    directory = model_dir(tmp_path, minimax_config())
    model = streamed(directory)
    left = iter(model.layers)
    next(left)
    run = (list(range(4, 40)), [9])
    wanted = logits(resident(directory), *run)
    ids, states = torch.tensor(range(4, 40)), model.empty_states()
    with torch.inference_mode():
        hidden = torch.nn.functional.embedding(ids, model.embed.weight)
        for layer, state in zip(model.layers, states, strict=True):
            if left is not None:
                left.close()
                left = None
            hidden = layer(hidden, state, 0)
        assert torch.allclose(model.logits(hidden[-1:])[0], wanted[0], atol=1e-4)
    assert torch.equal(logits(model, *run), wanted)


def test_hidden_states_are_spilled_where_they_are_large(tmp_path, monkeypatch):
    directory = model_dir(tmp_path / "m", minimax_config())
    model, made, mkstemp = streamed(directory), [], tempfile.mkstemp
    model.folder, model.spill_over_bytes = tmp_path / "spill", 50 * 32 * 4
    monkeypatch.setattr(tempfile, "mkstemp", lambda **o: made.append(o) or mkstemp(**o))
    wanted = logits(resident(directory), list(range(4, 90)), range(3))
    assert torch.equal(logits(model, list(range(4, 90)), range(3)), wanted)
    assert made == [{"prefix": "mm1-activations-", "dir": tmp_path / "spill"}]
    assert list((tmp_path / "spill").iterdir()) == []


def test_too_little_room_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    directory = model_dir(tmp_path, minimax_config())
    checkpoint, config = Checkpoint(directory), read_config(directory)
    least, _ = least_and_most(checkpoint, config)
    monkeypatch.setattr(
        "engine.streamed.direct_io.DirectReader.read_into", lambda *_: pytest.fail("read")
    )
    with pytest.raises(PlacementError, match="dense part and the experts of one token"):
        stream(checkpoint, config, pool_bytes=least - 1, **CPU)


def test_a_shape_that_is_not_the_configs_is_refused_as_for_a_resident_model(tmp_path):
    directory = model_dir(tmp_path, minimax_config())
    checkpoint, config = Checkpoint(directory), read_config(directory)
    info = checkpoint.tensors["model.layers.1.block_sparse_moe.experts.2.w1.weight"]
    object.__setattr__(info, "shape", (24, 31))
    with pytest.raises(CheckpointError, match=r"experts\.2\.w1"):
        stream(checkpoint, config, pool_bytes=10**9, **CPU)


def answer(engine):
    context = engine.new_context()
    context.extend(range(4, 60))
    return list(engine.decode(context, max_tokens=10))


@pytest.mark.parametrize("form", [Form.PLAIN, Form.INT4_32])
def test_an_engine_streams_what_does_not_fit_and_says_what_it_read(tmp_path, monkeypatch, form):
    # Layers much larger than what must be in memory, or there is nothing to stream.
    inner = 400 if form is Form.PLAIN else 1600
    config = minimax_config(num_local_experts=8, intermediate_size=inner)
    is_plain = form is Form.PLAIN
    directory = model_dir(tmp_path, config) if is_plain else quantised(tmp_path, form, config)
    whole = Engine(directory)
    assert whole.io_stats is None
    how = (whole.config, 80, 1024, torch.float32)
    resident = placement.plan(*how, precision=Precision.BFLOAT16)
    needed, _ = least_and_most(Checkpoint(directory), whole.config)
    disk = Machine(0, disk_bytes=2**40)
    least = placement.plan(*how, precision=Precision.BFLOAT16, machine=disk, streams=True)
    others = least.total_bytes - least.pool_bytes
    room = others + 80 * 32 * 4 + 3 * needed
    assert resident.total_bytes > room and least.pool_bytes == needed
    monkeypatch.setattr(placement.memory, "available_bytes", lambda device: room)
    engine = Engine(directory, num_tokens=80)
    assert answer(engine) == answer(whole) != []
    assert needed <= engine._model.pool._pool_bytes <= 3 * needed
    assert engine.io_stats.num_reads > 0
    assert 0 < engine.io_stats.hit_rate <= 1
    with pytest.raises(PlacementError, match=r"needs .* = weights .* read less"):
        engine.check_memory(100_000)
    tight = others + needed // 2
    monkeypatch.setattr(placement.memory, "available_bytes", lambda device: tight)
    with pytest.raises(PlacementError, match=r"needs .* = weights .* read less"):
        Engine(directory, num_tokens=80)


def test_an_engine_streams_when_it_is_told_to(tmp_path):
    directory = model_dir(tmp_path, mm1_config())
    engine = Engine(directory, pool_bytes=100_000, spill_folder=tmp_path / "spill")
    engine._model.spill_over_bytes = 1
    assert answer(engine) == answer(Engine(directory))
    assert engine.io_stats.num_reads > 5
    assert list((tmp_path / "spill").iterdir()) == []
