"""Red here means a GGUF file that is run where it lies is computed otherwise than by llama.cpp, or
otherwise than the same weights in a folder."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType as Kind
from ggufs import TINY, tiny_gguf
from llama_server import LlamaServer

from benchmarks.gguf import with_float32
from engine.context import Context
from engine.gguf.convert import convert
from engine.model_source import ModelSource
from engine.tokenizer import Tokenizer
from engine.weights import load

MIXED = (Kind.Q4_K, Kind.Q6_K, Kind.Q5_0, Kind.Q8_0, Kind.F16, Kind.Q5_K, Kind.Q4_0, Kind.BF16)
LENGTHS = (1, 7, 60)
DELTA = ("qwen3next", "qwen3next, the first converter's", "qwen35", "qwen35moe")
IN_BLOCKS = ("llama", "qwen2", "qwen3moe", "phi3", "gemma3", *DELTA)


def model_of(path):
    config = ModelSource(path).config
    cpu = torch.device("cpu")
    model = load(ModelSource(path).open_checkpoint(), config, device=cpu, dtype=torch.float32)
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


def assert_same_as_llama_server(path, tolerance):
    model = model_of(path)
    ids = some_ids(model, max(LENGTHS))
    with LlamaServer(path) as server:
        for count in LENGTHS:
            want = server.log_probs(ids[:count], model.config.vocab_size)
            off = np.abs(log_probs(model, ids[:count]).numpy() - want).max()
            print(f"largest difference of a log-probability after {count} tokens: {off:.1e}")
            assert off < tolerance


@pytest.mark.server
@pytest.mark.parametrize("architecture", [name for name in TINY if name != "minimax-01"])
def test_log_probabilities_are_those_of_llama_server(tmp_path, architecture):
    # GGML's gelu is a table in float16.
    tolerance = 3e-3 if architecture == "gemma3" else 1e-3
    assert_same_as_llama_server(tiny_gguf(tmp_path, architecture), tolerance)


VARIANTS = {
    "tied": ("qwen35", {}, {"tied": True}),
    "yarn": (
        "qwen35",
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 32,
        },
        {},
    ),
    "a value of each key": (
        "qwen35moe",
        {"ssm.group_count": 4},
        {"tensors": {"blk.0.attn_qkv.weight": (768, 256), "blk.0.ssm_conv1d.weight": (768, 4)}},
    ),
    "a row for a vector": (
        "qwen3next",
        {},
        {"tensors": {f"blk.{n}.ffn_gate_inp_shexp.weight": (1, 256) for n in range(2)}},
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_gated_delta_models_are_those_of_llama_server(tmp_path, variant):
    architecture, keys, options = VARIANTS[variant]
    options = {**options, "tensors": some_tensors(options.get("tensors", {}))}
    keys = {f"{architecture}.{key}": value for key, value in keys.items()}
    assert_same_as_llama_server(tiny_gguf(tmp_path, architecture, metadata=keys, **options), 1e-3)


def some_tensors(shapes):
    random = np.random.default_rng(1)
    return {
        name: (random.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)
        for name, shape in shapes.items()
    }


def test_layers_that_draft_are_left_alone(tmp_path):
    """Red: they are computed, or a file with them is refused."""
    drafts = some_tensors({"blk.2.nextn.eh_proj.weight": (256, 512)})
    plain = tiny_gguf(tmp_path, "qwen35")
    ids = some_ids(model_of(plain), 7)
    want = log_probs(model_of(plain), ids)
    keys = {"qwen35.block_count": 3, "qwen35.nextn_predict_layers": 1}
    with_drafts = tiny_gguf(tmp_path, "qwen35", metadata=keys, tensors=drafts)
    assert torch.equal(log_probs(model_of(with_drafts), ids), want)


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q8_0])
def test_a_folder_in_the_nearest_form_is_the_file(tmp_path, kind):
    """Red: the columns of a delta layer's output are in another order than its rows."""
    path = tiny_gguf(tmp_path, "qwen35", kind)
    convert(path, tmp_path / "folder", form=None)
    model, folder = model_of(path), model_of(tmp_path / "folder")
    ids = some_ids(model, 40)
    most = 2e-3 if kind is not Kind.Q8_0 else 0.2  # what was rounded to int8 anew
    assert (log_probs(model, ids) - log_probs(folder, ids)).abs().max() < most


def mixed(name):
    """q, k and v, gate and up, and the experts of a layer in different blocks."""
    return MIXED[sum(map(ord, name)) % len(MIXED)]


@pytest.mark.parametrize("architecture", IN_BLOCKS)
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
