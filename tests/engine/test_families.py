"""Red here means a published config.json is misread, or a hostile one is believed."""

import gzip
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import (
    EXPERTS,
    FAMILIES,
    LIGHTNING,
    WINDOWED,
    family_config,
    hf_spelling,
    llama_config,
    load_model,
    minimax_config,
    mm1_config,
    random_weights,
    shapes,
    write_checkpoint,
    write_config,
)

from engine.config import Mixer, Residual
from engine.errors import ConfigError, EngineError
from engine.families import family_named, read_config
from engine.quantized.forms import Form
from engine.quantized.quantize import quantize

REAL = Path(__file__).parents[2].parent / "shared/golden/m1-real"


def only(kind):
    return mm1_config(layer_kinds={"only": kind}, layers=["only"])


def read(directory, config):
    write_config(directory, config)
    return read_config(directory)


def test_every_key_of_minimax_arrives(tmp_path):
    config = read(
        tmp_path,
        minimax_config(shared_intermediate_size=20, eos_token_id=[3, 5], rms_norm_eps=1e-4),
    )
    assert config.family == "minimax"
    assert (config.vocab_size, config.hidden_size, config.mlp_size) == (320, 32, 24)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (4, 2, 16)
    assert config.rotary_frequencies == pytest.approx([1.0, 0.1, 0.01, 0.001])
    assert [layer.mixer for layer in config.layers] == [
        Mixer.LIGHTNING,
        Mixer.LIGHTNING,
        Mixer.SOFTMAX,
        Mixer.LIGHTNING,
    ]
    assert config.layers[0].attention == Residual(1.4, 1.1)
    assert config.layers[2].attention == Residual(1.7, 0.9)
    assert {layer.mlp for layer in config.layers} == {Residual(1.6, 0.8)}
    assert (config.num_experts, config.num_experts_per_token) == (4, 2)
    assert (config.shared_mlp_size, config.norm_eps, config.lightning_norm_eps) == (20, 1e-4, 1e-6)
    assert config.postnorm and not config.tied_embeddings
    assert (config.max_positions, config.eos_ids) == (4096, (3, 5))


def test_the_spellings_say_the_same(tmp_path):
    published = minimax_config()
    ours = read(tmp_path, published)
    assert read(tmp_path, hf_spelling(published)) == ours
    assert read(tmp_path, published | {"model_type": "minimax_text_01"}) == ours


def test_defaults_are_those_of_the_published_code(tmp_path):
    config = minimax_config()
    for key in ("postnorm", "rope_theta", "rotary_dim", "num_key_value_heads", "head_dim"):
        del config[key]
    config = read(tmp_path, config)
    assert not config.postnorm
    assert (config.num_kv_heads, config.head_dim, config.rotary_dim) == (4, 8, 8)


def test_newer_files_nest_the_rope(tmp_path):
    config = hf_spelling(minimax_config())
    del config["rope_theta"], config["rotary_dim"]
    config["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 100.0,
        "partial_rotary_factor": 0.25,
    }
    assert read(tmp_path, config).rotary_frequencies == pytest.approx([1.0, 0.1])


def test_every_option_of_our_own_family_arrives(tmp_path):
    config = read(tmp_path, mm1_config(lightning_norm_eps=1e-4, postnorm=True))
    local, window, near, far, m1 = config.layers
    assert near.softmax.sliding_window and not window.softmax.sliding_window
    assert (local.lightning.silu, local.lightning.qk_norm, local.lightning.scale) == (
        False,
        True,
        0.25,
    )
    assert len(local.lightning.rotary_frequencies) == 8
    assert not local.lightning.slope_layer_factor
    assert window.softmax.rotary_frequencies == pytest.approx([1, 10**-0.5, 0.1, 10**-1.5])
    assert (window.softmax.window_tokens, window.softmax.sink_tokens) == (9, 2)
    assert window.softmax.output_gate
    assert far.softmax.rotary_frequencies == ()
    assert (far.softmax.log_scale_base, far.softmax.log_scale_from_tokens) == (20, 30)
    assert m1.lightning.slopes == (0.5, 0.1, 0.02, 0.0)
    assert (m1.lightning.norm_groups, m1.lightning.silu) == (4, True)
    assert (config.lightning_norm_eps, config.postnorm) == (1e-4, True)


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/golden/m1-real is absent")
def test_the_real_minimax_m1():
    config = read_config(REAL)
    assert (config.num_layers, config.count(Mixer.SOFTMAX)) == (80, 10)
    assert [n for n in range(80) if config.layers[n].mixer is Mixer.SOFTMAX] == [*range(7, 80, 8)]
    assert (config.hidden_size, config.attention_size, config.rotary_dim) == (6144, 8192, 64)
    assert config.postnorm
    index = json.loads(gzip.decompress((REAL / "model.safetensors.index.json.gz").read_bytes()))
    sources = family_named("minimax").sources(config)
    names = [name for group in sources.values() for name in group]
    assert len(names) == len(set(names))
    assert set(names) == set(index["weight_map"])


@pytest.mark.parametrize(
    "config",
    [
        minimax_config(shared_intermediate_size=8),
        minimax_config(tie_word_embeddings=True),
        llama_config(),
        llama_config(tie_word_embeddings=False),
        mm1_config(),
        mm1_config(tie_word_embeddings=False),
        mm1_config(**EXPERTS, shared_intermediate_size=8),
    ],
    ids=["m1", "tied m1", "llama", "untied llama", "mm1", "untied mm1", "mm1 with experts"],
)
def test_every_tensor_is_used_once(tmp_path, config):
    ours = read(tmp_path, config)
    names = [name for group in family_named(ours.family).sources(ours).values() for name in group]
    assert sorted(names) == sorted(shapes(config))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "model_type None is not supported, only minimax_m1"),
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"model_type": ["llama"]}, "is not supported"),
        (minimax_config(hidden_act="gelu"), "hidden_act = 'gelu'"),
        (minimax_config(sliding_window=4096), "sliding_window = 4096"),
        (minimax_config(rope_scaling={"type": "yarn", "factor": 4.0}), "rope type 'yarn'"),
        (minimax_config(rope_scaling="yarn"), "rope_scaling must be an object"),
        (minimax_config(shared_intermediate_size=8, shared_moe_mode="softmax"), "shared_moe_mode"),
        (minimax_config(attn_type_list=[0, 1]), "must list 4 layers"),
        (minimax_config(attn_type_list=None), "must list 4 layers"),
        (minimax_config(attn_type_list=[0, 1, 2, 0]), "layer type 2"),
        (minimax_config(attn_type_list=[0, 1, [0], 0]), r"layer type \[0\]"),
        (minimax_config(attn_type_list=[0, 1, {}, 0]), "layer type {}"),
        (minimax_config(num_local_experts=0), "num_local_experts is 0"),
        (minimax_config(rotary_dim=7), "rotary_dim must be even"),
        (minimax_config(rotary_dim=18), "over head_dim"),
        (minimax_config(rope_theta=0), "rope_theta must be positive"),
        (minimax_config(rope_theta="1e4"), "rope_theta must be a number"),
        (minimax_config(rms_norm_eps=float("nan")), "rms_norm_eps must be a number"),
        (minimax_config(layernorm_mlp_beta=float("inf")), "layernorm_mlp_beta must be a number"),
        (minimax_config(postnorm=1), "postnorm must be true or false"),
        (minimax_config(hidden_size=True), "hidden_size must be an integer"),
        (minimax_config(hidden_size=32.0), "hidden_size must be an integer"),
        (minimax_config(eos_token_id="</s>"), "eos_token_id must be a token id"),
        (llama_config(attention_bias="yes"), "attention_bias must be true or false"),
        (llama_config(mlp_bias=True), "mlp_bias = True"),
        (llama_config(rope_scaling={"type": "dynamic", "factor": 2.0}), "rope type 'dynamic'"),
        (llama_config(rope_scaling={"type": "linear", "factor": 0}), "factor of the rope"),
        (llama_config(rope_scaling={"type": "longrope"}), "must be a number"),
        (family_config("phi3", original_max_position_embeddings=8), "16 positive factors"),
        (family_config("qwen2", layer_types=["full_attention"]), "layer_types must list 2"),
        (family_config("qwen2", layer_types=["full_attention", "x"]), "layer type 'x'"),
        (family_config("gemma3_text", final_logit_softcapping=30.0), "final_logit_softcapping"),
        (family_config("smollm3", no_rope_layers=[1, 2]), "no_rope_layers must list 2"),
        (family_config("qwen3_moe", decoder_sparse_step=0), "decoder_sparse_step"),
        (family_config("granite", logits_scaling=float("inf")), "must be a number"),
        (
            family_config("qwen2", architectures=["Qwen2AudioModel"]),
            "'Qwen2AudioModel' is not",
        ),
        (family_config("qwen2", architectures="Qwen2ForCausalLM"), "architectures must be a list"),
        (llama_config(rope_scaling={"rope_type": "llama3"}), "factor must be a number"),
        (llama_config(num_hidden_layers=10**9), "layers, expected 1 to 1,000"),
        (llama_config(num_hidden_layers=-1), "-1 layers"),
        (llama_config(num_attention_heads=0), "num_heads is 0"),
        (llama_config(vocab_size=10**400), "malformed"),
        (mm1_config(layers=["local", "remote"]), "layer kind 'remote' is not in layer_kinds"),
        (mm1_config(layers=["local", ["far"]]), "is not in layer_kinds"),
        (mm1_config(layers="local"), "layers must list"),
        (mm1_config(layers=["local"] * 1001), "layers must list 1 to 1,000"),
        (mm1_config(layer_kinds=[]), "layer_kinds must be an object"),
        (mm1_config(layer_kinds={"local": 3}, layers=["local"]), "'local' must be an object"),
        (only({"mixer": "mamba"}), "mixer 'mamba', not lightning or softmax"),
        (only({"mixer": ["softmax"]}), "not lightning or softmax"),
        (only(LIGHTNING | {"window_tokens": 4}), "'window_tokens' is not an option of lightning"),
        (only(WINDOWED | {"qk_norm": True}), "'qk_norm' is not an option of softmax"),
        (only(WINDOWED | {"rotary_dim": 7}), "rotary_dim must be even"),
        (only(WINDOWED | {"rotary_dim": 18}), "not 0 to rotary_frequency_dim 16"),
        (only({"mixer": "softmax", "rotary_dim": 18}), "rotary_dim 18 is over head_dim 16"),
        (only({"mixer": "softmax", "rotary_dim": 10**9}), "at most 65,536"),
        (only({"mixer": "softmax", "window_tokens": -1}), "window_tokens is -1"),
        (only({"mixer": "softmax", "sink_tokens": 4}), "sink_tokens without window_tokens"),
        (only({"mixer": "softmax", "log_scale_base": 1}), "log_scale_base is 1, expected 0 or"),
        (only({"mixer": "softmax", "log_scale_base": -2}), "log_scale_base is -2"),
        (only(LIGHTNING | {"slopes": [0.1]}), "1 slopes for 4 heads"),
        (only(LIGHTNING | {"slopes": [0.1, 0.1, 0.1, -0.1]}), "slopes must be finite and not neg"),
        (only(LIGHTNING | {"slopes": "steep"}), "slopes must be a list of numbers"),
        (only(LIGHTNING | {"slopes": [None] * 4}), "slopes must be a number"),
        (only(LIGHTNING | {"scale": 0}), "a scale of 0"),
        (only(LIGHTNING | {"norm_groups": 5}), "64 channels do not divide into 5 norm groups"),
        (only(LIGHTNING | {"norm_groups": 0}), "into 0 norm groups"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(tmp_path, config, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        read(tmp_path, config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "", "[]", "{", '{"a": ' * 100_000, "\x00"])
def test_a_file_that_is_no_config_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(EngineError, match=r"config\.json") as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


ROPE_KEYS = (
    "rope_type",
    "type",
    "factor",
    "rope_theta",
    "partial_rotary_factor",
    "beta_fast",
    "full_attention",
    "original_max_position_embeddings",
    "mscale",
    "mscale_all_dim",
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2, 3, 2**16, 2**31, 2**63, 2**64, 10**30, 10**320]),
    st.floats(),
    st.text(max_size=5),
    st.lists(
        st.one_of(st.none(), st.integers(-1, 3), st.floats(), st.text(max_size=2)), max_size=5
    ),
    st.dictionaries(
        st.sampled_from(ROPE_KEYS),
        st.one_of(
            st.floats(),
            st.integers(),
            st.sampled_from(["llama3", "default", "yarn", "longrope", "linear"]),
        ),
        max_size=4,
    ),
)
KEYS = sorted(
    {*minimax_config(), *hf_spelling(minimax_config()), *llama_config(), *mm1_config()}
    | {"rope_scaling", "rope_parameters", "lightning_norm_eps", "attention_bias"}
    | {key for options in FAMILIES.values() for key in options}
)


@settings(max_examples=200)
@given(
    base=st.sampled_from([LIGHTNING, WINDOWED]),
    changes=st.dictionaries(st.sampled_from(sorted({*LIGHTNING, *WINDOWED})), ODD, max_size=3),
)
def test_the_options_of_a_kind_do_not_do_anything_but_be_read_or_refused(
    tmp_path_factory, base, changes
):
    try:
        read(tmp_path_factory.getbasetemp(), only(base | changes))
    except EngineError as error:
        assert str(error).isprintable()


@settings(max_examples=400, deadline=None)
@given(
    base=st.sampled_from(
        [
            minimax_config(),
            hf_spelling(minimax_config()),
            llama_config(),
            mm1_config(),
            mm1_config(**EXPERTS),
            *map(family_config, FAMILIES),
        ]
    ),
    changes=st.dictionaries(st.sampled_from(KEYS), ODD, max_size=4),
    absent=st.sets(st.sampled_from(KEYS), max_size=2),
)
def test_no_config_does_anything_but_be_read_or_be_refused(tmp_path_factory, base, changes, absent):
    directory = tmp_path_factory.getbasetemp()
    config = {key: value for key, value in (base | changes).items() if key not in absent}
    started = time.perf_counter()
    try:
        read(directory, config)
    except EngineError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1000
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("quantised", [False, True])
def test_a_shared_expert_is_as_wide_as_its_tensors(tmp_path, quantised):
    """Red: checkpoints of the published code, whose shared expert has `intermediate_size`, or those
    of other engines, where it has what the config says, are refused."""
    raw = minimax_config(shared_intermediate_size=20)
    for told in (24, 20):
        folder = tmp_path / str(told)
        write_checkpoint(folder, raw, random_weights(raw | {"shared_intermediate_size": told}))
        if quantised:
            folder = tmp_path / f"small {told}"
            quantize(tmp_path / str(told), folder, Form.INT8)
        assert read_config(folder).shared_mlp_size == told
        load_model(folder)
    write_checkpoint(tmp_path / "odd", raw, random_weights(raw | {"shared_intermediate_size": 22}))
    with pytest.raises(EngineError, match=r"config\.json asks"):
        load_model(tmp_path / "odd")
