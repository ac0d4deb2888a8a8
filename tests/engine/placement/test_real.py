"""Red here means the plan of the real 456B checkpoint is off: its names, shapes, bytes or work."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import placement
from engine.errors import CheckpointError
from engine.families import read_config
from engine.placement import Driver, Gpu, Machine, Precision
from engine.placement.checkpoint_info import read_index, stored_bytes, tensor_bytes
from engine.placement.estimate import estimate_times
from engine.placement.machine_rates import Rates
from engine.placement.weight_bytes import with_quantization
from engine.quantized.forms import Form

REAL = Path(__file__).parents[4] / "shared" / "golden" / "m1-real"
GB = 10**9
TOKENS = 1_000_000
EIGHT = tuple(Gpu(f"GPU {index}", 80 * GB) for index in range(8))
NODE = Machine(1000 * GB, EIGHT, 4000 * GB)
ONE_GPU = Machine(512 * GB, EIGHT[:1], 2000 * GB)
LAPTOP = Machine(24 * GB, (), 1000 * GB)

pytestmark = pytest.mark.skipif(not REAL.exists(), reason="the real index is not here")


@pytest.fixture(scope="module")
def config():
    return read_config(REAL)


def planned(config, machine, num_tokens=TOKENS, **changes):
    dtype = torch.bfloat16 if machine is None or machine.gpus else torch.float32
    options = {"precision": Precision.BFLOAT16, "is_mapped": True} | changes
    chunk_tokens = options.pop("chunk_tokens", 1024)
    return placement.plan(config, num_tokens, chunk_tokens, dtype, machine=machine, **options)


def test_names_and_bytes_of_the_index_come_out_of_the_config(config):
    found = placement.checkpoint_info(REAL, config)
    assert (found.num_tensors, found.num_shards) == (8243, 413)
    assert found.stored_bytes == 912_210_767_872
    assert (found.precision, found.shard) == (Precision.BFLOAT16, None)
    assert tensor_bytes(config, Precision.BFLOAT16).keys() == read_index(REAL)["weight_map"].keys()
    assert stored_bytes(config, Precision.BFLOAT16) == 912_210_767_872


@pytest.mark.parametrize("packed", [False, True])
def test_an_index_of_another_model_is_refused(config, tmp_path, packed):
    index = read_index(REAL)
    names = sorted(index["weight_map"])
    changed = [
        {"weight_map": {name: index["weight_map"][name] for name in names[1:]}},
        {"metadata": {"total_size": 912_210_767_873}},
        {"metadata": {}},
    ]
    for change in changed:
        text = json.dumps(index | change).encode()
        name = "model.safetensors.index.json" + ".gz" * packed
        (tmp_path / name).write_bytes(gzip.compress(text) if packed else text)
        with pytest.raises(CheckpointError, match=r"index (lacks 1 tensors|tells)"):
            placement.checkpoint_info(tmp_path, config)
    (tmp_path / "model.safetensors.index.json").unlink(missing_ok=True)
    (tmp_path / "model.safetensors.index.json.gz").write_bytes(gzip.compress(b"{}")[:-3])
    with pytest.raises(CheckpointError, match="cut"):
        placement.checkpoint_info(tmp_path, config)


def test_a_million_tokens_hold_what_the_published_sizes_say(config):
    all_resident = planned(config, None, is_mapped=False)
    assert all_resident.weights_bytes == pytest.approx(912.2e9, rel=0.01)
    assert all_resident.kv_bytes == pytest.approx(40_960 * 1e6, rel=0.01)
    assert all_resident.state_bytes == pytest.approx(2 * 293.6e6, rel=0.01)
    int8 = planned(config, None, is_mapped=False, kv_dtype=torch.int8)
    assert int8.kv_bytes == pytest.approx(21.1e9, rel=0.01)  # a scale of 4 bytes per 128


def test_operations_are_those_of_the_published_sizes(config):
    long = planned(config, None).prefill_flops
    # 45.9 billion parameters meet a token; the head, which runs once, is no part of it.
    assert long.matmuls / TOKENS == pytest.approx(2 * 45.9e9, rel=0.01)
    assert long.softmax / long.total == pytest.approx(0.64, abs=0.01)
    even = planned(config, None, 560_000).prefill_flops
    assert even.softmax == pytest.approx(even.matmuls, rel=0.05)
    steps = planned(config, None, 0).token_flops
    assert steps.softmax == 4 * 8192 * 10


def test_eight_gpus_hold_it_in_int8_and_stream_it_as_stored(config):
    stored = planned(config, NODE)
    assert (stored.driver, stored.fits) == (Driver.LAYER_MAJOR, True)
    assert len(stored.computing) == 1 and "8 GPUs" in stored.why
    int8 = planned(with_quantization(config, Form.INT8), NODE)
    assert (int8.driver, int8.fits, len(int8.devices)) == (Driver.CHUNK_MAJOR, True, 8)
    assert sum(one.num_layers for one in int8.devices) == 80
    # 10 softmax layers on 8 GPUs, at this length each as dear as ten others: two at most on one
    numbers = [range(one.first_layer, one.first_layer + one.num_layers) for one in int8.devices]
    assert max(sum(n % 8 == 7 for n in part) for part in numbers) == 2
    assert int8.weights_bytes == pytest.approx(461e9, rel=0.01)
    assert int8.kv_bytes == pytest.approx(41e9, rel=0.01)


def test_one_gpu_streams_it_and_reads_each_weight_once(config):
    found = planned(config, ONE_GPU)
    assert (found.driver, found.fits, found.is_streamed) == (Driver.LAYER_MAJOR, True, True)
    gpu, ram = found.devices
    assert gpu.total_bytes <= 80 * GB and gpu.pool_bytes > 11.4e9 + 0.34e9
    assert ram.activation_bytes == TOKENS * 6144 * 2 and found.spill_bytes == 0
    fixed = 2 * 200_064 * 6144 * 2 + 6144 * 2
    assert found.prefill_read_bytes == 912_210_767_872 - fixed
    small = planned(config, replace(ONE_GPU, ram_bytes=8 * GB))
    assert small.spill_bytes == TOKENS * 6144 * 2 and small.prefill_written_bytes > 0


def test_a_laptop_spills_and_says_what_reading_again_costs(config):
    found = planned(config, LAPTOP, kv_dtype=torch.int8)
    (ram,) = found.devices
    assert found.fits and ram.total_bytes <= 24 * GB
    assert found.spill_bytes == TOKENS * 6144 * 4
    assert found.saved_bytes == pytest.approx(21.1e9, rel=0.01)
    assert "read again for each chunk" in found.why
    larger = planned(config, LAPTOP, kv_dtype=torch.int8, chunk_tokens=8192)
    assert larger.prefill_read_bytes < 0.2 * found.prefill_read_bytes
    int4 = planned(with_quantization(config, Form.INT4_64), LAPTOP, kv_dtype=torch.int8)
    assert "read once" in int4.why and int4.prefill_read_bytes < 0.01 * found.prefill_read_bytes
    assert not planned(config, replace(LAPTOP, disk_bytes=20 * GB), kv_dtype=torch.int8).fits


@pytest.mark.parametrize("ram", [4, 24])
def test_what_does_not_fit_says_what_would_and_that_does(config, ram):
    machine = Machine(ram * GB, (), 100 * GB)

    def plan_for(num_tokens, is_int8_kv, form, more_bytes):
        larger = replace(machine, ram_bytes=machine.ram_bytes + more_bytes)
        kv_dtype = torch.int8 if is_int8_kv else None
        changed = config if form is None else with_quantization(config, form)
        return planned(changed, larger, num_tokens, kv_dtype=kv_dtype)

    found = plan_for(TOKENS, False, None, 0)
    assert not found.fits
    advice = placement.remedies(plan_for, num_tokens=TOKENS, is_int8_kv=False, is_quantised=False)
    assert advice and ("--kv int8" in advice) == (ram == 24)
    more = next(text for text in advice if "GB more RAM" in text)
    lacks = float(more.split()[0]) * GB
    assert plan_for(TOKENS, False, None, round(lacks + 0.1 * GB)).fits
    assert not plan_for(TOKENS, False, None, round(lacks - 0.1 * GB)).fits
    shorter = [text for text in advice if text.startswith("--context")]
    for text in shorter:
        assert plan_for(int(text.split()[1]), False, None, 0).fits_and_is_saved


def test_no_time_is_told_without_its_rates(config):
    found = planned(config, ONE_GPU)
    none = estimate_times(found, Rates())
    assert none.prefill_s is None and none.token_s is None
    assert set(none.unknown) == {"product", "attention", "read", "link", "memory"}
    assert (
        "int8"
        in estimate_times(planned(with_quantization(config, Form.INT8), NODE), Rates()).unknown
    )
    known = Rates(product=4e14, attention=2e14, memory=3e12, read=7e9, link=5e10)
    found_times = estimate_times(found, known)
    work = found.prefill_flops
    assert found_times.compute_s == pytest.approx(work.matmuls / 4e14 + work.attention / 2e14)
    assert found_times.disk_s == pytest.approx(found.prefill_read_bytes / 7e9)
    assert found_times.prefill_s == max(found_times.compute_s, found_times.disk_s)
    assert found_times.token_s > found.token_read_bytes / 7e9
    slow = estimate_times(found, replace(known, read=1e8))
    assert slow.prefill_s == slow.disk_s > slow.compute_s
