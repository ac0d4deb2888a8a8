"""Red here means a GPU runs out of memory that another has, or waits for one with more to do."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import minimax_config, mm1_config, write_checkpoint

from engine.checkpoint import Checkpoint
from engine.errors import EngineError
from engine.families import read_config
from engine.pipeline_parallel import devices
from engine.pipeline_parallel.model import Stage
from engine.placement import Gpu, Machine, plan
from engine.placement.stages import Cost, Load, split
from engine.weights import load

COSTS = st.builds(Cost, st.integers(0, 12), st.integers(1, 9))
LOADS = st.builds(
    Load,
    st.lists(COSTS, min_size=1, max_size=7).map(tuple),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 2),
)
ROOMS = st.lists(st.integers(1, 40), min_size=1, max_size=4)


def slowest(load, layers):
    return max(load.flops(*part) for part in layers)


@settings(max_examples=120, deadline=None)
@given(LOADS, ROOMS)
def test_no_other_split_that_fits_has_a_faster_slowest_stage(load, rooms):
    count = len(load.layers)
    fitting = []
    for cuts in combinations(range(1, count), min(len(rooms), count) - 1):
        layers = list(pairwise([0, *cuts, count]))
        held = [load.num_bytes(*part) for part in layers]
        if all(one <= room for one, room in zip(held, rooms, strict=False)):
            fitting.append(slowest(load, layers))
    found = split(load, rooms)
    assert [layer for part in found for layer in range(*part)] == list(range(count))
    assert all(first < last for first, last in found) and len(found) == min(len(rooms), count)
    if fitting:
        assert slowest(load, found) == min(fitting)
        assert all(load.num_bytes(*part) <= room for part, room in zip(found, rooms, strict=False))


@pytest.mark.parametrize("config", [minimax_config(), mm1_config()], ids=["untied", "tied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_stages_together_are_the_whole_plan(tmp_path, config, dtype):
    """Activations stand beside the layers of each."""
    config = read_config(write_checkpoint(tmp_path / "m", config))
    gpus = (Gpu("cuda:0", 10**10), Gpu("cuda:1", 10**10))
    one, two = (
        plan(config, 9000, 64, dtype, machine=Machine(0, gpus, shares=shares))
        for shares in (False, True)
    )
    assert (len(one.devices), len(two.devices)) == (1, 2)
    for name in ("weights_bytes", "kv_bytes", "state_bytes"):
        assert getattr(one, name) == getattr(two, name)
    assert two.activation_bytes == 2 * one.activation_bytes


def test_softmax_layers_weigh_more_the_longer_the_context_is(tmp_path):
    config = minimax_config(num_hidden_layers=8, attn_type_list=[0, 0, 0, 0, 0, 0, 1, 1])
    config = read_config(write_checkpoint(tmp_path / "m", config))
    machine = Machine(0, (Gpu("cuda:0", 2**40), Gpu("cuda:1", 2**40)), shares=True)

    def layers_before_the_cut(num_tokens):
        return plan(config, num_tokens, 64, torch.float32, machine=machine).devices[0].num_layers

    assert layers_before_the_cut(1) <= 4
    assert layers_before_the_cut(1_000_000) == 7


def test_each_weight_lies_with_its_stage(tmp_path):
    directory = write_checkpoint(tmp_path / "m", mm1_config())
    cpu, other = torch.device("cpu"), torch.device("meta")
    stages = (Stage(0, 2, cpu), Stage(2, 5, other))
    model = load(
        Checkpoint(directory),
        read_config(directory),
        device=cpu,
        dtype=torch.float32,
        stages=stages,
    )
    for name, parameter in model.named_parameters():
        is_first = name.startswith(("embed", "layers.0.", "layers.1."))
        assert parameter.device == (cpu if is_first else other), name
    assert (model.device, model.head_device) == (cpu, other)
    assert [state.tensors()["state"].device for state in model.empty_states()[::4]] == [cpu, other]
    assert model.suppressed_ids().device == other


def test_devices_are_named_in_the_order_of_the_layers(monkeypatch):
    assert devices.named("cpu") == (torch.device("cpu"),)
    assert devices.named("cpu, cpu") == (torch.device("cpu"),) * 2
    with pytest.raises(EngineError, match="no GPU"):
        devices.named("cuda:0,cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    both = (torch.device("cuda:0"), torch.device("cuda:1"))
    assert devices.named("cuda") == devices.named("cuda:0,cuda:1") == both
    assert devices.named("cuda:1,cuda") == both[::-1]
    with pytest.raises(EngineError, match="sees 2 GPUs"):
        devices.named("cuda:2")
    for wrong in ("cpu,cuda:0", "tpu", "", "cpu,,cpu", "meta"):
        with pytest.raises(EngineError):
            devices.named(wrong)


@pytest.mark.parametrize(
    ("room", "num_stages"), [(1.1, 1), (0.9, 2), (0.4, None)], ids=["one", "two", "none"]
)
def test_a_second_gpu_is_used_where_the_first_is_too_small(tmp_path, room, num_stages):
    """`room` is a GPU's memory over what the whole run takes."""
    config = read_config(
        write_checkpoint(tmp_path / "m", minimax_config(attn_type_list=[1, 1, 1, 1]))
    )
    how = (config, 90_000, 64, torch.bfloat16)
    size = int(room * plan(*how).total_bytes)
    gpus = (Gpu("cuda:0", size), Gpu("cuda:1", size))
    found = plan(*how, machine=Machine(0, gpus))
    if num_stages is None:
        assert not found.fits
        return
    assert found.fits and [one.name for one in found.devices] == ["cuda:0", "cuda:1"][:num_stages]
    assert len(plan(*how, machine=Machine(0, gpus, shares=True)).devices) == 2
