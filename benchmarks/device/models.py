"""Engine models of MiniMax-M1's shape with random weights, of few enough layers for one device."""

import torch

from benchmarks.device.bench import Bench
from engine.config import LayerConfig, Mixer, ModelConfig, Residual
from engine.model import Model

NUM_LAYERS, NUM_LIGHTNING, NUM_SOFTMAX = 80, 70, 10
VOCAB_SIZE, WIDTH = 200_064, 6144
_BETWEEN = Residual(alpha=3.5565588200778455)
_FREQUENCIES = tuple(1e7 ** (-2 * pair / 64) for pair in range(32))


def one_layer(bench: Bench, mixer: Mixer) -> ModelConfig:
    """One layer of MiniMax-M1 with all its experts, between a small embedding and head."""
    return ModelConfig(
        family="minimax",
        vocab_size=bench.pick(1024, 64),
        hidden_size=bench.pick(WIDTH, 128),
        num_heads=bench.pick(64, 2),
        num_kv_heads=bench.pick(8, 1),
        head_dim=bench.pick(128, 64),
        rotary_frequencies=_FREQUENCIES,
        mlp_size=bench.pick(9216, 64),
        layers=(LayerConfig(mixer, attention=_BETWEEN, mlp=_BETWEEN),),
        num_experts=bench.pick(32, 3),
        num_experts_per_token=2,
        postnorm=True,
        max_positions=2**21,
    )


def hybrid(bench: Bench) -> ModelConfig:
    """Eight narrow layers, one of them softmax: most of an eager step is starting kernels."""
    kinds = [Mixer.LIGHTNING] * bench.pick(7, 1) + [Mixer.SOFTMAX]
    return ModelConfig(
        family="minimax",
        vocab_size=bench.pick(32_768, 64),
        hidden_size=bench.pick(2048, 64),
        num_heads=bench.pick(16, 1),
        num_kv_heads=bench.pick(4, 1),
        head_dim=bench.pick(128, 64),
        rotary_frequencies=_FREQUENCIES,
        mlp_size=bench.pick(1024, 64),
        layers=tuple(LayerConfig(kind) for kind in kinds),
        num_experts=bench.pick(16, 2),
        num_experts_per_token=2,
        max_positions=2**21,
    )


def build(bench: Bench, config: ModelConfig) -> Model:
    """bfloat16, activations near 1; the router is float32, as when a checkpoint is loaded."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(bench.device):
            model = Model(config).requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            std = 1.0 if name.startswith("embed") else parameter.shape[-1] ** -0.5
            parameter.normal_(std=std)
        if name.endswith("router"):
            parameter.data = parameter.data.float()
    model.prepare_for_inference()
    return model
