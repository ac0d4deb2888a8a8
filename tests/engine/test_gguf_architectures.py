"""GGUF files of every architecture: the config and the names are right if transformers, given both
and the dequantised tensors, computes what llama-server computes from the file.

Red: a layer is left out or misnamed, rows are permuted that are not or the other way round, or
a constant (theta, scale, window, factor) is misread.
"""

import json

import gguf
import ggufs
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from ggufs import CONTEXT, HEAD_DIM, VOCAB, tiny_gguf
from llama_server import LlamaServer
from safetensors.torch import save_file

from engine.errors import GgufError
from engine.gguf.architectures import KNOWN, describe
from engine.gguf.blocks import slices
from engine.gguf.file import KINDS, read_gguf
from engine.gguf.info import read_info
from engine.gguf.rope import partial_factor
from engine.quantized.forms import Form

ARCHITECTURES = [*ggufs.TINY]
RANDOM = np.random.default_rng(5)
YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 128,
}


def tensors_of(described):
    return {
        source.name: torch.cat([part.values for part in slices(source, Form.PLAIN)])
        .reshape(source.shape)
        .contiguous()
        for source in described.sources
    }


def with_stacks(tensors):
    """The experts as Qwen3.5 is published: one tensor of all in a layer; gate and up are one."""
    found = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for name in tensors:
        if name.endswith(".experts.0.gate_proj.weight"):
            place = name.removesuffix(".0.gate_proj.weight")
            each = [
                [tensors[f"{place}.{e}.{part}_proj.weight"] for part in ("gate", "up", "down")]
                for e in range(ggufs.NUM_EXPERTS)
            ]
            gate_up = [torch.cat([gate, up]) for gate, up, _ in each]
            found[f"{place}.gate_up_proj"] = torch.stack(gate_up)
            found[f"{place}.down_proj"] = torch.stack([down for *_, down in each])
    return found


def transformers_model(path, folder):
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    described = describe(read_gguf(path))
    folder.mkdir()
    tensors = tensors_of(described)
    if described.config["model_type"] == "qwen3_5_moe_text":
        tensors = with_stacks(tensors)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(described.config))
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(told.values()), told
    return model.eval()


def assert_same(path, folder, most, lengths=(1, 7, 90), num_tokens=CONTEXT):
    random = np.random.default_rng(3)
    prompts = [random.integers(3, 260, length).tolist() for length in lengths]
    with LlamaServer(path, num_tokens) as server:
        wanted = [server.log_probs(ids, VOCAB) for ids in prompts]
    model = transformers_model(path, folder)
    for ids, want in zip(prompts, wanted, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0, -1].double()
        assert np.abs(logits.log_softmax(-1).numpy() - want).max() < most, len(ids)
        assert np.ptp(want) > 0.5, "nearly equal, whatever is computed"


def rope_factors():
    return (1 + RANDOM.random(HEAD_DIM // 2)).astype(np.float32)


def llama3_factors(theta=1e4, trained=8192, factor=8.0):
    turns = trained / (2 * np.pi) * theta ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    kept = np.clip((turns - 1) / 3, 0, 1)
    return (1 / (kept + (1 - kept) / factor)).astype(np.float32)


def biases(*names, layers=2):
    sizes, rows = ggufs._SIZES, ggufs._LLAMA
    return {
        f"blk.{layer}.{name}.bias": RANDOM.normal(0, 0.3, sizes[rows[name][0]]).astype(np.float32)
        for layer in range(layers)
        for name in names
    }


QKV = ("attn_q", "attn_k", "attn_v")
LONGROPE = {
    "rope.scaling.type": "longrope",
    "rope.scaling.original_context_length": 256,
    "context_length": 1024,
    "rope.scaling.attn_factor": float(np.sqrt(1 + np.log(4) / np.log(256))),
}


@pytest.mark.server
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_computes_what_llama_server_does(architecture, tmp_path):
    path = tiny_gguf(tmp_path, architecture, layers=4)  # of SmolLM3 the fourth is not rotated
    # llama.cpp looks Gemma's GELU up in a table of float16.
    assert_same(path, tmp_path / "hf", 5e-3 if architecture == "gemma3" else 1e-3)


VARIANTS = {
    "yarn": ("qwen2", YARN, {}, {}),
    "yarn with a factor": ("qwen3", YARN | {"rope.scaling.attn_factor": 1.3}, {}, {}),
    "linear": ("llama", {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}, {}, {}),
    "linear, the old key": ("llama", {"rope.scale_linear": 4.0}, {}, {}),
    "llama 3": ("llama", {}, {"rope_freqs.weight": llama3_factors()}, {}),
    "any frequencies": ("llama", {}, {"rope_freqs.weight": rope_factors()}, {}),
    "biases of q, k, v": ("llama", {}, biases(*QKV), {}),
    "all biases": (
        *("llama", {}),
        biases(*QKV, "attn_output", "ffn_gate", "ffn_up", "ffn_down"),
        {},
    ),
    "tied": ("qwen2", {}, {}, {"tied": True}),
    "windows": ("olmo2", YARN | {"attention.sliding_window": 16}, {}, {"layers": 4}),
    "windows told": (
        *("olmo2",),
        {"attention.sliding_window": 16, "attention.sliding_window_pattern": [True, False]},
        *({}, {}),
    ),
    "a part rotated": ("phi3", {"rope.dimension_count": 48}, {}, {}),
    "no windows": ("gemma3", {"attention.sliding_window": None}, {}, {}),
    "linear beside windows": (
        *("gemma3", {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}, {}),
        {"layers": 7},
    ),
}


@pytest.mark.server
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_compute_the_same(variant, tmp_path):
    architecture, keys, tensors, options = VARIANTS[variant]
    metadata = {f"{architecture}.{key}": value for key, value in keys.items()}
    path = tiny_gguf(tmp_path, architecture, metadata=metadata, tensors=tensors, **options)
    assert_same(path, tmp_path / "hf", 5e-3 if architecture == "gemma3" else 1e-3)


@pytest.mark.server
@pytest.mark.parametrize(("lengths", "num_tokens"), [((7, 90), 256), ((257, 300), 512)])
def test_longrope_has_other_factors_beyond_the_trained_length(lengths, num_tokens, tmp_path):
    metadata = {f"phi3.{key}": value for key, value in LONGROPE.items()}
    names = ("rope_factors_long.weight", "rope_factors_short.weight")
    tensors = {name: rope_factors() for name in names}
    path = tiny_gguf(tmp_path, "phi3", metadata=metadata, tensors=tensors)
    assert_same(path, tmp_path / "hf", 1e-3, lengths, num_tokens)


@pytest.mark.parametrize(
    ("architecture", "keys", "expected"),
    [
        ("llama", {"attention.sliding_window": 100}, ("mistral", "sliding_window", 100)),
        ("phi3", {"attention.sliding_window": 100}, ("phi3", "sliding_window", 100)),
        ("phi3", {}, ("phi3", "sliding_window", None)),
        ("olmo2", {}, ("olmo2", "attention_bias", False)),
        ("granite", {}, ("granite", "residual_multiplier", 0.22)),
        ("gemma3", {}, ("gemma3_text", "query_pre_attn_scalar", 64)),
        ("qwen3moe", {}, ("qwen3_moe", "num_experts_per_tok", 2)),
        ("smollm3", {}, ("smollm3", "no_rope_layers", [1, 1])),
        (
            "qwen3",
            YARN | {"rope.scaling.yarn_attn_factor": 1.25, "rope.scaling.yarn_beta_fast": 16.0},
            (
                *("qwen3", "rope_scaling"),
                {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 128,
                    "beta_fast": 16.0,
                    "attention_factor": 1.25,
                },
            ),
        ),
    ],
)
def test_what_llama_cpp_does_not_compute_is_said_in_the_config(
    architecture, keys, expected, tmp_path
):
    metadata = {f"{architecture}.{key}": value for key, value in keys.items()}
    config = describe(read_gguf(tiny_gguf(tmp_path, architecture, metadata=metadata))).config
    model_type, key, value = expected
    assert (config["model_type"], config[key]) == (model_type, value)


def test_llama_3_is_recognised_by_its_frequencies(tmp_path):
    path = tiny_gguf(tmp_path, "llama", tensors={"rope_freqs.weight": llama3_factors()})
    assert describe(read_gguf(path)).config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_experts_are_views_of_the_file(tmp_path):
    """Red: describing a file of experts copies it."""
    file = read_gguf(tiny_gguf(tmp_path, "qwen3moe", Kind.Q4_0))
    sources = {source.name: source for source in describe(file).sources}
    stack = file.tensors["blk.1.ffn_up_exps.weight"]
    expert = sources["model.layers.1.mlp.experts.3.up_proj.weight"]
    assert np.shares_memory(expert.rows(), stack.packed)
    np.testing.assert_array_equal(expert.rows(), stack.packed[3 * 256 :])


def test_gemmas_norms_are_those_of_hugging_face(tmp_path):
    file = read_gguf(tiny_gguf(tmp_path, "gemma3"))
    found = tensors_of(describe(file))
    stored = file.tensors["blk.0.attn_q_norm.weight"].packed.view("<f4").reshape(-1)
    np.testing.assert_array_equal(
        found["model.layers.0.self_attn.q_norm.weight"].numpy(), stored - 1
    )


@pytest.mark.parametrize("kind", sorted(KINDS, key=int), ids=lambda kind: kind.name)
def test_every_known_kind_is_read(kind, tmp_path):
    """Red: a kind is announced as known and cannot be dequantised."""
    file = read_gguf(tiny_gguf(tmp_path, "qwen2", kind, layers=1))
    found = tensors_of(describe(file))
    weight = file.tensors["blk.0.ffn_up.weight"]
    want = gguf.quants.dequantize(weight.packed, kind)
    np.testing.assert_array_equal(found["model.layers.0.mlp.up_proj.weight"].numpy(), want)
    assert 0.3 < want.std() * 16 < 3, "not of a weight's size"


@pytest.mark.server
@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K", "IQ4_XS", "MXFP4", "Q5_1"])
def test_llama_server_answers_from_blocks(kind, tmp_path):
    """Red: the random blocks that stand for a quantised model are not what llama.cpp reads.
    It rounds activations to 8 bits, so that only the rough course can be the same."""
    path = tiny_gguf(tmp_path, "qwen2", Kind[kind], layers=1)
    assert_same(path, tmp_path / "hf", 0.5, (1, 7))


def test_info_says_what_is_in_a_file_without_its_tokens(tmp_path):
    path = tiny_gguf(tmp_path, "qwen3moe", Kind.Q4_0, metadata={"general.size_label": "1M"})
    info = read_info(path)
    file = read_gguf(path)
    assert (info.architecture, info.size_label, info.context_length) == ("qwen3moe", "1M", 512)
    assert info.num_parameters == sum(int(np.prod(t.shape)) for t in file.tensors.values())
    assert info.num_bytes == path.stat().st_size and info.num_files == 1
    assert info.kinds == ("Q4_0", "F32") and info.name is None


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("qwen3", {"blk.1.attn_q_norm.weight": None}, "blk.1.attn_q_norm.weight is missing"),
        ("qwen2", {"blk.1.attn_k.bias": None}, "blk.1.attn_k.bias is missing"),
        ("qwen2", {"blk.0.attn_k.bias": np.ones(64, np.float32)}, r"\(64,\) where \(128,\)"),
        ("qwen3", {"blk.0.strange.weight": np.ones(4, np.float32)}, "no place in a qwen3 model"),
        ("llama", {"blk.0.attn_q.bias": np.ones(256, np.float32)}, "biases of attn_q alone"),
        ("llama", {"rope_freqs.weight": np.zeros(32, np.float32)}, "not positive"),
        ("llama", {"rope_freqs.weight": np.ones(31, np.float32)}, r"\(31,\) where \(32,\)"),
        ("phi3", {"rope_factors_long.weight": np.ones(32, np.float32)}, "short.weight is missing"),
        ("qwen3moe", {"expert_count": 0}, "0 experts"),
        ("qwen3moe", {"expert_count": 2**31}, "where .* is announced"),
        ("qwen3", {"expert_count": 4}, "4 experts in a file of the architecture qwen3"),
        ("qwen3", {"block_count": 2**31}, "layers"),
        ("qwen3", {"attention.head_count": 2**31}, "key_length is 0|do not fit|where"),
        ("qwen3", {"rope.dimension_count": 32}, "only phi3"),
        ("phi3", {"rope.dimension_count": 63}, "dimension_count is 63"),
        ("olmo2", {"attention.sliding_window": 4, "attention.sliding_window_pattern": [True]}, "2"),
        ("qwen3", YARN | {"rope.scaling.factor": float("inf")}, "factor is inf"),
        ("qwen3", YARN | {"rope.scaling.yarn_ext_factor": 0.5}, "extrapolation"),
        ("granite", {"logit_scale": None}, "lacks granite.logit_scale"),
        ("gemma3", {"attention.value_length": 32}, "value_length is 32"),
        ("qwen35", {"ssm.group_count": None}, "lacks qwen35.ssm.group_count"),
        ("qwen35", {"ssm.group_count": 3}, "3 keys and 4 values .* do not fit"),
        ("qwen35", {"ssm.inner_size": 2**31}, r"attn_qkv.weight is \(512, 256\) where"),
        ("qwen35", {"ssm.state_size": 2**31}, "attn_qkv.weight is .* where"),
        ("qwen35", {"ssm.conv_kernel": 3}, r"ssm_conv1d.weight is \(512, 4\) where \(512, 3\)"),
        ("qwen35", {"block_count": 2**31}, "layers"),
        ("qwen35", {"nextn_predict_layers": 2}, "2 of 2 layers draft"),
        ("qwen35", {"full_attention_interval": 0}, "full_attention_interval is 0"),
        ("qwen35", {"attention.recurrent_layers": [True]}, "2 times true or false"),
        ("qwen35", {"blk.0.ssm_dt.bias": np.ones(5, np.float32)}, r"\(5,\) where \(4,\)"),
        ("qwen35", {"blk.0.ssm_beta.weight": None}, "ssm_beta.weight is missing"),
        ("qwen35moe", {"expert_shared_feed_forward_length": None}, "expert_shared_feed_forward"),
        ("qwen35moe", {"expert_count": 2**31}, "where .* is announced"),
        ("qwen3next", {"blk.1.ffn_down_shexp.weight": None}, "ffn_down_shexp.weight is missing"),
        ("qwen3next", {"blk.0.attn_gate.weight": None}, "attn_gate.weight is missing"),
    ],
)
def test_files_that_contradict_themselves_are_refused(architecture, changes, reason, tmp_path):
    tensors = {name: value for name, value in changes.items() if name.endswith((".weight", "bias"))}
    keys = {f"{architecture}.{k}": v for k, v in changes.items() if k not in tensors}
    path = tiny_gguf(tmp_path, architecture, metadata=keys, tensors=tensors)
    with pytest.raises(GgufError, match=reason) as caught:
        describe(read_gguf(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_a_decay_that_grows_is_refused(value, tmp_path):
    """Red: the logarithm of what is no -exp(x) reaches a model."""
    tensors = {"blk.0.ssm_a": np.array([-1, -2, value, -3], np.float32)}
    described = describe(read_gguf(tiny_gguf(tmp_path, "qwen35", tensors=tensors)))
    with pytest.raises(GgufError, match=r"A_log holds values .* not (below 0|finite)") as caught:
        tensors_of(described)
    assert "\n" not in str(caught.value)


def test_a_part_of_a_head_is_rotated_to_the_last_pair(tmp_path):
    """Red: 30 of 176 numbers become 28, as 176 * (30 / 176) is below 30."""
    for rotary_dim, head_dim in ((30, 44), (30, 176), (64, 256), (48, 64)):
        assert int(head_dim * partial_factor(rotary_dim, head_dim)) == rotary_dim


def test_an_unknown_architecture_is_told_the_known_ones(tmp_path):
    path = tiny_gguf(tmp_path, "qwen3", metadata={})
    content = path.read_bytes().replace(b"qwen3", b"qwen9")
    path.write_bytes(content)
    with pytest.raises(GgufError, match=", ".join(KNOWN)):
        describe(read_gguf(path))
