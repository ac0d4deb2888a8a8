"""Red here means a plan of wrong sums, or rates that are not what was measured."""

import json
import os
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import (
    EXPERTS,
    llama_config,
    minimax_config,
    mm1_config,
    random_weights,
    write_checkpoint,
)

from engine import placement
from engine.checkpoint import Checkpoint
from engine.families import family_of, read_config
from engine.placement import Machine, Precision, machine_rates
from engine.placement.machine_rates import Rates
from engine.quantized.forms import USUAL, Form, Quantization
from engine.quantized.quantize import quantize
from engine.streamed.model import parts_of, stream
from engine.streamed.weight_groups import DENSE, GroupKey
from kernels import Int4Weight, Int8Weight


@given(st.integers(1, 9), st.integers(1, 5))
def test_a_matrix_in_few_bits_is_counted_to_the_byte(num_rows, groups):
    weight = torch.randn(num_rows, 64 * groups)
    assert Form.INT8.num_bytes(*weight.shape) == Int8Weight.quantize(weight).num_bytes
    assert Form.INT4_64.num_bytes(*weight.shape) == Int4Weight.quantize(weight, 64).num_bytes


# Of 23 columns codes end within a multiple of 64 bytes; 20 and 23 divide into no groups.
CONFIGS = {
    "minimax": minimax_config(intermediate_size=23, shared_intermediate_size=20),
    "llama": llama_config(intermediate_size=64),
    "mm1": mm1_config(),
    "mm1 with experts": mm1_config(**EXPERTS),
}


def taken(part):
    if part.buffer is not None:
        return part.buffer.nbytes
    weights = part.weights.values()
    return sum(x.nbytes if isinstance(x, torch.Tensor) else x.num_bytes for x in weights)


@pytest.mark.parametrize("raw", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("form", [form for form in Form if form is not Form.BLOCKS])
@pytest.mark.parametrize("precision", Precision)
def test_a_streamed_model_is_planned_with_what_it_allocates(tmp_path, raw, form, precision):
    """Red: the pool is planned too small for a layer, or larger than all there is to hold."""
    weights = random_weights(raw)
    if precision is Precision.BFLOAT16:
        weights = {n: w if ".gate.w" in n else w.bfloat16() for n, w in weights.items()}
    directory = write_checkpoint(tmp_path / "plain", raw, weights)
    if form is not Form.PLAIN:
        quantize(directory, tmp_path / "small", form)
        directory = tmp_path / "small"
    checkpoint, config = Checkpoint(directory), read_config(directory)
    assert placement.stored_precision(checkpoint, config) is precision
    how = {"device": torch.device("cpu"), "dtype": torch.float32}
    parts, chosen = parts_of(checkpoint, config, **how), config.num_experts_per_token
    layers = [
        [taken(parts.read(GroupKey(n, e), [])) for e in range(DENSE, config.num_experts)]
        for n in range(config.num_layers)
    ]
    model = stream(checkpoint, config, pool_bytes=10**9, **how)
    model.prepare_for_inference()
    fixed = [model.embed.weight, model.norm.weight, model.head.weight]
    fixed += [x for one in model.layers._routers.values() for x in (one.norm, one.router)]
    model.pool.close()
    least, most = max(sum(each[: chosen + 1]) for each in layers), sum(map(sum, layers))
    for ram_bytes, pool_bytes in ((0, least), (10**12, most)):
        machine = Machine(ram_bytes, disk_bytes=10**9)
        how = {"precision": precision, "machine": machine, "streams": True}
        planned = placement.plan(config, 80, 64, torch.float32, **how)
        assert planned.pool_bytes == pool_bytes
        assert planned.weights_bytes == sum(x.nbytes for x in fixed)
    stored = placement.checkpoint_info(directory, config)
    assert planned.load_bytes + planned.prefill_read_bytes == stored.stored_bytes
    assert (form is Form.PLAIN) == (stored.stored_as == precision)


def test_exceptions_are_planned_as_they_are():
    """Red: a model partly in int8 is taken for one in int4, and does not fit when it is loaded."""
    config = family_of(CONFIGS["minimax"]).read_config(CONFIGS["minimax"])
    down = "layers.2.mlp.down"
    sizes = []
    for form in (Form.INT8, Form.PLAIN):
        own = Quantization(Form.INT8, ((down, form),))
        sizes.append(placement.plan(replace(config, quantization=own), 0, 16, torch.float32))
    experts = 4 * 32 * 23
    assert sizes[1].weights_bytes - sizes[0].weights_bytes == 3 * experts - 4 * 4 * 32


def test_a_quantised_model_is_known_by_its_index_alone(tmp_path):
    """Red: quantised weights need their shards to be planned, or count as if they were plain."""
    source, small = write_checkpoint(tmp_path / "m", minimax_config()), tmp_path / "small"
    written = quantize(source, small, Form.INT4_32, shard_bytes=20_000)
    config = read_config(small)
    by_headers = placement.checkpoint_info(small, config)
    assert by_headers.stored_bytes == written.num_bytes
    by_headers.shard.unlink()
    by_index = placement.checkpoint_info(small, config)
    assert by_index.shard is None and by_index.stored_as == "int4/32, int8"
    told = ("num_tensors", "num_shards", "stored_bytes", "precision", "stored_as")
    assert all(getattr(by_index, name) == getattr(by_headers, name) for name in told)
    sizes = placement.weights_bytes(config, by_index)
    assert sizes == placement.weights_bytes(read_config(source), by_headers)
    for name, form in USUAL.items():
        assert sizes[name] == quantize(source, tmp_path / name, form).num_bytes


@pytest.mark.parametrize("raw", [minimax_config(), llama_config()], ids=["minimax", "llama"])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_headers_and_index_tell_the_same(tmp_path, raw, num_shards):
    directory = write_checkpoint(tmp_path / "m", raw, num_shards=num_shards)
    config = read_config(directory)
    by_headers = placement.checkpoint_info(directory, config)
    held = sum((directory / s).stat().st_size for s in {i.shard for i in _infos(directory)})
    assert 0 < held - by_headers.stored_bytes < 10_000 * num_shards  # the headers themselves
    assert by_headers.precision is Precision.FLOAT32 and by_headers.shard.exists()
    if num_shards == 1:
        return
    index = directory / "model.safetensors.index.json"
    told = json.loads(index.read_text())
    told["metadata"]["total_size"] = by_headers.stored_bytes
    index.write_text(json.dumps(told))
    by_headers.shard.unlink()
    by_index = placement.checkpoint_info(directory, config)
    assert by_index.shard is None and by_index.num_shards == 3
    assert by_index.stored_bytes == by_headers.stored_bytes
    assert (by_index.num_tensors, by_index.precision) == (by_headers.num_tensors, "float32")


def _infos(directory):
    return Checkpoint(directory).tensors.values()


def test_weights_that_almost_fit_are_streamed_and_those_that_fit_are_not(tmp_path):
    config = read_config(write_checkpoint(tmp_path / "m", minimax_config(hidden_size=512)))
    resident = placement.plan(config, 600, 64, torch.float32)
    rooms = [resident.total_bytes, resident.total_bytes - 1]
    drivers = [
        placement.plan(config, 600, 64, torch.float32, machine=Machine(room, disk_bytes=10**9))
        for room in rooms
    ]
    assert [one.is_streamed for one in drivers] == [False, True]
    assert all(one.fits for one in drivers)
    assert drivers[1].total_bytes <= rooms[1] and drivers[1].pool_bytes > 0


def test_rates_are_measured_once_and_again_when_asked(tmp_path):
    file, calls = tmp_path / "cache" / "rates.json", []

    def measure():
        calls.append(1)
        return Rates(product=1e9 * len(calls), read=5.0)

    first = machine_rates.kept(file, "here", measure)
    assert first.rates == Rates(product=1e9, read=5.0) and len(first.date) == 10
    assert machine_rates.kept(file, "here", measure) == first
    assert machine_rates.kept(file, "there", measure).rates.product == 2e9
    assert machine_rates.kept(file, "here", measure, again=True).rates.product == 3e9
    assert machine_rates.kept(file, "here", measure).rates.product == 3e9
    for damage in ("", "[1]", '{"here": {"date": 1}}', '{"here": {"date": "x", "read": -1}}'):
        file.write_text(damage)
        assert machine_rates.kept(file, "here", measure).rates.product == 1e9 * len(calls)
    assert len(calls) == 7


def test_a_disk_is_measured_and_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_rates, "_PROBE_BYTES", 16 * 2**20)
    found = machine_rates.of_disk(tmp_path)
    assert 10**5 < found.read < 10**12 and 10**5 < found.write < 10**12
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_through_a_link(tmp_path, monkeypatch):
    """A cache may lie where the mm1.toml of somebody's folder says, beside links of theirs."""
    monkeypatch.setattr(machine_rates, "_PROBE_BYTES", 16 * 2**20)
    outside, cache = tmp_path / "outside", tmp_path / "cache"
    outside.write_text("mine")
    cache.mkdir()
    for name in (f".probe-{os.getpid()}", f"rates.json.{os.getpid()}"):
        (cache / name).symlink_to(outside)
    measured = machine_rates.kept(
        cache / "rates.json", "here", lambda: machine_rates.of_disk(cache)
    )
    assert (
        machine_rates.kept(cache / "rates.json", "here", lambda: machine_rates.Rates()) == measured
    )
    assert outside.read_text() == "mine"


def test_this_device_is_measured(monkeypatch):
    monkeypatch.setattr(machine_rates, "_WIDE_ROWS", 256)
    monkeypatch.setattr(machine_rates, "_KEYS", 1024)
    found = machine_rates.of_device(torch.device("cpu"))
    assert found.link is None and found.read is None
    known = (found.product, found.attention, found.memory, found.int8, found.int4)
    assert all(10**6 < rate < 10**15 for rate in known)
    assert machine_rates.Rates(product=1.0).over(found).product == 1.0
    assert machine_rates.Rates(product=1.0).over(found).memory == found.memory
