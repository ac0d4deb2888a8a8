"""The engine against recorded outputs of the official MiniMax-M1 code.

Red here means the maths is no longer that of MiniMax-M1; or, where a fault is put in on purpose,
that `mm1 models verify` would call a wrong engine right.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import engine.families
import engine.verify
from engine.errors import CheckpointError
from engine.model_source import ModelSource
from engine.verify import verify
from kernels.lightning import blocked, chunked, jit

GOLDEN = Path(__file__).parents[2].parent / "shared/golden/m1-tiny"

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden/m1-tiny is absent")


@pytest.mark.parametrize("chunk_tokens", [1, 7, 255, 256, 257, 700])
def test_every_chunking_is_within_1e_4(chunk_tokens):
    result = verify(GOLDEN, [chunk_tokens])
    assert result.passed
    found = {difference.name: difference for difference in result.differences}
    assert found.keys() == {
        "prefill logits",
        "decode logits",
        "Lightning states",
        "keys",
        "values",
    }
    for difference in found.values():
        assert difference.chunk_tokens == chunk_tokens
        assert difference.largest <= 1e-4 * max(difference.scale, 1), difference
        assert difference.scale > 1  # zeros would not be close


def read_as(monkeypatch, **changes):
    """The golden model is read with these options."""
    config = replace(engine.families.read_config(GOLDEN), **changes)
    monkeypatch.setattr(ModelSource, "config", config)


def assert_verify_fails(at_least):
    result = verify(GOLDEN, [256])
    assert not result.passed
    logits = [d.largest for d in result.differences if d.name.endswith("logits")]
    assert max(logits) > at_least


def test_rotating_all_dims_fails(monkeypatch):
    frequencies = tuple(10_000.0 ** (-2 * i / 32) for i in range(16))
    read_as(monkeypatch, rotary_frequencies=frequencies)
    assert_verify_fails(at_least=1)


def test_the_other_residual_fails(monkeypatch):
    read_as(monkeypatch, postnorm=False)
    assert_verify_fails(at_least=0.1)


def test_the_lightning_norm_of_other_engines_fails(monkeypatch):
    read_as(monkeypatch, lightning_norm_eps=1e-3)
    assert_verify_fails(at_least=1e-4)


def test_history_that_decays_one_step_too_little_fails(monkeypatch):
    right = blocked._heads

    def off_by_one(q, k, v, out, slopes, state):
        undecayed = state * slopes.exp()[:, None, None]
        right(q, k, v, out, slopes, state)
        right(q, k, v, out, slopes, undecayed)

    monkeypatch.setattr(blocked, "_heads", off_by_one)
    assert_verify_fails(at_least=1e-3)


def test_a_decode_that_forgets_fails(monkeypatch):
    def forgetful(right):
        return lambda q, k, v, slopes, state: right(q, k, v, slopes, torch.zeros_like(state))

    for module, name in ((chunked, "_one_token"), (jit, "_recurrence")):
        monkeypatch.setattr(module, name, forgetful(getattr(module, name)))
    assert_verify_fails(at_least=1e-3)


@pytest.fixture
def copy(tmp_path):
    directory = tmp_path / "golden"
    directory.mkdir()
    for path in GOLDEN.iterdir():
        shutil.copyfile(path, directory / path.name)
    return directory


def rewrite_expected(directory, change, **metadata):
    tensors = load_file(directory / "expected.safetensors")
    change(tensors)
    recorded = {"prefill_tokens": "700", "decode_tokens": "12"} | metadata
    save_file(tensors, directory / "expected.safetensors", recorded)


@pytest.mark.parametrize("name", ["prefill.logits", "decode.logits"])
def test_one_wrong_or_unknown_number_fails(copy, name):
    for value in (1e-3, float("nan")):

        def change(tensors, value=value):
            tensors[name][3, 5] += value

        rewrite_expected(copy, change)
        assert not verify(copy, [700]).passed


def test_a_swapped_weight_fails(copy):
    shard = copy / "model-00001-of-00003.safetensors"
    tensors = load_file(shard)
    names = sorted(name for name in tensors if name.endswith("w1.weight"))[:2]
    tensors[names[0]], tensors[names[1]] = tensors[names[1]], tensors[names[0]]
    save_file(tensors, shard)
    assert not verify(copy, [256]).passed


def test_nothing_compared_is_not_a_pass():
    assert not verify(GOLDEN, []).passed


@pytest.mark.parametrize(
    ("change", "metadata", "reason"),
    [
        (lambda t: t.pop("prefill.logits"), {}, "no prefill.logits"),
        (lambda t: t.pop("prefill.lightning_state.4"), {}, "no prefill.lightning_state.4"),
        (lambda t: t.pop("token_ids"), {}, "no token_ids"),
        (lambda t: t.update({"prefill.k.3": torch.zeros(2, 2)}), {}, "keys has shape"),
        (lambda t: t["token_ids"].fill_(512), {}, "outside the vocabulary"),
        (lambda t: t["token_ids"].neg_(), {}, "outside the vocabulary"),
        (lambda t: None, {"prefill_tokens": "900"}, "900 [+] 12 of 712 ids"),
        (lambda t: None, {"decode_tokens": "-3"}, "700 [+] -3 of 712 ids"),
        (lambda t: None, {"prefill_tokens": "many"}, "cut or damaged"),
    ],
)
def test_a_record_that_cannot_be_compared_is_refused(copy, change, metadata, reason):
    rewrite_expected(copy, change, **metadata)
    with pytest.raises(CheckpointError, match=reason) as caught:
        verify(copy, [700])
    assert "\n" not in str(caught.value)


def test_a_directory_without_a_record_or_with_half_of_one_is_refused(copy):
    record = copy / "expected.safetensors"
    record.write_bytes(record.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="cut or damaged"):
        verify(copy, [700])
    record.unlink()
    with pytest.raises(CheckpointError, match=r"no expected\.safetensors"):
        verify(copy, [700])


def test_a_config_key_decides_the_lightning_eps(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"lightning_norm_eps": 1e-3}))
    assert not verify(copy, [700]).passed
