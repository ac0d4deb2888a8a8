"""From a parent of softmax layers to a hybrid with the same weights.

A kept layer stays softmax, with fewer rotated dimensions, a window or an output gate if asked for
(its output doubled, as the gate starts half open). Every other one becomes a Lightning layer: q
and o copied, k and v repeated to all heads, norms of q and k 1, gate 0 (half open), the parent's
rotation and ALiBi's slopes. What is no mixer is the parent's own tensor.
"""

import re
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
from training.teacher import capture_mixer_io

JSON = dict[str, Any]

# The far-looking layers of SmolLM2-135M. They keep their rotation until `lengthen` trains them
# without: to take it from four of them and half of it from the others costs 0.2 nats per token.
SMOLLM2_KEPT = "8,9,10,15,18,20,21,23"


RECIPE_HELP = (
    "softmax layers, as LAYER[:DIMS[wTOKENS[+SINKS]][g]] with commas between: DIMS dimensions of "
    "each head turn (all, if not given); with w a token sees only the last TOKENS tokens and the "
    "first SINKS, with d in its place that holds for document tokens, and question and answer see "
    "everything; g adds an output gate; as 18, 8:32, 20:0d1024+4 or 4:64w64+4"
)
_ENTRY = re.compile(r"(\d+)(?::(\d*)(?:([wd])([1-9]\d*)(?:\+(\d+))?)?(g?))?")


@dataclass(frozen=True, slots=True)
class SoftmaxLayer:
    """A layer that stays softmax: see `engine.config.SoftmaxOptions`; None: all dimensions turn."""

    rotary_dim: int | None = None
    window_tokens: int = 0
    sink_tokens: int = 0
    window_always: bool = False
    output_gate: bool = False


@dataclass(frozen=True, slots=True)
class ConversionConfig:
    """Which layers stay softmax, and in what form."""

    kept: Mapping[int, SoftmaxLayer]

    @classmethod
    def parse(cls, text: str) -> "ConversionConfig":
        """From what `RECIPE_HELP` says: "8:32,18:0,20,4:64w64+4"."""
        kept: dict[int, SoftmaxLayer] = {}
        for entry in filter(None, text.split(",")):
            if (match := _ENTRY.fullmatch(entry)) is None:
                raise ValueError(f"layers to keep: {entry!r} is not like 18, 8:32 or 4:64w64+4")
            layer, dim, whose, window, sinks, gate = match.groups()
            if int(layer) in kept:
                raise ValueError(f"layers to keep: layer {layer} is there twice")
            kept[int(layer)] = SoftmaxLayer(
                int(dim) if dim else None,
                int(window or 0),
                int(sinks or 0),
                whose == "w",
                bool(gate),
            )
        return cls(kept)


def softmax_kinds(
    parent: Mapping[str, Any], recipe: ConversionConfig
) -> dict[int, tuple[str, JSON]]:
    """Name and options (as docs/mm1-config.md has them) of each softmax layer of `recipe`.

    `parent` is the config.json of a Llama-shaped model, whose rotation the layers keep.
    """
    config = family_of(parent).read_config(parent)
    if config.family != "llama":
        raise ValueError(f"a parent must be a llama checkpoint, not {config.family}")
    kinds: dict[int, tuple[str, JSON]] = {}
    for layer, kept in recipe.kept.items():
        if layer >= config.num_layers:
            raise ValueError(f"layer {layer} of {config.num_layers} cannot be kept")
        dim = config.head_dim if kept.rotary_dim is None else kept.rotary_dim
        kind: JSON = {"mixer": "softmax", "rotary_dim": dim}
        kind |= {"rotary_frequency_dim": config.head_dim, "rope_theta": _theta(parent)}
        name = f"far-{dim}"
        if kept.window_tokens:
            kind |= {"window_tokens": kept.window_tokens, "sink_tokens": kept.sink_tokens}
            name = f"far-{dim}d{kept.window_tokens}+{kept.sink_tokens}"
            if kept.window_always:
                kind["window_always"] = True
                name = f"near-{dim}w{kept.window_tokens}+{kept.sink_tokens}"
        if kept.output_gate:
            name, kind["output_gate"] = f"{name}g", True
        kinds[layer] = name, kind
    return kinds


def _theta(parent: Mapping[str, Any]) -> float:
    return float(parent.get("rope_theta", 10_000.0))


def hybrid_config(parent: Mapping[str, Any], recipe: ConversionConfig) -> JSON:
    """The config.json of the hybrid made from a Llama-shaped `parent` config.json."""
    softmax = softmax_kinds(parent, recipe)
    config = family_of(parent).read_config(parent)
    local: JSON = {"mixer": "lightning", "silu": False, "qk_norm": True}
    local |= {"scale": config.head_dim**-0.5, "rotary_dim": config.head_dim}
    local |= {"rope_theta": _theta(parent), "slope_layer_factor": False}
    chosen = [softmax.get(index, ("local", local)) for index in range(config.num_layers)]
    kinds, names = dict(chosen), [name for name, _ in chosen]
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
    if kept > pairs:
        raise ValueError(f"{2 * kept} dimensions are to turn, but only {2 * pairs} do")
    if origin.options.output_gate and not mixer.options.output_gate:
        raise ValueError("an output gate that was trained cannot be left out")
    turned = [*range(kept), *range(pairs, pairs + kept)]
    order = torch.tensor(turned + [i for i in range(head_dim) if i not in turned])
    mixer.qkv = _frozen(torch.cat([q[:, order], k[:, order], v]).flatten(0, 1))
    mixer.out = _frozen(origin.out.clone())
    if origin.options.output_gate:
        mixer.gate = _frozen(origin.gate.clone())
    elif mixer.options.output_gate:
        mixer.gate = _frozen(torch.zeros(mixer.gate.shape))
        mixer.out.mul_(2)  # the gate is half open


def _by_heads(origin: SoftmaxAttention) -> tuple[Tensor, Tensor, Tensor]:
    heads = origin.qkv.detach().unflatten(0, (sum(origin.heads), -1))  # type: ignore[no-untyped-call]
    q, k, v = torch.split(heads, list(origin.heads))
    return q, k, v


def with_softmax(
    hybrid: Model,
    config: Mapping[str, Any],
    origin: Model,
    parent_config: JSON,
    recipe: ConversionConfig,
    far_options: Mapping[str, Any] | None = None,
) -> tuple[Model, JSON]:
    """`hybrid` with the layers of `recipe` made from those of `origin`, and the new config.json.

    `config` is the one of `hybrid`, `origin` the parent or `hybrid` itself; `far_options` go to all
    softmax layers that may look far. Shares the tensors of both, which must not be settled.
    """
    kinds, names = dict(config["layer_kinds"]), list(config["layers"])
    for layer, (name, kind) in softmax_kinds(parent_config, recipe).items():
        names[layer] = name if kinds.setdefault(name, kind) == kind else f"{name}-{layer}"
        kinds[names[layer]] = kind
    for name, kind in kinds.items():
        if kind["mixer"] == "softmax" and not kind.get("window_always"):
            kinds[name] = {**kind, **(far_options or {})}
    changed = {**config, "layers": names}
    changed["layer_kinds"] = {name: kind for name, kind in kinds.items() if name in names}
    with torch.device("meta"):
        model = Model(family_of(changed).read_config(changed))
    for layer in recipe.kept:
        ours, theirs = model.layers[layer], origin.layers[layer]
        assert isinstance(ours, Layer) and isinstance(theirs, Layer)
        if not isinstance(theirs.mixer, SoftmaxAttention):
            raise ValueError(f"layer {layer} has no softmax attention to go on from")
        assert isinstance(ours.mixer, SoftmaxAttention)
        _fill_softmax(ours.mixer, theirs.mixer)
    for name, parameter in hybrid.named_parameters():
        _, _, rest = name.partition("layers.")
        if ".mixer." not in name or int(rest.partition(".")[0]) not in recipe.kept:
            _put(model, name, parameter.detach())
    if model.config.tied_embeddings:
        model.head.weight = model.embed.weight
    return model.eval(), changed


@torch.no_grad()
def match_variance(hybrid: Model, teacher: Model, token_ids: Tensor) -> None:
    """Scales each Lightning layer's output norm so that its output has the teacher's variance.

    `token_ids` [T] is a text to measure it on.
    """
    states = hybrid.empty_states()
    for index, (seen, wanted) in enumerate(capture_mixer_io(teacher, token_ids)):
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
