"""Red here means Qwen3-Next, Qwen3.5 or Qwen3.6 is computed otherwise than by its authors."""

import pytest
import torch
from parity_checks import NUM_TOKENS, assert_same_grown, assert_same_logits

transformers = pytest.importorskip("transformers")

TEXT = {
    "vocab_size": 200,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
DENSE = {**TEXT, "intermediate_size": 96}
EXPERTS = {
    **TEXT,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 20,
}
VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 16,
}
MROPE = {
    "rope_type": "default",
    "rope_theta": 1e6,
    "partial_rotary_factor": 0.5,
    "mrope_section": [3, 3, 2],
    "mrope_interleaved": True,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "partial_rotary_factor": 0.5,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LAYERS = ["full_attention", "linear_attention", "linear_attention", "full_attention"]
# Of each: the class, its config's, and the options that a published checkpoint may have.
MODELS = {
    "next": ("Qwen3NextForCausalLM", "Qwen3NextConfig", {**EXPERTS, "intermediate_size": 96}),
    "next, some layers dense": (
        "Qwen3NextForCausalLM",
        "Qwen3NextConfig",
        {**EXPERTS, "intermediate_size": 96, "mlp_only_layers": [1], "norm_topk_prob": False},
    ),
    "next, dense": ("Qwen3NextForCausalLM", "Qwen3NextConfig", {**DENSE, "num_experts": 0}),
    "3.5": ("Qwen3_5ForCausalLM", "Qwen3_5TextConfig", {**DENSE, "rope_parameters": MROPE}),
    "3.5 tied, biases": (
        "Qwen3_5ForCausalLM",
        "Qwen3_5TextConfig",
        {**DENSE, "tie_word_embeddings": True, "attention_bias": True, "layer_types": LAYERS},
    ),
    "3.5 yarn": ("Qwen3_5ForCausalLM", "Qwen3_5TextConfig", {**DENSE, "rope_parameters": YARN}),
    "3.5 of as many key heads": (
        "Qwen3_5ForCausalLM",
        "Qwen3_5TextConfig",
        {**DENSE, "linear_num_key_heads": 4, "linear_conv_kernel_dim": 3},
    ),
    "3.5 experts": ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeTextConfig", EXPERTS),
    "3.5 that sees": (
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5Config",
        {"text_config": {**DENSE, "rope_parameters": MROPE}, "vision_config": VISION},
    ),
    "3.5 that sees, tied": (
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5Config",
        {"text_config": DENSE, "vision_config": VISION, "tie_word_embeddings": True},
    ),
    "3.5 experts that see": (
        "Qwen3_5MoeForConditionalGeneration",
        "Qwen3_5MoeConfig",
        {"text_config": EXPERTS, "vision_config": VISION},
    ),
}


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(scope="module", params=MODELS)
def checkpoint(request, tmp_path_factory):
    """A random checkpoint of the family, and the logits of its tokens by its authors' code."""
    model_class, config_class, options = MODELS[request.param]
    torch.manual_seed(2)  # with others a head's output is nearly 0, and its norm enlarges rounding
    config = getattr(transformers, config_class)(**options)
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.15)
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    ids = torch.randint(200, (NUM_TOKENS,)).tolist()
    with torch.inference_mode():
        want = model(torch.tensor([ids])).logits[0]
    assert want.std() > 0.3  # else an absolute tolerance would say nothing
    return folder, ids, want


def test_logits_are_those_of_transformers(checkpoint):
    assert_same_logits(*checkpoint)


def test_a_context_grown_in_steps_and_forked_is_the_same(checkpoint):
    assert_same_grown(*checkpoint)
