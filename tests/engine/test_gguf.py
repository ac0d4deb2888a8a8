import gc
import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from ggufs import tiny_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from mini import TINY_CONTROL, tiny_tokens, tiny_weights, write_tiny_gguf
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from engine.engine import Engine
from engine.errors import GgufError
from engine.gguf.convert import convert
from engine.gguf.header import Header
from engine.model_source import ModelSource

Q8_0 = gguf.GGMLQuantizationType.Q8_0


def test_tensors_are_the_dequantised_ones_in_hugging_face_order(tmp_path):
    weights = tiny_weights()
    convert(write_tiny_gguf(tmp_path / "tiny.gguf", weights), tmp_path / "model")

    converted = load_file(tmp_path / "model/model.safetensors")
    assert converted.keys() == weights.keys()
    for name, weight in weights.items():
        if weight.ndim == 2 and ("embed" in name or "attn" in name):
            weight = gguf.quants.dequantize(gguf.quants.quantize(weight, Q8_0), Q8_0)
        assert converted[name].dtype == np.float32
        np.testing.assert_array_equal(converted[name], weight, err_msg=name)


def test_an_untied_head_and_every_progress_step_are_kept(tmp_path):
    weights = tiny_weights()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1
    steps: list[tuple[int, int]] = []
    convert(
        write_tiny_gguf(tmp_path / "tiny.gguf", weights, quantised=lambda name: False),
        tmp_path / "model",
        lambda done, total: steps.append((done, total)),
    )
    head = load_file(tmp_path / "model/model.safetensors")["lm_head.weight"]
    np.testing.assert_array_equal(head, weights["lm_head.weight"])
    assert json.loads((tmp_path / "model/config.json").read_text())["tie_word_embeddings"] is False
    total = sum(weight.nbytes for weight in weights.values())
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert steps[-1] == (total, total) and len(steps) == len(weights)


def test_config_says_what_the_metadata_said(tmp_path):
    convert(write_tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    expected = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": len(tiny_tokens()),
        "max_position_embeddings": 128,
        "rope_theta": 100000.0,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
        "hidden_act": "silu",
        "torch_dtype": "float32",
    }
    assert {key: config[key] for key in expected} == expected


def test_tokenizer_merges_splits_digits_and_knows_control_tokens(tmp_path):
    convert(write_tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(tmp_path / "model/tokenizer.json"))
    tokens = tokenizer.encode("hello world 42").tokens
    assert tokens == ["hello", "Ġw", "o", "r", "l", "d", "Ġ", "4", "2"]
    for token_id, token in enumerate(TINY_CONTROL):
        assert tokenizer.encode(token).ids == [token_id]
    text = "hello <|im_end|> wörld\n\t 𝄞 1234"
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    settings_file = json.loads((tmp_path / "model/tokenizer_config.json").read_text())
    assert settings_file["chat_template"] == "{{ messages }}"
    assert (
        settings_file["bos_token"] == "<|im_start|>" and settings_file["eos_token"] == "<|im_end|>"
    )


def assert_refused(source: Path, reason: str) -> None:
    before = sorted(source.parent.iterdir())
    with pytest.raises(GgufError, match=reason) as caught:
        convert(source, source.parent / "model")
    assert "\n" not in str(caught.value)
    assert sorted(source.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"llama.embedding_length": 32}, "announced"),
        ({"llama.feed_forward_length": 128}, "announced"),
        ({"llama.attention.head_count": 2}, "announced|dimensions"),
        ({"llama.attention.head_count_kv": 3}, "do not fit"),
        ({"llama.attention.head_count": 0}, "head_count is 0"),
        ({"llama.rope.dimension_count": 8}, "rope.dimension_count is 8"),
        ({"llama.block_count": 3}, "blk.2.attn_q.weight is missing"),
        ({"llama.block_count": 2**31}, "2147483648 layers"),
        ({"llama.block_count": 1}, "no place in a llama model"),
        ({"llama.block_count": None}, "lacks llama.block_count"),
        ({"llama.block_count": "two"}, "lacks llama.block_count"),
        ({"llama.vocab_size": 7}, "vocab_size is 7"),
        ({"llama.expert_count": 8}, "experts"),
        ({"llama.rope.scaling.type": "yarn"}, "lacks llama.rope.scaling.factor"),
        ({"llama.rope.scaling.type": "su"}, "rotary scaling 'su'"),
        ({"llama.rope.freq_base": float("nan")}, "freq_base is nan"),
        ({"tokenizer.ggml.eos_token_id": 9999}, "eos token"),
        ({"tokenizer.ggml.pre": "falcon"}, "'falcon' is not supported"),
        ({"tokenizer.ggml.pre": "default"}, "does not say how its tokenizer splits"),
        ({"tokenizer.ggml.model": "bert"}, "tokenizer 'bert' is not supported"),
        ({"tokenizer.ggml.merges": ["zz top"]}, "merges contradict"),
        ({"tokenizer.ggml.merges": ["a b c"]}, "not a pair"),
        ({"tokenizer.ggml.tokens": ["a"] * 264}, "appear twice"),
        ({"tokenizer.ggml.tokens": ["a", "b", "c"]}, "announced"),
        ({"tokenizer.ggml.tokens": list(range(264))}, "merges contradict|twice"),
    ],
)
def test_metadata_that_contradicts_the_tensors_is_refused(tmp_path, metadata, reason):
    assert_refused(write_tiny_gguf(tmp_path / "tiny.gguf", metadata=metadata), reason)


def test_another_architecture_is_refused_by_name(tmp_path):
    source = write_tiny_gguf(tmp_path / "tiny.gguf", architecture="mamba")
    assert_refused(source, "'mamba' is not supported; known are llama, qwen2, .*, minimax-01, ")


def test_a_quantisation_nobody_knows_is_refused(tmp_path):
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    name = b"output_norm.weight"
    content = bytearray(source.read_bytes())
    kind_at = content.index(name) + len(name) + 4 + 8
    struct.pack_into("<I", content, kind_at, 9999)
    source.write_bytes(content)
    assert_refused(source, "unknown quantisation 9999")
    struct.pack_into("<I", content, kind_at, gguf.GGMLQuantizationType.I32)
    source.write_bytes(content)
    assert_refused(source, "quantisation I32 .* is not supported")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    weights = tiny_weights()
    weights["model.norm.weight"][3] = np.nan
    assert_refused(write_tiny_gguf(tmp_path / "tiny.gguf", weights), "not finite")


def test_a_count_larger_than_the_file_is_refused_at_once(tmp_path):
    source = tmp_path / "tiny.gguf"
    key = b"general.tags"
    for element_kind in (0, 4, 8, 10):
        array = struct.pack("<IIQ", 9, element_kind, 2**60)
        source.write_bytes(
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key + array + bytes(1000)
        )
        assert_refused(source, "cut short")


@pytest.mark.parametrize("share", [0, 0.00001, 0.0001, 0.01, 0.05, 0.3, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * share)])
    assert_refused(source, "cut short|empty")


def test_tensors_that_share_bytes_are_refused(tmp_path):
    source = write_tiny_gguf(tmp_path / "tiny.gguf", quantised=lambda name: False)
    content = bytearray(source.read_bytes())
    for tensor in gguf.GGUFReader(source).tensors:
        offset_at = tensor.field.offset + 8 + len(tensor.name) + 4 + 8 * len(tensor.shape) + 4
        struct.pack_into("<Q", content, offset_at, 0)
    source.write_bytes(content[: len(content) // 2])
    assert_refused(source, "tensors overlap")


@settings(max_examples=60, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 12_000), st.binary(min_size=1, max_size=8))))
def test_a_damaged_header_is_converted_or_refused_and_nothing_else(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(write_tiny_gguf(folder / "tiny.gguf").read_bytes())
    for position, replacement in changes:
        content[position : position + len(replacement)] = replacement
    (folder / "tiny.gguf").write_bytes(content)
    try:
        convert(folder / "tiny.gguf", folder / "model")
    except GgufError:
        assert [path.name for path in folder.iterdir()] == ["tiny.gguf"]


def test_an_existing_target_is_left_alone(tmp_path):
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.txt").write_text("mine")
    with pytest.raises(GgufError, match="exists already"):
        convert(source, tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]


def test_an_interrupted_conversion_leaves_nothing(tmp_path):
    source = write_tiny_gguf(tmp_path / "tiny.gguf")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "model", interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


@pytest.mark.mini
def test_transformers_answers_from_the_converted_model(mini_dir):
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(mini_dir)
    model = LlamaForCausalLM.from_pretrained(mini_dir)
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    tokens = torch.tensor([tokenizer(prompt).input_ids])
    with torch.inference_mode():
        answer = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=12, do_sample=False
        )
    text = tokenizer.decode(answer[0, tokens.shape[1] :], skip_special_tokens=True)
    assert text == "The capital of France is Paris."


@pytest.mark.mini
def test_the_embedded_tokenizer_is_the_published_one(mini_dir):
    tokenizer = Tokenizer.from_file(str(mini_dir / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 49152
    assert tokenizer.encode("<|endoftext|><|im_start|><|im_end|>").ids == [0, 1, 2]
    assert tokenizer.encode("Hello, world!").ids == [19556, 28, 905, 17]
    assert tokenizer.encode("2025").tokens == ["2", "0", "2", "5"]
    text = "naïve 你好\r\n\tfoo(bar) 3.14159  🙂 <|im_end|>"
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_an_open_engine_holds_no_header(tmp_path):
    """Red: the words of the vocabulary stay in memory beside the tokenizer, 40 MB of them."""
    source = ModelSource(tiny_gguf(tmp_path, "qwen2", layers=1))

    def num_headers() -> int:
        gc.collect()
        return sum(type(one) is Header for one in gc.get_objects())

    before = num_headers()
    engine = Engine(source, threads=1)
    assert num_headers() == before
    assert source.tokenizer is engine.tokenizer and source.config == engine.config
    assert source.open_checkpoint().tensors, "it can be asked for more"
