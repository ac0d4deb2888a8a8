"""Red here means `mm1 models verify` passes an engine it should fail, or refuses a sound record.

The records here are our own; tests/parity/test_golden.py holds the official one.
"""

import pytest
import torch
from safetensors.torch import save_file
from tiny import all_logits, load_model, minimax_config, mm1_config, write_checkpoint

from engine.context import Context
from engine.errors import CheckpointError
from engine.layers.kv_cache import WindowCache
from engine.layers.lightning import LightningState
from engine.verify import Difference, Verification, verify

PREFILL, DECODE = 40, 5
IDS = torch.randint(4, 290, (PREFILL + DECODE,), generator=torch.Generator().manual_seed(2))


def write_record(directory, num_decode=DECODE, change=lambda tensors: None):
    model = load_model(directory)
    ids = IDS[: PREFILL + num_decode].tolist()
    logits = all_logits(model, ids, 512, num_decode)
    context = Context(model, 512)
    context.extend(ids[:PREFILL])
    tensors = {"token_ids": IDS[: len(ids)].clone(), "prefill.logits": logits[:PREFILL].clone()}
    if num_decode:
        tensors["decode.logits"] = logits[PREFILL:].clone()
    for layer, state in enumerate(context.states):
        if isinstance(state, LightningState):
            tensors[f"prefill.lightning_state.{layer}"] = state.tensor.clone()
        elif isinstance(state, WindowCache):
            tensors[f"prefill.k.{layer}"] = state.tensors()["keys"]
            tensors[f"prefill.v.{layer}"] = state.tensors()["values"]
        else:
            keys, values = zip(*state.segments(), strict=True)
            tensors[f"prefill.k.{layer}"] = torch.cat(keys)
            tensors[f"prefill.v.{layer}"] = torch.cat(values)
    change(tensors)
    counts = {"prefill_tokens": str(PREFILL), "decode_tokens": str(num_decode)}
    save_file(tensors, directory / "expected.safetensors", counts)
    return directory


@pytest.fixture
def directory(tmp_path):
    return write_checkpoint(tmp_path / "m1", minimax_config(), num_shards=2)


def test_a_sound_record_passes_with_each_chunk_size(directory):
    result = verify(write_record(directory), [1, 16, 512])
    assert result.passed
    assert [d.chunk_tokens for d in result.differences if d.name == "prefill logits"] == [
        1,
        16,
        512,
    ]
    kinds = {"prefill logits", "decode logits", "Lightning states", "keys", "values"}
    assert {d.name for d in result.differences} == kinds


def test_a_record_without_decode_or_of_one_kind_of_layer_passes(tmp_path):
    for kind in (0, 1):
        config = minimax_config(attn_type_list=[kind] * 4)
        directory = write_checkpoint(tmp_path / str(kind), config)
        result = verify(write_record(directory, num_decode=0), [7])
        assert result.passed
        names = {d.name for d in result.differences}
        assert names == {"prefill logits"} | ({"keys", "values"} if kind else {"Lightning states"})


def test_our_own_family_is_verified_alike(tmp_path):
    directory = write_checkpoint(tmp_path / "mm1", mm1_config())
    assert verify(write_record(directory), [1, 16, 512]).passed


@pytest.mark.parametrize("value", [2e-4, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["prefill.logits", "decode.logits"])
def test_one_wrong_number_fails(directory, name, value):
    def change(tensors):
        tensors[name][-1, 7] += value

    result = verify(write_record(directory, change=change), [512])
    assert not result.passed


def test_a_wrong_state_shows(directory):
    def change(tensors):
        tensors["prefill.lightning_state.1"][0, 0, 0] += 5
        tensors["prefill.k.2"][3] += 7

    found = {d.name: d for d in verify(write_record(directory, change=change), [16]).differences}
    assert found["Lightning states"].largest == pytest.approx(5, abs=1e-3)
    assert found["keys"].largest == pytest.approx(7, abs=1e-3)
    assert found["values"].largest < 1e-4


def test_a_pass_needs_logits_that_were_compared():
    state = Difference("Lightning states", 16, 0.0, 1.0)
    logits = Difference("prefill logits", 16, 0.0, 1.0)
    assert not Verification(()).passed
    assert not Verification((state,)).passed
    assert Verification((state, logits)).passed


def test_a_directory_without_a_record_is_refused(directory):
    with pytest.raises(CheckpointError, match=r"no expected\.safetensors, nothing to compare with"):
        verify(directory, [16])
