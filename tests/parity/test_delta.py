"""Red here means a gated delta layer says something else than transformers' with its weights."""

import pytest
import torch
from measure import relative_rms

from engine.config import DeltaOptions
from engine.layers.delta import DeltaState, GatedDeltaNet

transformers = pytest.importorskip("transformers")

HIDDEN, NUM_TOKENS = 48, 150
PROJECTED = {
    "qwen3_next": (("in_proj_qkvz",), ("in_proj_ba",)),
    "qwen3_5": (("in_proj_qkv", "in_proj_z"), ("in_proj_b", "in_proj_a")),
}


def published_layer(kind, heads):
    name, config_name = {
        "qwen3_next": ("Qwen3NextGatedDeltaNet", "Qwen3NextConfig"),
        "qwen3_5": ("Qwen3_5GatedDeltaNet", "Qwen3_5TextConfig"),
    }[kind]
    from importlib import import_module

    module = import_module(f"transformers.models.{kind}.modeling_{kind}")
    config = getattr(transformers, config_name)(
        hidden_size=HIDDEN,
        num_hidden_layers=4,
        linear_num_key_heads=heads[0],
        linear_num_value_heads=heads[1],
        linear_key_head_dim=16,
        linear_value_head_dim=24,
        vocab_size=64,
    )
    torch.manual_seed(0)
    layer = getattr(module, name)(config, 0).eval().requires_grad_(False)
    for parameter in (layer.norm.weight, layer.dt_bias):
        parameter.normal_()
    return layer


def ours_of(layer, kind):
    options = DeltaOptions(
        layer.num_k_heads, layer.num_v_heads, 16, 24, interleaved=kind == "qwen3_next"
    )
    ours = GatedDeltaNet(HIDDEN, options, layer.layer_norm_epsilon).requires_grad_(False)
    for own, names in zip((ours.qkvz, ours.ba), PROJECTED[kind], strict=True):
        own[:] = torch.cat([getattr(layer, name).weight for name in names])
    for own, theirs in (
        (ours.convolution, layer.conv1d.weight[:, 0]),
        (ours.log_decay, layer.A_log),
        (ours.decay_bias, layer.dt_bias),
        (ours.norm_scale, layer.norm.weight),
        (ours.out, layer.out_proj.weight),
    ):
        own[:] = theirs
    return ours


@pytest.mark.parametrize("size", [1, 7, 64, 256])
@pytest.mark.parametrize("heads", [(2, 2), (2, 4), (2, 6)])
@pytest.mark.parametrize("kind", PROJECTED)
def test_a_layer_is_that_of_transformers(kind, heads, size):
    published = published_layer(kind, heads)
    ours = ours_of(published, kind)
    x = torch.randn(NUM_TOKENS, HIDDEN)
    state = DeltaState.empty(ours.options, x.dtype, x.device)
    got = torch.cat([ours(piece, state, 0) for piece in x.split(size)])
    assert relative_rms(got, published(x[None])[0]) < 1e-5
