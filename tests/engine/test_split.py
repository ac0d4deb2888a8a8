"""Red here means a GPU runs out of memory that another has, or waits for one with more to do."""

from functools import cache
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import minimax_config, mm1_config, write_checkpoint

from engine import devices, split
from engine.checkpoint import Checkpoint, load
from engine.engine import EngineError
from engine.errors import PlacementError
from engine.families import read_config
from engine.placement import plan
from engine.split import Cost, Load

COSTS = st.builds(Cost, st.integers(0, 9), st.integers(0, 3), st.integers(1, 9).map(float))
LOADS = st.builds(
    Load,
    st.lists(COSTS, min_size=1, max_size=7).map(tuple),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 2),
)
STAGES = st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.5, 1.0, 3.0])), min_size=1)


def slowest(load, layers, rates):
    return max(load.seconds(*part, rate) for part, rate in zip(layers, rates, strict=True))


@settings(max_examples=120, deadline=None)
@given(LOADS, STAGES.map(lambda stages: stages[:4]))
def test_no_other_split_that_fits_has_a_faster_slowest_stage(load, stages):
    rooms, rates = zip(*stages, strict=True)
    count = len(load.layers)
    fitting = []
    for cuts in combinations(range(1, count), len(stages) - 1):
        layers = list(pairwise([0, *cuts, count]))
        held = [load.num_bytes(*part) for part in layers]
        if all(one <= room for one, room in zip(held, rooms, strict=True)):
            fitting.append(slowest(load, layers, rates))
    if not fitting:
        with pytest.raises(PlacementError, match=r"GiB are free on the devices|fewer devices"):
            split.split(load, rooms, rates)
        return
    found = split.split(load, rooms, rates)
    assert [layer for part in found for layer in range(*part)] == list(range(count))
    assert all(
        load.num_bytes(*part) <= room for part, room in zip(found, rooms, strict=True) if room
    )
    assert slowest(load, found, rates) == min(fitting)


@pytest.mark.parametrize("config", [minimax_config(), mm1_config()], ids=["untied", "tied"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_layers_and_what_stands_beside_them_are_the_whole_plan(tmp_path, config, dtype):
    model_config = read_config(write_checkpoint(tmp_path / "m", config))
    load_ = split.load_of(model_config, 9000, 64, dtype)
    assert (
        load_.num_bytes(0, model_config.num_layers)
        == plan(model_config, 9000, 64, dtype).total_bytes
    )


def test_softmax_layers_weigh_more_the_longer_the_context_is(tmp_path):
    config = minimax_config(num_hidden_layers=8, attn_type_list=[0, 0, 0, 0, 0, 0, 1, 1])
    config = read_config(write_checkpoint(tmp_path / "m", config))
    rooms, rates = [2**40, 2**40], [1.0, 1.0]

    @cache
    def layers_before_the_cut(num_tokens):
        load_ = split.load_of(config, num_tokens, 64, torch.float32)
        return split.split(load_, rooms, rates)[0][1]

    assert layers_before_the_cut(1) <= 4
    assert layers_before_the_cut(1_000_000) == 7


def test_each_weight_lies_with_its_stage(tmp_path):
    directory = write_checkpoint(tmp_path / "m", mm1_config())
    cpu, other = torch.device("cpu"), torch.device("meta")
    stages = (split.Stage(0, 2, cpu), split.Stage(2, 5, other))
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
    assert model.unused_ids().device == other


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


GPUS = [torch.device("cuda:0"), torch.device("cuda:1")]


@pytest.mark.parametrize(
    ("room", "num_stages"), [(1.1, 0), (0.9, 2), (0.4, None)], ids=["one", "two", "none"]
)
def test_a_second_gpu_is_used_where_the_first_is_too_small(tmp_path, monkeypatch, room, num_stages):
    """`room` is a GPU's memory over what the whole run takes."""
    config = read_config(
        write_checkpoint(tmp_path / "m", minimax_config(attn_type_list=[1, 1, 1, 1]))
    )
    how = (config, 90_000, 64, torch.bfloat16)
    whole = plan(*how)
    for module in ("engine.split", "engine.placement"):
        free = int(room * whole.total_bytes)
        monkeypatch.setattr(f"{module}.available_bytes", lambda device, free=free: free)
    load_ = split.load_of(*how)
    if num_stages is None:
        with pytest.raises(PlacementError, match="2 stages"):
            split.place(whole, load_, GPUS, may_be_one=True)
        return
    stages = split.place(whole, load_, GPUS, may_be_one=True)
    assert [stage.device for stage in stages] == GPUS[:num_stages]
    assert len(split.place(whole, load_, GPUS, may_be_one=False)) == 2
