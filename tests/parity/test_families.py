"""Red here means a family of models that people have is computed otherwise than by its authors."""

import json

import pytest
import torch
from parity_checks import NUM_TOKENS, TOLERANCE, assert_same_grown, assert_same_logits
from safetensors.torch import load_file, save_file
from tiny import all_logits, load_model

from engine import placement
from engine.checkpoint import Checkpoint
from engine.families import read_config
from engine.quantized.forms import Form
from engine.quantized.quantize import quantize
from engine.streamed.model import stream

transformers = pytest.importorskip("transformers")

SHAPE = {
    "vocab_size": 200,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0 + 0.1 * n for n in range(6)],
    "long_factor": [1.5 + 0.7 * n for n in range(6)],
    "partial_rotary_factor": 0.75,
    "original_max_position_embeddings": 64,
}
GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
OLMO_ROPE = {
    "full_attention": YARN,
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
# Of each model: name, the options that a published checkpoint may have.
MODELS = {
    "qwen2": ("Qwen2", {}),
    "qwen2 tied": ("Qwen2", {"tie_word_embeddings": True, "rms_norm_eps": 1e-4}),
    "qwen2 yarn": ("Qwen2", {"rope_parameters": YARN}),
    "qwen2 window": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2},
    ),
    "qwen3": ("Qwen3", {"head_dim": 24}),
    "qwen3 bias": ("Qwen3", {"head_dim": 16, "attention_bias": True, "tie_word_embeddings": True}),
    "qwen3_moe": (
        "Qwen3Moe",
        {
            "head_dim": 16,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "norm_topk_prob": True,
        },
    ),
    "qwen3_moe dense layers": (
        "Qwen3Moe",
        {
            "head_dim": 16,
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 24,
            "norm_topk_prob": False,
            "mlp_only_layers": [0, 2],
        },
    ),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 20}),
    "mistral window": ("Mistral", {"sliding_window": 11}),
    "smollm3": ("SmolLM3", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}),
    "smollm3 yarn": ("SmolLM3", {"rope_parameters": YARN, "no_rope_layers": [1, 0, 0, 1]}),
    "granite": (
        "Granite",
        {
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.0625,
            "residual_multiplier": 0.22,
            "logits_scaling": 2.0,
            "tie_word_embeddings": True,
        },
    ),
    "phi3": ("Phi3", {"sliding_window": 17}),
    "phi4-mini": (
        "Phi3",
        {
            "rope_parameters": LONG,
            "original_max_position_embeddings": 64,
            "tie_word_embeddings": True,
        },
    ),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", {"sliding_window": 13, "rope_parameters": OLMO_ROPE}),
    "gemma3": (
        "Gemma3",
        {
            "head_dim": 24,
            "query_pre_attn_scalar": 20,
            "sliding_window": 10,
            "sliding_window_pattern": 2,
            "rope_parameters": GEMMA_ROPE,
        },
    ),
}
CONFIGS = {"Gemma3": "Gemma3TextConfig"}


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="module", params=MODELS)
def checkpoint(request, tmp_path_factory):
    return made(request.param, tmp_path_factory.mktemp("model"))


def made(key, folder):
    """A random checkpoint of the family, and the logits of its tokens by its authors' code."""
    name, changes = MODELS[key]
    config = getattr(transformers, CONFIGS.get(name, f"{name}Config"))(**(SHAPE | changes))
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for each, parameter in model.named_parameters():
            centre = 0.0 if "norm" not in each or name == "Gemma3" else 1.0
            parameter.normal_(centre, 0.15)
    model.save_pretrained(folder)
    ids = torch.randint(config.vocab_size, (NUM_TOKENS,)).tolist()
    with torch.inference_mode():
        want = model(torch.tensor([ids])).logits[0]
    assert want.std() > 0.3  # else an absolute tolerance would say nothing
    return folder, ids, want


def test_logits_are_those_of_transformers(checkpoint):
    assert_same_logits(*checkpoint)


def test_a_context_grown_in_steps_and_forked_is_the_same(checkpoint):
    assert_same_grown(*checkpoint)


def test_streamed_layers_compute_the_same(checkpoint):
    """Red: a weight of the family is left out, or another, where layers are read on demand."""
    folder, ids, want = checkpoint
    how = {"device": torch.device("cpu"), "dtype": torch.float32, "pool_bytes": 10**7}
    streamed = stream(Checkpoint(folder), read_config(folder), **how)
    streamed.prepare_for_inference()
    got = all_logits(streamed, ids, 256)
    streamed.pool.close()
    assert (got - want).abs().max() < TOLERANCE


def test_the_plan_counts_what_is_loaded(checkpoint):
    """Red: a run of the family is planned with other weights than it has."""
    folder, *_ = checkpoint
    config = read_config(folder)
    model = load_model(folder)
    planned = placement.plan(config, 100, 64, torch.float32).devices[0].weights_bytes
    tied = 4 * config.vocab_size * config.hidden_size if config.tied_embeddings else 0
    assert planned == sum(each.nbytes for each in model.parameters()) + tied


def test_int8_weights_are_near(checkpoint, tmp_path):
    """Red: quantising leaves out a matrix of the family, or takes a bias or a norm for one."""
    folder, ids, want = checkpoint
    quantize(folder, tmp_path / "int8", Form.INT8)
    got = all_logits(load_model(tmp_path / "int8"), ids, 256)
    assert 0 < (got - want).norm() / want.norm() < 0.1


@pytest.mark.parametrize("root", ["language_model.model.", "model.language_model."])
def test_the_text_part_of_a_model_that_sees_pictures_is_read(tmp_path, root):
    """Red: Gemma 3 of 4B and more, as the hub has it or as transformers writes it, is refused."""
    folder, ids, want = made("gemma3", tmp_path / "text")
    raw = json.loads((folder / "config.json").read_text())
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}
    (tmp_path / "config.json").write_text(json.dumps(outer | {"text_config": raw}))
    tensors = load_file(folder / "model.safetensors")
    renamed = {name.replace("model.", root, 1): tensor for name, tensor in tensors.items()}
    renamed["vision_tower.patch.weight"] = torch.zeros(3)
    save_file(renamed, tmp_path / "model.safetensors")
    got = all_logits(load_model(tmp_path), ids, 256)
    assert (got - want).abs().max() < TOLERANCE
