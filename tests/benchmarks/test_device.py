"""Red here means a day with a GPU ends without numbers, or with numbers of something else."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.device import targets
from benchmarks.device.bench import Bench
from benchmarks.device.checks import kernel_tests
from benchmarks.device.results import Results
from benchmarks.device.run import _take
from benchmarks.device.steps import STEPS, Step, reason_to_skip

REPOSITORY = Path(__file__).parents[2]
FACTS = {"device": "a GPU", "date": "2026-01-01", "source": "abc", "torch": "2"}
ABSENT = ("gguf", "docx", "pypdf", "pypdfium2", "pathspec", "platformdirs", "charset_normalizer")


def dry_run(out, *options):
    """As on a machine that has only what a GPU image has."""
    blocked = f"import sys, runpy; sys.modules.update(dict.fromkeys({ABSENT!r}))"
    start = f"{blocked}; runpy.run_module('benchmarks.device', run_name='__main__')"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", start, "--dry-run", "--out", str(out), *options]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )


def test_the_command_runs_writes_and_goes_on(tmp_path):
    steps = ["ceilings", "lightning decode", "norms", "head"]
    done = dry_run(tmp_path, "--only", *steps)
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "results.json").read_text())
    assert list(first["steps"]) == ["ceilings", "lightning decode", "norms", "head"]
    assert all(step["status"] == "done" for step in first["steps"].values())
    assert all(row["ms"] > 0 for step in first["steps"].values() for row in step["rows"])
    assert first["facts"]["device"].startswith("dry run") and first["facts"]["source"]
    table = (tmp_path / "results.md").read_text()
    assert "times mean nothing" in table and "| rms_norm_of_sum |" in table
    assert table.count("not measured") == len(first["targets"])
    again = dry_run(tmp_path, "--only", "ceilings", "estimate")
    second = json.loads((tmp_path / "results.json").read_text())
    assert second["steps"]["ceilings"] == first["steps"]["ceilings"]  # was not run again
    assert second["steps"]["estimate"]["status"] == "skipped"
    assert "needs layer lightning bf16" in again.stdout


@pytest.fixture
def bench():
    return Bench(torch.device("cpu"), True, time.monotonic() + 60, {})


def test_a_failing_step_keeps_its_rows_and_the_day_goes_on(tmp_path, bench, capsys):
    def half(given):
        given.add("first", ms=1.0)
        raise RuntimeError("no\nmore")

    results = Results(tmp_path, FACTS)
    _take(Step("half", 1, half), results, bench)
    kept = json.loads((tmp_path / "results.json").read_text())["steps"]["half"]
    assert kept["status"] == "failed" and kept["reason"] == "RuntimeError: no"
    assert kept["rows"] == [{"case": "first", "ms": 1.0}]
    assert Results.open(tmp_path, FACTS, anew=False).known == {}


@pytest.mark.parametrize("changed", ["device", "source", "torch"])
def test_numbers_of_another_device_or_source_are_set_aside(tmp_path, changed):
    results = Results(tmp_path, FACTS)
    results.keep("norms", "done", 1.0, [{"case": "a", "ms": 2.0}], "")
    assert Results.open(tmp_path, FACTS, anew=False).known["norms"][0]["ms"] == 2.0
    assert not Results.open(tmp_path, FACTS | {changed: "other"}, anew=False).steps
    (aside,) = tmp_path.glob("results-*.json")
    assert json.loads(aside.read_text())["steps"]["norms"]["rows"]


def test_a_damaged_file_does_not_stop_the_day(tmp_path):
    (tmp_path / "results.json").write_text('{"facts": {')
    assert not Results.open(tmp_path, FACTS, anew=False).steps


def test_a_step_that_may_not_end_in_time_is_skipped_with_the_reason():
    step = Step("long", 100, print)
    assert reason_to_skip(step, 100, {}) == ""
    assert "100 s, 99 s are left" in reason_to_skip(step, 99, {})
    assert reason_to_skip(Step("sum", 1, print, ("long",)), 99, {}) == "needs long"
    names = [step.name for step in STEPS]
    assert len(set(names)) == len(names) and names[:2] == ["tests", "ceilings"]
    assert all(need in names[: names.index(step.name)] for step in STEPS for need in step.needs)


def test_targets_are_held_against_the_measured_ceilings():
    known = {
        "ceilings": [{"case": "copy", "gb_s": 3000.0}, {"case": "product", "tflops": 800.0}],
        "lightning prefill": [
            {"case": "262144 tokens", "ms": 2.0, "tflops": 1.0},
            {"case": "262144 tokens, chunk_simple_gla", "ms": 3.0},
            {"case": "1048576 tokens", "ms": 9.0, "tflops": 240.0},
            {"case": "1048576 tokens, chunk_simple_gla", "note": "none: out of memory"},
        ],
        "softmax decode": [{"case": "1048576 keys, int8", "gb_s": 2399.0}],
        "experts, one token": [{"case": "one token, int4", "gb_s": 2100.0}],
    }
    found = {target.name: target for target in targets.of(known)}
    peer = found["Lightning prefill over chunk_simple_gla, 1M tokens"]
    assert peer.reached == 1.5 and peer.verdict == "met" and peer.note == "at 262144 tokens"
    share = found["Lightning prefill, 1M tokens, of the product rate"]
    assert share.reached == pytest.approx(0.3) and share.verdict == "missed"
    # 6.3 MFLOP and 64 KiB a token: 7.9 us and 21.8 us a thousand tokens.
    assert share.note == "memory allows 36% at most"
    assert found["split-KV decode int8, 1M keys, of the copy"].verdict == "missed"
    assert found["int4 experts, one token, of the copy"].verdict == "met"
    assert found["split-KV decode bf16, 1M keys, of the copy"].verdict == "not measured"


def test_every_file_of_kernel_tests_is_run_on_the_gpu():
    names = {Path(path).name for path in kernel_tests()}
    assert {"test_attention_triton.py", "test_experts_triton.py", "test_norm.py"} <= names
    assert {"test_lightning_triton.py", "test_quantized_products.py"} <= names
