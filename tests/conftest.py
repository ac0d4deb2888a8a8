"""Every test gets its own home: no test sees the user's settings, caches or models."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # see kernels/interpreted.py

from mini import mini_dir as mini_dir
from mini import mini_gguf as mini_gguf

from mm1cli.answering import abstention, form

os.environ["MM1_STATE_DIR"] = tempfile.mkdtemp()  # one key for all tests, as a user has

STORES = (  # where other programs keep models
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "LLAMA_CACHE",
    "MODELSCOPE_CACHE",
    "OLLAMA_MODELS",
)
TESTS = Path(__file__).parent
QUICK_EXAMPLES = 10  # of a property; other profiles have as many as its test asks for

# The same examples each time, so that red says what a change broke; `explore` looks for new ones.
for profile, most in (("quick", QUICK_EXAMPLES), ("full", 100), ("explore", 1000)):
    settings.register_profile(
        profile,
        max_examples=most,
        derandomize=profile != "explore",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],  # a loaded machine is no fault of a test
        print_blob=True,
    )
settings.load_profile("quick")


def pytest_collection_modifyitems(items):
    """Who works on the product waits for no training; and a test's own `@settings` win over a
    profile, so what a profile must decide is put into them."""
    profile = settings.default
    most = QUICK_EXAMPLES if profile.max_examples == QUICK_EXAMPLES else sys.maxsize
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in {"training", "benchmarks"}:
            item.add_marker("rest")
        test = getattr(item.obj, "__func__", item.obj)
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is not None:
            test._hypothesis_internal_use_settings = settings(
                own,
                max_examples=min(own.max_examples, most),
                derandomize=profile.derandomize,
                database=profile.database,
                suppress_health_check={*own.suppress_health_check, HealthCheck.too_slow},
            )


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DEVICE", "SEED", "TEMPERATURE", "MAX_TOKENS", "MODELS_DIR"):
        monkeypatch.delenv(f"MM1_{name}", raising=False)
    for name in STORES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MM1_MODEL", "mini")  # no test fetches the default
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return home


@pytest.fixture(autouse=True)
def always_answers(monkeypatch):
    """A random checkpoint finds nothing likelier for a passage; its answers are wanted anyway."""
    monkeypatch.setattr(abstention, "MIN_SCORE_MARGIN", float("-inf"))
    monkeypatch.setattr(form, "LEAST_RELIABILITY", 0.0)
