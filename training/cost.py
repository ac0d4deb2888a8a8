"""Floating-point operations, counted from the shapes: two per weight and token of a product."""

from engine.config import Mixer, ModelConfig
from kernels.lightning.chunked import BLOCK_TOKENS


def mixer_flops(config: ModelConfig, mixer: Mixer, num_tokens: int) -> int:
    """One mixer over `num_tokens` that follow nothing."""
    size, width = config.attention_size, config.hidden_size
    if mixer is Mixer.LIGHTNING:
        per_token = 2 * width * 5 * size  # q, k, v, gate, out
        block = min(BLOCK_TOKENS, num_tokens)
        per_token += 4 * size * block + 4 * size * config.head_dim  # inside a block, and the state
        return num_tokens * per_token
    key_values = config.num_kv_heads * config.head_dim
    per_token = 2 * width * (2 * size + 2 * key_values)
    return num_tokens * per_token + 2 * size * num_tokens * num_tokens  # half of the keys each


def forward_flops(config: ModelConfig, num_tokens: int, *, head: bool) -> int:
    """The whole model over `num_tokens`, with scores for each of them if `head`."""
    mixers = sum(mixer_flops(config, layer.mixer, num_tokens) for layer in config.layers)
    inner = config.mlp_size * max(config.num_experts_per_token, 1) + config.shared_mlp_size
    mlps = num_tokens * config.num_layers * 6 * config.hidden_size * inner
    scores = 2 * num_tokens * config.hidden_size * config.vocab_size if head else 0
    return mixers + mlps + scores
