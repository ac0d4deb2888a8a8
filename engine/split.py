"""Layers split over several devices: each device has a stage, a run of neighbouring layers.

A chunk takes as long on a stage as its layers take, and a pipeline is as fast as its slowest stage.
So the split makes the slowest stage as fast as it can be among the splits that fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from math import inf

import torch

from engine.config import LayerConfig, Mixer, ModelConfig
from engine.errors import PlacementError
from engine.placement import Placement, available_bytes, plan
from engine.placement import check as check_one
from engine.staged import Stage

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one layer: bytes of its weights and of its states, and operations it takes for a token."""

    weights_bytes: int
    state_bytes: int
    operations: float


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be split. `before` the first layer and `behind` the last one stand the embedding
    and the head, `beside` each stage's layers the activations of a chunk; all in bytes."""

    layers: tuple[Cost, ...]
    before: int = 0
    behind: int = 0
    beside: int = 0

    def num_bytes(self, first: int, last: int) -> int:
        """What the stage of layers `first` .. `last` - 1 holds."""
        total = self.context_bytes(first, last)
        total += sum(layer.weights_bytes for layer in self.layers[first:last])
        total += self.before if first == 0 else 0
        return total + (self.behind if last == len(self.layers) else 0)

    def context_bytes(self, first: int, last: int) -> int:
        """What it holds beside weights."""
        return self.beside + sum(layer.state_bytes for layer in self.layers[first:last])

    def seconds(self, first: int, last: int, rate: float) -> float:
        """For a token, at `rate` operations a second."""
        return sum(layer.operations for layer in self.layers[first:last]) / rate


def load_of(
    config: ModelConfig,
    num_tokens: int,
    chunk_tokens: int,
    dtype: torch.dtype,
    *,
    kv_dtype: torch.dtype | None = None,
) -> Load:
    """Of a model with a context of `num_tokens`. See `placement.plan`; allocates nothing."""
    embedding = config.vocab_size * config.hidden_size * dtype.itemsize
    behind = 4 * (config.vocab_size + 1) * config.hidden_size  # the head and its norm, in float32

    @cache
    def cost(layer: LayerConfig) -> Cost:
        one = plan(
            replace(config, layers=(layer,)), num_tokens, chunk_tokens, dtype, kv_dtype=kv_dtype
        )
        weights = one.weights_bytes - embedding - behind
        return Cost(weights, one.kv_bytes + one.state_bytes, _operations(config, layer, num_tokens))

    whole = plan(config, num_tokens, chunk_tokens, dtype, kv_dtype=kv_dtype)
    return Load(tuple(map(cost, config.layers)), embedding, behind, whole.activation_bytes)


def _operations(config: ModelConfig, layer: LayerConfig, num_tokens: int) -> float:
    """Multiplications and additions for one token, the mean over a prefill of `num_tokens`."""
    width, heads = config.hidden_size, config.attention_size
    mlp = 3 * width * (config.mlp_size * max(config.num_experts_per_token, 1))
    mlp += 3 * width * config.shared_mlp_size
    if layer.mixer is Mixer.LIGHTNING:
        # q, k, v, gate, out; then k^T v and q S of each head.
        return 2.0 * (5 * width * heads + mlp + 2 * heads * config.head_dim)
    options = layer.softmax
    keys = num_tokens / 2
    if options.window_tokens:
        keys = min(keys, options.window_tokens + options.sink_tokens)
    matrices = 2 + options.output_gate + 2 * config.num_kv_heads / config.num_heads
    return 2.0 * (matrices * width * heads + mlp + 2 * heads * keys)


def split(load: Load, rooms: Sequence[int], rates: Sequence[float]) -> list[tuple[int, int]]:
    """Layers [first, last) for each device, in the order of the devices, none without a layer.

    `rooms` are bytes, `rates` operations a second. Of the splits that fit it gives one whose
    slowest stage is fastest. Raises PlacementError, with the sums, if none fits.
    """
    num_layers, num_stages = len(load.layers), len(rooms)
    if num_stages > num_layers:
        raise PlacementError(f"{num_stages} devices for {num_layers} layers; use fewer devices")
    # slowest[n]: the best that the stages so far can do with the first n layers; and how.
    slowest = [0.0] + [inf] * num_layers
    cuts: list[list[int]] = []
    for room, rate in zip(rooms, rates, strict=True):
        longer, cut = [inf] * (num_layers + 1), [0] * (num_layers + 1)
        for last in range(1, num_layers + 1):
            for first in range(last):
                if slowest[first] == inf or load.num_bytes(first, last) > room:
                    continue
                worst = max(slowest[first], load.seconds(first, last, rate))
                if worst < longer[last]:
                    longer[last], cut[last] = worst, first
        slowest = longer
        cuts.append(cut)
    if slowest[-1] == inf:
        needed = load.num_bytes(0, num_layers) + (num_stages - 1) * load.beside
        free = " + ".join(f"{room / _GIB:.1f}" for room in rooms)
        raise PlacementError(
            f"needs {needed / _GIB:.1f} GiB in {num_stages} stages of whole layers, but {free} GiB "
            "are free on the devices; read less, or use more devices or a smaller model"
        )
    borders = [num_layers]
    for cut in reversed(cuts):
        borders.append(cut[borders[-1]])
    borders.reverse()
    return list(pairwise(borders))


def stages_on(
    devices: Sequence[torch.device], load: Load, rates: Sequence[float] | None = None
) -> tuple[Stage, ...]:
    """`split` over `devices` and the memory that is free there now, shared by stages on one device.

    Without `rates` all devices are taken to be equally fast. Raises PlacementError.
    """
    rooms = [available_bytes(device) // devices.count(device) for device in devices]
    found = split(load, rooms, rates or [1.0] * len(devices))
    return tuple(Stage(*layers, device) for layers, device in zip(found, devices, strict=True))


def place(
    whole: Placement, load: Load, devices: Sequence[torch.device], *, may_be_one: bool
) -> tuple[Stage, ...]:
    """The stages on `devices`; none where all lies on the first: there is no other, or it `may_be`
    one and there is room. Raises PlacementError.
    """
    if may_be_one or len(devices) == 1:
        try:
            check_one(whole, devices[0])
        except PlacementError:
            if len(devices) == 1:
                raise
        else:
            return ()
    return stages_on(devices, load)


def check(stages: Sequence[Stage], load: Load) -> None:
    """Raises PlacementError if the states of `load` do not fit `stages` that hold its weights."""
    for device in {stage.device for stage in stages}:
        needed = sum(load.context_bytes(s.first, s.last) for s in stages if s.device == device)
        free = available_bytes(device)
        if needed > free:
            raise PlacementError(
                f"states, KV and activations need {needed / _GIB:.1f} GiB on {device}, but "
                f"{free / _GIB:.1f} GiB are free there; read less, or use more devices"
            )
