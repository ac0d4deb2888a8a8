"""Red here means a GGUF file that is run where it lies is computed otherwise than by llama.cpp, or
otherwise than the same weights in a folder."""

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType as Kind
from ggufs import TINY, tiny_gguf
from llama_server import serving

from engine.checkpoint import load
from engine.context import Context
from engine.gguf.convert import convert
from engine.model_source import open_checkpoint, read_config

MIXED = (Kind.Q4_K, Kind.Q6_K, Kind.Q5_0, Kind.Q8_0, Kind.F16, Kind.Q5_K, Kind.Q4_0, Kind.BF16)
LENGTHS = (1, 7, 60)


def model_of(path):
    config = read_config(path)
    cpu = torch.device("cpu")
    model = load(open_checkpoint(path), config, device=cpu, dtype=torch.float32)
    model.prepare_for_inference()
    return model


@torch.inference_mode()
def log_probs(model, token_ids, chunk_tokens=16):
    context = Context(model, chunk_tokens)
    context.extend(token_ids)
    return context.logits.double().log_softmax(-1)


def some_ids(model, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, min(model.config.vocab_size, 259), (count,), generator=generator)
    return ids.tolist()


@pytest.mark.parametrize("architecture", [name for name in TINY if name != "minimax-01"])
def test_log_probabilities_are_those_of_llama_server(tmp_path, architecture):
    path = tiny_gguf(tmp_path, architecture)
    model = model_of(path)
    ids = some_ids(model, max(LENGTHS))
    tolerance = 3e-3 if architecture == "gemma3" else 1e-3  # GGML's gelu is a table in float16
    with serving(path) as server:
        for count in LENGTHS:
            want = server.log_probs(ids[:count], model.config.vocab_size)
            got = log_probs(model, ids[:count]).numpy()
            assert np.abs(got - want).max() < tolerance, f"after {count} tokens"


def mixed(name):
    """q, k and v, gate and up, and the experts of a layer in different blocks."""
    return MIXED[sum(map(ord, name)) % len(MIXED)]


@pytest.mark.parametrize(
    "architecture",
    [*["llama", "qwen2", "qwen3moe", "phi3", "gemma3", "qwen3next", "qwen35", "qwen35moe"]],
)
def test_blocks_are_computed_as_what_they_stand_for(tmp_path, architecture):
    path = tiny_gguf(tmp_path, architecture, mixed)
    model = model_of(path)
    assert model.config.quantization.blocks
    convert(path, tmp_path / "folder")
    ids = some_ids(model, 40)
    want = log_probs(model_of(tmp_path / "folder"), ids)
    for chunk_tokens in (1, 7, 64):  # few tokens are multiplied otherwise than many
        got = log_probs(model, ids, chunk_tokens)
        assert (got - want).abs().max() < 2e-3, f"chunks of {chunk_tokens}"
