"""GGUF files of MiniMax-01 and M1.

Files of the real models are out of reach here: these are made of the official code's tiny
checkpoint with the gguf package, laid out as llama.cpp's converter does.
"""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from ggufs import ALPHA, as_gguf_has_it, as_stored, their_tensors, write_minimax_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import all_logits, load_model, minimax_config, random_weights, write_checkpoint

from engine.checkpoint import Checkpoint
from engine.errors import EngineError, GgufError
from engine.families import read_config
from engine.gguf import blocks
from engine.gguf.convert import convert
from engine.gguf.file import GgufTensor
from engine.gguf.source import Source
from engine.quantized.forms import Form

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "m1-tiny"
IDS = torch.randint(0, 250, (70,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip("needs shared/golden")
    checkpoint = Checkpoint(GOLDEN)
    weights = {name: checkpoint.read(name) for name in checkpoint.tensors}
    return as_gguf_has_it(json.loads((GOLDEN / "config.json").read_text())), weights


@pytest.fixture(scope="module")
def small():
    config = as_gguf_has_it(minimax_config(intermediate_size=32))
    return config, random_weights(config)


def logits(directory, chunk_tokens=16):
    return all_logits(load_model(directory), IDS, chunk_tokens, decode_tokens=3)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1", "Q4_0"])
def test_logits_are_those_of_the_weights_in_the_file(golden, tmp_path, kind):
    """Red: a tensor has another name, order of rows or place in its stack than llama.cpp gives it,
    a constant of the metadata is misread, or codes are unpacked wrongly."""
    config, weights = golden
    source = write_minimax_gguf(tmp_path / "m1.gguf", config, weights, Kind[kind])
    want = write_checkpoint(tmp_path / "want", config, as_stored(config, weights, Kind[kind]))
    convert(source, tmp_path / "plain")
    written = convert(source, tmp_path / "nearest", form=None)
    expected = logits(want)
    assert torch.equal(logits(tmp_path / "plain"), expected)
    nearest = logits(tmp_path / "nearest")
    if kind == "Q8_0":  # blocks of 32 become rows: a second rounding, and it says so
        assert 1e-3 < written.relative_rms < 0.01
        assert read_config(tmp_path / "nearest").quantization.form is Form.INT8
    else:
        assert written.relative_rms == 0
        assert (nearest - expected).abs().max() < 1e-4
    if kind.startswith("Q4"):
        assert read_config(tmp_path / "nearest").quantization.form is Form.INT4_32
        assert Checkpoint(tmp_path / "nearest").info(
            "model.layers.0.self_attn.qkv_proj.weight.codes"
        ).shape == (384, 32)


def test_config_is_what_the_metadata_said(small, tmp_path):
    config, weights = small
    kept = {"architectures", "sliding_window", "shared_moe_mode", "eos_token_id"}
    convert(write_minimax_gguf(tmp_path / "m1.gguf", config, weights, Kind.F32), tmp_path / "model")
    told = json.loads((tmp_path / "model/config.json").read_text())
    assert {k: told[k] for k in config if k not in kept} == {
        k: v for k, v in config.items() if k not in kept
    }
    assert told["eos_token_id"] == 2 and told["layernorm_mlp_alpha"] == ALPHA
    assert read_config(tmp_path / "model").lightning_norm_eps == 1e-6


@pytest.mark.parametrize(("interval", "kinds"), [(None, [0] * 7 + [1]), (4, [0, 0, 0, 1] * 2)])
def test_without_a_list_of_layers_every_so_manyth_is_softmax(small, tmp_path, interval, kinds):
    """Red: a file that relies on llama.cpp's default of 8 is read as another model."""
    config = small[0] | {"num_hidden_layers": 8, "attn_type_list": kinds}
    metadata = {"minimax-01.attention.recurrent_layers": None}
    metadata["minimax-01.full_attention_interval"] = interval
    source = write_minimax_gguf(
        tmp_path / "m1.gguf", config, random_weights(config), Kind.F32, metadata=metadata
    )
    convert(source, tmp_path / "model")
    told = json.loads((tmp_path / "model/config.json").read_text())
    assert told["attn_type_list"] == kinds


def test_digits_are_split_as_minimax_splits_them(small, tmp_path):
    config, weights = small
    convert(write_minimax_gguf(tmp_path / "m1.gguf", config, weights, Kind.F32), tmp_path / "model")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tmp_path / "model/tokenizer.json"))
    split = tokenizer.pre_tokenizer.pre_tokenize_str("1234567 = Hello, world")
    assert [piece for piece, _ in split] == ["123", "456", "7", "Ġ=", "ĠHello", ",", "Ġworld"]


def test_a_parameter_of_several_kinds_has_the_most_exact_form(small, tmp_path):
    """Red: q, k and v of a Q4_K_M-like mixture cannot be stacked."""
    config, weights = small

    def kind(name):
        return Kind.Q8_0 if "attn_v" in name else Kind.Q4_1

    source = write_minimax_gguf(tmp_path / "m1.gguf", config, weights, kind)
    convert(source, tmp_path / "model", form=None)
    told = read_config(tmp_path / "model").quantization
    assert told.form is Form.INT4_32 and told.exceptions == (("layers.2.mixer.qkv", Form.INT8),)
    want = write_checkpoint(tmp_path / "want", config, as_stored(config, weights, kind))
    difference = (logits(tmp_path / "model") - logits(want)).square().mean().sqrt()
    assert difference < 0.1 * logits(want).std()


def test_a_split_model_is_read_from_any_of_its_files(small, tmp_path):
    config, weights = small
    write_minimax_gguf(tmp_path / "m1.gguf", config, weights, Kind.F32, split_max_tensors=9)
    files = sorted(tmp_path.glob("m1-*.gguf"))
    assert len(files) > 2
    convert(files[1], tmp_path / "model")
    want = write_checkpoint(tmp_path / "want", config, weights)
    assert torch.equal(logits(tmp_path / "model"), logits(want))
    files[0].rename(tmp_path / "alone.gguf")
    with pytest.raises(GgufError, match="is missing"):
        convert(files[1], tmp_path / "other")
    with pytest.raises(GgufError, match="must be named"):
        convert(tmp_path / "alone.gguf", tmp_path / "other")
    (tmp_path / "alone.gguf").rename(files[0])
    files[2].write_bytes(files[1].read_bytes())
    with pytest.raises(GgufError, match="says it is file 1"):
        convert(files[0], tmp_path / "other")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"block_count": 2**31}, "block_count|must be"),
        ({"block_count": 5}, "must be 5 times"),
        ({"attention.recurrent_layers": [1, 1, 2, 1]}, "true or false"),
        ({"attention.recurrent_layers": [True, True, True, True]}, "attn_qkv.weight is missing"),
        ({"residual_scale": None}, "lacks minimax-01.residual_scale"),
        ({"residual_scale": float("inf")}, "residual_scale is inf"),
        ({"expert_count": 2**31}, "announced"),
        ({"expert_count": 3}, "announced"),
        ({"expert_used_count": 9}, "experts per token"),
        ({"expert_gating_func": 2}, "softmax"),
        ({"expert_shared_count": 1}, "shared"),
        ({"rope.dimension_count": 18}, "do not fit"),
        ({"rope.dimension_count": 7}, "do not fit"),
        ({"rope.scaling.type": "yarn"}, "rotary scaling"),
        ({"attention.key_length": 32}, "value_length"),
        ({"feed_forward_length": 48}, "announced"),
        ({"full_attention_interval": 0, "attention.recurrent_layers": None}, "interval is 0"),
    ],
)
def test_metadata_that_contradicts_the_tensors_is_refused(small, tmp_path, metadata, reason):
    config, weights = small
    source = write_minimax_gguf(
        tmp_path / "m1.gguf",
        config,
        weights,
        Kind.F32,
        metadata={f"minimax-01.{key}": value for key, value in metadata.items()},
    )
    with pytest.raises(GgufError, match=reason) as caught:
        convert(source, tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["m1.gguf"]


def test_tensors_that_are_missing_or_more_than_asked_for_are_refused(small, tmp_path):
    config, weights = small
    name = "blk.1.attn_gate.weight"
    tensors = their_tensors(config, weights)
    for change, reason in (
        ({name: None}, f"{name} is missing"),
        ({"blk.1.attn_gate.bias": tensors[name][0].clone()}, "no place"),
        ({name: tensors[name][:5].clone()}, "announced"),
        ({name: torch.full_like(tensors[name], float("nan"))}, "not finite"),
    ):
        source = write_minimax_gguf(tmp_path / "m1.gguf", config, weights, Kind.F32, tensors=change)
        with pytest.raises(GgufError, match=reason):
            convert(source, tmp_path / "model")
        assert [path.name for path in tmp_path.iterdir()] == ["m1.gguf"]


@settings(max_examples=40, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 14_000), st.binary(min_size=1, max_size=8))))
def test_a_damaged_header_is_converted_or_refused_and_nothing_else(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("damaged")
    config = as_gguf_has_it(
        minimax_config(num_hidden_layers=2, attn_type_list=[0, 1], num_local_experts=2)
    )
    source = folder / "m1.gguf"
    write_minimax_gguf(source, config, random_weights(config), Kind.F16)
    content = bytearray(source.read_bytes())
    for position, replacement in changes:
        content[position : position + len(replacement)] = replacement
    source.write_bytes(content)
    try:
        convert(source, folder / "model", form=None)
    except EngineError:
        assert [path.name for path in folder.iterdir()] == ["m1.gguf"]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["Q4_0", "Q4_1", "Q4_K"]), st.integers(1, 5), st.integers(0, 2**31))
def test_four_bit_blocks_keep_their_numbers(kind, num_rows, seed):
    """Red: codes land in other columns, or scale and offset belong to another group."""
    width, random = 512, np.random.default_rng(seed)
    elements, size = gguf.GGML_QUANT_SIZES[Kind[kind]]
    packed = random.integers(0, 256, (num_rows, width // elements, size), dtype=np.uint8)
    num_halves = 1 if kind == "Q4_0" else 2
    halves = random.standard_normal((num_rows, width // elements, num_halves)).astype(np.float16)
    packed[..., : 2 * num_halves] = halves.view(np.uint8)
    tensor = GgufTensor(Kind[kind], (num_rows, width), packed.reshape(num_rows, -1))
    (rows,) = blocks.slices(Source("x", tensor), Form.INT4_32)
    assert rows.weight is not None
    off = rows.weight.dequantize() - rows.values
    if kind == "Q4_K":  # scale and offset are rounded to float16
        assert off.square().mean().sqrt() < 5e-4 * rows.values.square().mean().sqrt()
    else:
        assert not off.any()


def test_an_offset_beyond_float16_is_not_taken_over():
    """Red: an offset becomes infinite, and with it every logit."""
    packed = np.zeros((1, 18), dtype=np.uint8)
    packed[:, :2] = np.array([[20_000.0]], dtype=np.float16).view(np.uint8)
    tensor = GgufTensor(Kind.Q4_0, (1, 32), packed)
    (rows,) = blocks.slices(Source("x", tensor), Form.INT4_32)
    assert rows.weight is None and rows.values.min() == -160_000
