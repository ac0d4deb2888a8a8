"""Red here means answers differ from those of the reference implementation of the same weights."""

import pytest
import torch
from tiny import all_logits, load_model

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-4
NUM_TOKENS, DECODED = 100, 12
CHUNKS = [1, 31, 512]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    transformers.utils.logging.disable_progress_bar()


def save(model_class, config, directory):
    """Random weights, larger than the initialiser's, so that attention and router are uneven."""
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.15)
    model.save_pretrained(directory)
    return model


def assert_same_logits(model, directory):
    ids = torch.randint(model.config.vocab_size, (NUM_TOKENS,)).tolist()
    with torch.inference_mode():
        want = model(torch.tensor([ids])).logits[0]
    ours = load_model(directory)
    assert want.std() > 0.5  # else an absolute tolerance would say nothing
    for chunk_tokens in CHUNKS:
        got = all_logits(ours, ids, chunk_tokens, DECODED)
        assert (got - want).abs().max() < TOLERANCE, f"chunks of {chunk_tokens}"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"num_key_value_heads": 1, "head_dim": 24},
        {"hidden_size": 66, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 10},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "rms_norm_eps": 1e-3},
        {"rope_parameters": LLAMA3},
    ],
    ids=["tied", "untied", "mqa", "six heads", "theta and eps", "llama3 rope"],
)
def test_llama(tmp_path, changes):
    settings = {
        "vocab_size": 200,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    config = transformers.LlamaConfig(**(settings | changes))
    assert_same_logits(save(transformers.LlamaForCausalLM, config, tmp_path), tmp_path)


LINEAR, FULL = "linear_attention", "full_attention"


# transformers has no interleaved slopes, so only head counts that are powers of two compare; and it
# divides layer / (num_layers - 1 + 1e-5), which a last layer of few would show: so softmax is last.
@pytest.mark.parametrize(
    ("layer_types", "changes"),
    [
        ([LINEAR, LINEAR, LINEAR, FULL], {}),
        ([FULL, LINEAR, LINEAR, FULL], {"num_attention_heads": 8, "head_dim": 8}),
        ([LINEAR, FULL], {"num_experts_per_tok": 1, "num_local_experts": 3}),
        (
            [FULL, LINEAR, FULL],
            {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32},
        ),
        ([LINEAR, LINEAR, FULL], {"tie_word_embeddings": True, "num_experts_per_tok": 4}),
    ],
    ids=["m1 pattern", "softmax first", "one expert", "two heads", "tied, all experts"],
)
def test_minimax(tmp_path, layer_types, changes):
    settings = {
        "vocab_size": 200,
        "hidden_size": 64,
        "intermediate_size": 48,
        "num_hidden_layers": len(layer_types),
        "layer_types": layer_types,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "max_position_embeddings": 512,
        "block_size": 32,
        "linear_attn_alpha_factor": 1.9,
        "linear_attn_beta_factor": 1.1,
        "full_attn_alpha_factor": 2.1,
        "full_attn_beta_factor": 0.9,
        "mlp_alpha_factor": 2.0,
        "mlp_beta_factor": 0.8,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    config = transformers.MiniMaxConfig(**(settings | changes))
    assert_same_logits(save(transformers.MiniMaxForCausalLM, config, tmp_path), tmp_path)
