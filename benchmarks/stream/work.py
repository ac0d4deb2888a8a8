"""What reading a prompt and writing a token cost a model: operations and bytes, by its config."""

from math import prod

import torch

from engine.config import Mixer, ModelConfig
from engine.model import Model
from engine.placement.weight_bytes import shapes
from engine.quantized.forms import Form, is_matrix

_HALF_BYTES = 2  # of the float16 copies that few rows are multiplied with


def matrix_sizes(config: ModelConfig) -> tuple[int, int]:
    """Weights one token is multiplied by in the layers, and in the head."""
    with torch.device("meta"):
        model = Model(config)
    layers = sum(
        parameter.numel()
        * (config.num_experts_per_token / config.num_experts if parameter.dim() == 3 else 1)
        for parameter in model.layers.parameters()
        if parameter.dim() > 1
    )
    return int(layers), config.vocab_size * config.hidden_size


def bytes_per_weight(config: ModelConfig) -> float:
    """That a dense model reads to write a token: plain matrices and the head as float16 copies."""
    total = _HALF_BYTES * config.vocab_size * config.hidden_size
    for name, shape in shapes(config).items():
        if is_matrix(name):
            form = config.quantization.form_of(name)
            plain = form is Form.PLAIN
            total += _HALF_BYTES * prod(shape) if plain else form.num_bytes(*shape)
    return total / sum(matrix_sizes(config))


def prefill_operations(config: ModelConfig, num_tokens: int) -> float:
    """Two per weight and token; causal attention; Lightning states; one row of head."""
    layers, head = matrix_sizes(config)
    total = 2.0 * layers * num_tokens + 2 * head
    for layer in config.layers:
        if layer.mixer is Mixer.LIGHTNING:
            total += 4.0 * num_tokens * config.attention_size * config.head_dim
        else:
            window = layer.softmax.window_tokens if layer.softmax.sliding_window else 0
            seen = min(window or num_tokens, num_tokens / 2)
            total += 4.0 * num_tokens * seen * config.attention_size
    return total


def decode_bytes(config: ModelConfig, num_tokens: int, weight_bytes: float) -> float:
    """Bytes a token after `num_tokens` others has to read; keys and values are float32."""
    total = weight_bytes * sum(matrix_sizes(config))
    for layer in config.layers:
        if layer.mixer is Mixer.LIGHTNING:
            total += 4.0 * config.attention_size * config.head_dim
        else:
            window = layer.softmax.window_tokens if layer.softmax.sliding_window else 0
            seen = min(window or num_tokens, num_tokens)
            total += 8.0 * seen * config.num_kv_heads * config.head_dim
    return total
