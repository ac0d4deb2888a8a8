"""Red here means numbers computed with --fast and without are mixed, or --fast does nothing."""

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from ggufs import tiny_gguf

from engine.api import FAST
from engine.engine import Engine
from engine.errors import StoreError
from engine.protocols import ContextPlan

IDS = list(range(1, 60))


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    model = tiny_gguf(tmp_path_factory.mktemp("model"), "llama", Kind.Q8_0, layers=1)
    return [Engine(model, fast=fast) for fast in (False, True)]


def logits(engine):
    context = engine.new_context()
    context.extend(IDS)
    return context.logits


def test_it_is_rounded_and_says_so(engines):
    exact, fast = (logits(engine) for engine in engines)
    off = ((fast - exact).norm() / exact.norm()).item()
    assert 1e-4 < off < 0.05
    plain, other = (engine.fingerprint for engine in engines)
    assert other == plain + FAST and [engine.is_fast for engine in engines] == [False, True]


def test_contexts_are_not_mixed(engines, tmp_path):
    for engine, other, word in zip(engines, engines[::-1], ("without", "with"), strict=True):
        saved = engine.build_context(tmp_path / word, ContextPlan(IDS)).context
        assert torch.equal(engine.open_context(tmp_path / word).logits, saved.logits)
        with pytest.raises(StoreError, match=f"made {word} --fast"):
            other.open_context(tmp_path / word)


def test_a_file_without_blocks_is_the_same_with_it(tmp_path):
    """Red: contexts are read again for nothing."""
    model = tiny_gguf(tmp_path, "llama", Kind.F32, layers=1)
    engines = [Engine(model, fast=fast) for fast in (False, True)]
    assert engines[0].fingerprint == engines[1].fingerprint and not engines[1].is_fast
