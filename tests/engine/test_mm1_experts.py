"""Red here means that our own family computes something else with experts than MiniMax-M1 does."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import EXPERTS, all_logits, load_model, minimax_config, mm1_config, write_checkpoint

from engine.api import ContextPlan
from engine.engine import Engine
from engine.errors import ConfigError
from engine.families import read_config
from engine.placement.checkpoint_info import tensor_bytes
from engine.placement.weight_bytes import Precision
from engine.quantized.forms import Form
from engine.quantized.quantize import quantize
from engine.verify import verify

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "m1-tiny"
IDS = torch.randint(4, 290, (70,), generator=torch.Generator().manual_seed(6)).tolist()

_AB = ("alpha", "beta")
_KEPT = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "rms_norm_eps")
_KEPT += ("num_key_value_heads", "head_dim", "postnorm", "tie_word_embeddings", "hidden_act")
_KEPT += ("max_position_embeddings", "eos_token_id", "num_local_experts", "num_experts_per_tok")
_KEPT += ("shared_intermediate_size", "shared_moe_mode")


def in_our_words(raw):
    """A config.json of MiniMax-M1's as one of family mm1."""

    def residuals(kind):
        keys = {"attention": f"layernorm_{kind}_attention", "mlp": "layernorm_mlp"}
        return {f"{ours}_{x}": raw[f"{key}_{x}"] for ours, key in keys.items() for x in _AB}

    rotary = {"rotary_dim": raw["rotary_dim"], "rope_theta": raw["rope_theta"]}
    kinds = {
        "lightning": {"mixer": "lightning", **residuals("linear")},
        "softmax": {"mixer": "softmax", **rotary, **residuals("full")},
    }
    layers = [("lightning", "softmax")[kind] for kind in raw["attn_type_list"]]
    kept = {key: raw[key] for key in _KEPT}
    return {"model_type": "mm1", "layer_kinds": kinds, "layers": layers, **kept}


def twin(source, target):
    """The checkpoint `source` of MiniMax-M1's under family mm1: the same files, another config."""
    target.mkdir()
    for path in source.iterdir():
        if path.name != "config.json":
            (target / path.name).symlink_to(path)
    raw = json.loads((source / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(in_our_words(raw)))
    return target


@pytest.fixture(scope="module")
def shared_expert(tmp_path_factory):
    config = minimax_config(shared_intermediate_size=32)
    return write_checkpoint(tmp_path_factory.mktemp("minimax") / "m", config)


@pytest.fixture(scope="module", params=["golden", "shared expert"])
def minimax(request, shared_expert):
    if request.param == "golden" and not GOLDEN.exists():
        pytest.skip("needs shared/golden")
    return GOLDEN if request.param == "golden" else shared_expert


@pytest.mark.parametrize("form", [None, Form.INT8, Form.INT4_32])
def test_the_same_weights_give_the_same_bits_in_both_families(minimax, tmp_path, form):
    directories = [minimax, twin(minimax, tmp_path / "mm1")]
    if form is not None:
        small = [tmp_path / name for name in ("minimax-small", "mm1-small")]
        errors = [quantize(*pair, form).errors for pair in zip(directories, small, strict=True)]
        assert errors[0] == errors[1]
        directories = small
    configs = [read_config(directory) for directory in directories]
    assert [config.family for config in configs] == ["minimax", "mm1"]
    for config in configs:
        assert (config.num_experts, config.num_experts_per_token) == (4, 2)
    want, got = (
        all_logits(load_model(directory), IDS, 16, decode_tokens=4) for directory in directories
    )
    assert want.std() > 0.5
    assert torch.equal(got, want)


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs shared/golden")
def test_the_official_outputs_are_those_of_our_family_too(tmp_path):
    assert verify(twin(GOLDEN, tmp_path / "mm1"), [64]).passed


def test_a_plan_counts_every_tensor(minimax, tmp_path):
    """Red: `mm1 models plan` without weights plans for another model than the files hold."""
    config = read_config(twin(minimax, tmp_path / "mm1"))
    found = tensor_bytes(config, Precision.FLOAT32)
    stored = {}
    for path in minimax.glob("model*.safetensors"):
        stored |= {name: tensor.nbytes for name, tensor in load_file(path).items()}
    assert found == stored


def test_a_saved_context_goes_on_as_if_never_closed(tmp_path):
    directory = write_checkpoint(tmp_path / "m", mm1_config(**EXPERTS))
    engine = Engine(directory, chunk_tokens=16)
    built = engine.build_context(tmp_path / "c", ContextPlan(IDS)).context
    other = Engine(directory, chunk_tokens=16)
    opened = other.open_context(tmp_path / "c")
    assert opened.token_ids == IDS
    for context in (built, opened):
        context.extend([7, 8, 9])
    assert built.logits is not None and torch.equal(built.logits, opened.logits)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_local_experts": -1}, "-1 experts in each of 5 layers"),
        ({"num_local_experts": 1025}, "1025 experts in each of 5 layers, expected 0 to 1,024"),
        ({"num_local_experts": 10**30}, "experts in each of 5 layers"),
        ({"num_local_experts": 1024, "layers": ["local"] * 129}, "at most 131,072 in all"),
        ({"num_local_experts": 4.0}, "num_local_experts must be an integer"),
        ({"num_local_experts": True}, "num_local_experts must be an integer"),
        ({"num_experts_per_tok": None}, "0 experts per token of 4"),
        ({"num_experts_per_tok": 5}, "5 experts per token of 4"),
        ({"num_experts_per_tok": -2}, "-2 experts per token of 4"),
        ({"num_experts_per_tok": "2"}, "num_experts_per_tok must be an integer"),
        ({"num_local_experts": None}, "num_experts_per_tok without num_local_experts"),
        (
            {"num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 8},
            "shared_intermediate_size without num_local_experts",
        ),
        ({"shared_intermediate_size": -1}, "shared MLP size is -1"),
        ({"shared_intermediate_size": 2**25}, "shared MLP size is"),
        ({"shared_intermediate_size": 8, "shared_moe_mode": "softmax"}, "shared_moe_mode = "),
    ],
    ids=str,
)
def test_experts_that_cannot_be_are_refused(tmp_path, changes, reason):
    config = mm1_config(**EXPERTS) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=reason) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 0])
def test_without_experts_the_mlp_is_dense(tmp_path, value):
    config = mm1_config(num_local_experts=value, num_experts_per_tok=value)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path).num_experts == 0
