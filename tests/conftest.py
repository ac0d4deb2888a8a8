"""Every test gets its own home: no test sees the user's settings, caches or models."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # see kernels/interpreted.py

from mini import mini_dir as mini_dir

from mm1cli.answering import abstention


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MODEL", "DEVICE", "SEED", "TEMPERATURE", "MAX_TOKENS"):
        monkeypatch.delenv(f"MM1_{name}", raising=False)
    return home


@pytest.fixture(autouse=True)
def always_answers(monkeypatch):
    """A random checkpoint finds nothing likelier for a passage; its answers are wanted anyway."""
    monkeypatch.setattr(abstention, "MIN_SCORE_MARGIN", float("-inf"))
