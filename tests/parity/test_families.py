"""Red here means a family of models that people have is computed otherwise than by its authors."""

import pytest
import torch
from tiny import all_logits, load_model

from engine.context import Context

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-4
NUM_TOKENS, DECODED = 100, 12
CHUNKS = (1, 7, 256)
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


@pytest.fixture(params=MODELS)
def checkpoint(request, tmp_path):
    """A random checkpoint of the family, and the logits of its tokens by its authors' code."""
    name, changes = MODELS[request.param]
    config = getattr(transformers, CONFIGS.get(name, f"{name}Config"))(**(SHAPE | changes))
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            centre = 0.0 if "norm" not in key or name == "Gemma3" else 1.0
            parameter.normal_(centre, 0.15)
    model.save_pretrained(tmp_path)
    ids = torch.randint(config.vocab_size, (NUM_TOKENS,)).tolist()
    with torch.inference_mode():
        want = model(torch.tensor([ids])).logits[0]
    assert want.std() > 0.3  # else an absolute tolerance would say nothing
    return tmp_path, ids, want


def test_logits_are_those_of_transformers(checkpoint):
    folder, ids, want = checkpoint
    ours = load_model(folder)
    for chunk_tokens in CHUNKS:
        got = all_logits(ours, ids, chunk_tokens, DECODED)
        assert (got - want).abs().max() < TOLERANCE, f"chunks of {chunk_tokens}"


def test_a_context_grown_in_steps_and_forked_is_the_same(checkpoint):
    folder, ids, want = checkpoint
    context = Context(load_model(folder), 16)
    for first, last in ((0, 5), (5, 50), (50, 51), (51, 90)):
        context.extend(ids[first:last])
    fork = context.fork()
    for each in (fork, context):
        each.extend(ids[90:])
        assert (each.logits - want[-1]).abs().max() < TOLERANCE
