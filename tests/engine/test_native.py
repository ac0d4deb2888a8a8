"""Red here means that a layer in one native call computes something else than op by op, or that
what it reads or writes is not a context's."""

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from ggufs import tiny_gguf
from tiny import llama_config, write_checkpoint

from engine import model as model_module
from engine.context import Context
from engine.layers import kv_cache
from engine.model_source import ModelSource
from engine.quantized.forms import Form
from engine.quantized.quantize import quantize
from engine.weights import load
from kernels import decoder_layer
from kernels.linear import fp16_weight

pytestmark = pytest.mark.skipif(not fp16_weight.is_usable(), reason="no JIT for this processor")


def quantised(directory):
    write_checkpoint(directory, llama_config(hidden_size=64, intermediate_size=96))
    quantize(directory, directory / "small", Form.INT4_32)
    return directory / "small"


MODELS = {
    "llama, float16": lambda at: tiny_gguf(at, "llama", Kind.F16),
    "qwen2, float16": lambda at: tiny_gguf(at, "qwen2", Kind.F16),
    "llama, int4": quantised,
    "llama, Q4_K": lambda at: tiny_gguf(at, "llama", Kind.Q4_K),
    "qwen2, Q5_0": lambda at: tiny_gguf(at, "qwen2", Kind.Q5_0),
    "granite, Q8_0 with --fast": lambda at: tiny_gguf(at, "granite", Kind.Q8_0),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory):
    file = MODELS[request.param](tmp_path_factory.mktemp("m"))
    source = ModelSource(file)
    checkpoint = source.open_checkpoint(has_int8_rows="--fast" in request.param)
    found = load(checkpoint, source.config, device=torch.device("cpu"), dtype=torch.float32)
    found.prepare_for_inference(small_m=True)
    return found


def read(model, steps, kv_dtype=None):
    """Logits after each of `steps`, and the keys and values there are then."""
    context = Context(model, 16, kv_dtype=kv_dtype)
    logits = []
    for number, count in enumerate(steps):
        context.extend([(7 * at + number) % 250 for at in range(count)])
        logits.append(context.logits)
    blocks = [state.block(0) for state in context.states]
    return torch.stack(logits), [rows for block in blocks for rows in block.values()]


@pytest.mark.parametrize("kv_dtype", [None, torch.int8])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_it_is_the_ops_one_by_one(model, kv_dtype, num_threads, monkeypatch):
    """At one row, at four, at as many as it takes, and over the border of a block."""
    monkeypatch.setattr(kv_cache, "BLOCK_TOKENS", 32)
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    steps = (21, 1, 1, 4, 7, 1, 16, 1)
    calls = []
    native = decoder_layer.DecoderLayer.__call__
    monkeypatch.setattr(
        decoder_layer.DecoderLayer,
        "__call__",
        lambda *given: calls.append(1) or native(*given),
    )
    got, kept = read(model, steps, kv_dtype)
    assert calls, "no layer is native"
    monkeypatch.setattr(model_module, "native_forward", lambda *_: None)
    want, expected = read(model, steps, kv_dtype)
    same = [torch.equal(*pair) for pair in zip([got, *kept], [want, *expected], strict=True)]
    assert all(same), same


UNSERVED = {
    "float32 weights": ("llama", False),
    "norms of each head": ("qwen3", True),
    "norms behind mixer and MLP": ("olmo2", True),
}


@pytest.mark.parametrize("name", UNSERVED)
def test_what_it_does_not_know_goes_op_by_op(name, tmp_path):
    """Red: an option of a layer is left out, or a weight is read as what it is not."""
    architecture, has_float16 = UNSERVED[name]
    file = tiny_gguf(tmp_path, architecture, Kind.Q8_0 if has_float16 else Kind.F32, layers=1)
    source = ModelSource(file)
    opened = source.open_checkpoint()
    model = load(opened, source.config, device=torch.device("cpu"), dtype=torch.float32)
    assert not any(layer.weights_stay for layer in model.layers)
    model.prepare_for_inference()
    assert all(layer.weights_stay and layer.native is None for layer in model.layers)
    read(model, (5, 1))


def test_a_model_of_other_options_has_layers_of_its_own(model):
    """Red: questions that select from a context see all of it, or the other way round."""
    first = model.layers[0].native
    twin = model.with_options(model.config)
    assert first is not None and twin.layers[0].native is not first
