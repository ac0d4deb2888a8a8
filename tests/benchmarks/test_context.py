"""Red here means the numbers about saved contexts are not of what they are said to be."""

import pytest
import torch
from tiny import load_model, minimax_config, write_checkpoint

from benchmarks.context import __main__ as lengths
from benchmarks.context import disk, int8


@pytest.mark.parametrize("kv", ["float32", "int8"])
def test_a_saved_context_is_measured_and_answers_alike(tmp_path, kv):
    model = lengths.hybrid(tmp_path / "model", 1)
    row = lengths.measure(model, 5000, kv, tmp_path / "context")
    files = [path for path in (tmp_path / "context").rglob("*") if path.is_file()]
    assert row["bytes"] == sum(path.stat().st_size for path in files)
    per_token = 2 * 2 * (64 * 4 if kv == "float32" else 64 + 4)
    assert 5000 * per_token < row["bytes"] < 5000 * per_token + 1_000_000
    assert row["save_s"] > 0 and row["prefill_s"] > 0
    assert row["restored_first_token_s"] > row["restored_question_s"] > 0


def test_reading_once_reads_every_byte(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(bytes(5_000_000))
    (tmp_path / "sub" / "b").write_bytes(b"12345")
    assert disk.forget(tmp_path)
    assert disk.read_all(tmp_path) == 5_000_005


def test_int8_kv_is_held_against_floats(tmp_path):
    model = load_model(write_checkpoint(tmp_path / "m", minimax_config()))
    ids = torch.randint(4, 290, (600,), generator=torch.Generator().manual_seed(2)).tolist()
    row = int8.compare(model, ids)
    assert 0 < row["rms_difference"] <= row["max_difference"]
    assert 1e-6 < row["rms_share"] < 0.05
    assert 0 < row["kl_mean"] <= row["kl_max"] < 0.5
    assert row["int8_bytes"] < 0.4 * row["kv_bytes"]
    assert row["nll"] == pytest.approx(row["nll_int8"], abs=0.01) and row["nll"] > 1
