"""From a parent of softmax layers to a hybrid with the same weights.

A kept layer stays softmax, with fewer rotated dimensions if asked for. Every other one becomes a
Lightning layer: q and o copied, k and v repeated to all heads, norms of q and k 1, gate 0 (half
open), the parent's rotation and ALiBi's slopes. What is no mixer is the parent's own tensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.config import Mixer
from engine.families import family_of
from engine.layers.lightning import LightningAttention
from engine.layers.softmax import SoftmaxAttention
from engine.model import Layer, Model
from training.teacher import mixer_io

# The far-looking layers of SmolLM2-135M and the rotated dimensions each of them can do with.
SMOLLM2_KEPT = "8:32,9:32,10:32,15:32,18:0,20:0,21:0,23:0"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which layers stay softmax, and how many dimensions of their heads turn (None: as before)."""

    kept: Mapping[int, int | None]

    @classmethod
    def parse(cls, text: str) -> "Recipe":
        """From "8:32,18:0,20": layer, and rotated dimensions if not the parent's."""
        try:
            entries = [entry.partition(":") for entry in text.split(",") if entry]
            return cls({int(layer): int(dim) if dim else None for layer, _, dim in entries})
        except ValueError:
            raise ValueError(f"layers to keep: {text!r} is not like 8:32,18:0,20") from None


def hybrid_config(parent: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The config.json of the hybrid made from a Llama-shaped `parent` config.json."""
    config = family_of(parent).read_config(parent)
    if config.family != "llama":
        raise ValueError(f"a parent must be a llama checkpoint, not {config.family}")
    if strange := [layer for layer in recipe.kept if not 0 <= layer < config.num_layers]:
        raise ValueError(f"layer {strange[0]} of {config.num_layers} cannot be kept")
    theta = {"rope_theta": parent.get("rope_theta", 10_000.0)}
    kinds: dict[str, dict[str, Any]] = {}
    names = []
    for index in range(config.num_layers):
        if index in recipe.kept:
            given = recipe.kept[index]
            rotary_dim = config.head_dim if given is None else given
            name = f"far-{rotary_dim}"
            kinds[name] = {"mixer": "softmax", "rotary_dim": rotary_dim}
            kinds[name] |= {"rotary_frequency_dim": config.head_dim} | theta
        else:
            name = "local"
            kinds[name] = {"mixer": "lightning", "silu": False, "qk_norm": True}
            kinds[name] |= {"scale": config.head_dim**-0.5, "rotary_dim": config.head_dim} | theta
            kinds[name] |= {"slope_layer_factor": False}
        names.append(name)
    return {
        "model_type": "mm1",
        "architectures": ["Mm1ForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.mlp_size,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
        "max_position_embeddings": config.max_positions,
        "eos_token_id": list(config.eos_ids) or None,
        "layer_kinds": kinds,
        "layers": names,
    }


def convert(parent: Model, hybrid: Mapping[str, Any]) -> Model:
    """The hybrid of `hybrid_config` with the parent's weights, sharing all that is no mixer.

    `parent` must not be settled yet; it may be afterwards.
    """
    with torch.device("meta"):
        model = Model(family_of(hybrid).read_config(hybrid))
    for name, parameter in parent.named_parameters():
        if ".mixer." not in name:
            _put(model, name, parameter.detach())
    if model.config.tied_embeddings:
        model.head.weight = model.embed.weight
    for layer, origin in zip(model.layers, parent.layers, strict=True):
        assert isinstance(layer, Layer) and isinstance(origin, Layer)
        assert isinstance(origin.mixer, SoftmaxAttention)
        if isinstance(layer.mixer, LightningAttention):
            _fill_lightning(layer.mixer, origin.mixer)
        else:
            assert isinstance(layer.mixer, SoftmaxAttention)
            _fill_softmax(layer.mixer, origin.mixer)
    return model.eval()


def _fill_lightning(mixer: LightningAttention, origin: SoftmaxAttention) -> None:
    num_heads, num_kv_heads, _ = origin.heads
    q, k, v = _by_heads(origin)  # [H, d, D], [G, d, D], [G, d, D]
    k, v = (x.repeat_interleave(num_heads // num_kv_heads, dim=0) for x in (k, v))
    mixer.qkv = _frozen(torch.stack([q, k, v], dim=1).flatten(0, 2))  # rows [q_h|k_h|v_h]
    mixer.out = _frozen(origin.out.clone())
    mixer.gate = _frozen(torch.zeros(mixer.gate.shape))
    for norm in (mixer.norm, mixer.q_norm, mixer.k_norm):
        norm.weight = _frozen(torch.ones(norm.weight.shape))


def _fill_softmax(mixer: SoftmaxAttention, origin: SoftmaxAttention) -> None:
    """The fastest pairs go on turning; they and their partners become the first dimensions."""
    q, k, v = _by_heads(origin)
    head_dim, kept = q.shape[1], len(mixer.rotary_frequencies)
    pairs = len(origin.rotary_frequencies)
    turned = [*range(kept), *range(pairs, pairs + kept)]
    order = torch.tensor(turned + [i for i in range(head_dim) if i not in turned])
    mixer.qkv = _frozen(torch.cat([q[:, order], k[:, order], v]).flatten(0, 1))
    mixer.out = _frozen(origin.out.clone())


def _by_heads(origin: SoftmaxAttention) -> tuple[Tensor, Tensor, Tensor]:
    heads = origin.qkv.detach().unflatten(0, (sum(origin.heads), -1))  # type: ignore[no-untyped-call]
    q, k, v = torch.split(heads, list(origin.heads))
    return q, k, v


@torch.no_grad()
def match_variance(hybrid: Model, teacher: Model, token_ids: Tensor) -> None:
    """Scales each Lightning layer's output norm so that its output has the teacher's variance.

    `token_ids` [T] is a text to measure it on.
    """
    states = hybrid.empty_states()
    for index, (seen, wanted) in enumerate(mixer_io(teacher, token_ids)):
        layer = hybrid.layers[index]
        assert isinstance(layer, Layer)
        if layer.config.mixer is Mixer.LIGHTNING:
            got = layer.mixer(seen, states[index], 0)
            assert isinstance(layer.mixer, LightningAttention)
            layer.mixer.norm.weight.mul_((wanted.var() / got.var()).sqrt())


def _put(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, _frozen(value))


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)
