"""`examples/ray_map.py` on a real Ray of two workers; skipped where ray is not installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import ASK, write_files

EXAMPLE = Path(__file__).parents[3] / "examples" / "ray_map.py"

pytestmark = [
    pytest.mark.rest,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray[data]"),
]


def test_two_workers_answer_all_documents_and_their_totals_add_up(llama, tmp_path):
    """Red: a shard is lost between Ray's workers, or answered twice."""
    write_files(tmp_path / "in", {f"{n}.txt": f"The rat sat on mat {n}." for n in range(6)})
    command = [sys.executable, EXAMPLE, "in", "out", "--shards", "3", "--", "--ask", ASK]
    command += ["--model", llama, "--threads", "1", "--max-tokens", "3"]
    environment = os.environ | {
        "PYTHONPATH": str(EXAMPLE.parents[1]),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    for _ in range(2):  # the second time nothing is left to ask
        ran = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert ran.returncode == 0, ran.stderr.decode()
        totals = json.loads(ran.stdout.decode().splitlines()[-1])
        assert (totals["documents"], totals["seen"], totals["missing"]) == (6, 6, [])
    lines = [one for path in (tmp_path / "out").iterdir() for one in path.read_text().splitlines()]
    names = [json.loads(line)["name"] for line in lines if '"type": "document"' in line]
    assert sorted(Path(name).name for name in names) == [f"{n}.txt" for n in range(6)]
