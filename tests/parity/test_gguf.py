"""Red here means a GGUF file that is run where it lies is computed otherwise than by llama.cpp, or
otherwise than the same weights in a folder."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType as Kind
from ggufs import TINY, tiny_gguf, with_float32
from llama_server import LlamaServer

from engine.checkpoint import load
from engine.context import Context
from engine.gguf.convert import convert
from engine.model_source import open_checkpoint, read_config
from engine.tokenizer import Tokenizer

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
    with LlamaServer(path) as server:
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


LICENCE = Path(__file__).parents[2] / "LICENSE"


def assert_computes_what_the_file_says(path, folder, num_tokens, counts):
    """llama-server gets the same weights as float32: of blocks it rounds activations to 8 bits, by
    which its log-probabilities are off by up to 0.3."""
    model = model_of(path)
    ids = Tokenizer(path).encode(LICENCE.read_text() * 2)[:num_tokens]
    assert len(ids) == num_tokens
    context = Context(model, 256)
    with torch.inference_mode():
        rows = [model.logits(hidden[:, :]) for _, hidden in context.chunks(ids)]
    found = torch.cat(rows).double().log_softmax(-1).numpy()
    with LlamaServer(with_float32(path, folder / "float32.gguf"), num_tokens + 8) as server:
        for count in counts:
            body = {"prompt": ids[:count], "n_predict": 1, "n_probs": 32, "temperature": 0}
            answer = server.post("/completion", body)
            told = answer["completion_probabilities"][0]["top_logprobs"]
            assert told[0]["id"] == found[count - 1].argmax(), f"after {count} tokens"
            for token in told:
                off = abs(token["logprob"] - found[count - 1, token["id"]])
                assert off < 5e-3, f"after {count} tokens: {token}"


@pytest.mark.rest
def test_a_real_file_is_computed_as_its_float32_by_llama_server(tmp_path, mini_gguf):
    assert_computes_what_the_file_says(mini_gguf, tmp_path, 1000, (1, 2, 10, 100, 250, 500, 1000))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "coder"])
def test_the_models_for_people_are_computed_as_their_float32(tmp_path, name):
    """With MM1_TEST_GGUFS, a folder that holds small.gguf and coder.gguf."""
    path = Path(os.environ.get("MM1_TEST_GGUFS", "absent")) / f"{name}.gguf"
    if not path.is_file():
        pytest.skip("MM1_TEST_GGUFS names no folder with the file")
    counts = range(50, 1001, 50)
    assert_computes_what_the_file_says(path, tmp_path, 1000, counts)
