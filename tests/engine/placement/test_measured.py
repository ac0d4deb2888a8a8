"""Red here means a run takes other memory than its plan says: one that fits may be killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import minimax_config, write_checkpoint

CHUNK_TOKENS, SHORT, LONG = 1024, 4096, 8192
SHARE = 0.1
CONFIG = minimax_config(
    hidden_size=512,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=128,
    rotary_dim=64,
    intermediate_size=1024,
    num_hidden_layers=2,
    attn_type_list=[0, 1],
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One process of its own: what it takes is not mixed with what other tests left behind."""
    directory = write_checkpoint(tmp_path_factory.mktemp("measured") / "m", CONFIG)
    program = Path(__file__).with_name("measured.py")
    command = [sys.executable, program, directory, *map(str, (CHUNK_TOKENS, SHORT, LONG))]
    root = Path(__file__).parents[3]
    path = f"{root}:{root / 'tests'}"
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": path}
    )
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return {(line["tokens"], line["kv"]): line for line in lines}


@pytest.mark.skipif(sys.platform != "linux", reason="measured through /proc")
@pytest.mark.parametrize("num_tokens", [SHORT, LONG])
@pytest.mark.parametrize("kv", ["float32", "int8"])
def test_a_run_takes_what_was_planned(measured, num_tokens, kv):
    line = measured[num_tokens, kv]
    assert line["driver"] == "chunk-major"
    # No one part could be left out of the sum and not be missed.
    assert min(line["weights"], line["activations"]) > 2 * SHARE * line["measured"]
    assert line["planned"] == pytest.approx(line["measured"], rel=SHARE), line
