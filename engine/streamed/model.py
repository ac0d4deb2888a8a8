"""A model whose layers' weights are read when a layer is reached: they need not fit into memory.

The embedding, the final norm, the head and every layer's router stay in memory. All else is parts
of layers in a `WeightCache`: the next layer's are read while one is computed, and what is likely
to be used again soonest is kept. Logits are those of the resident model, bit by bit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

import kernels
from engine import durable
from engine.activations import Activations
from engine.checkpoint import Checkpoint
from engine.config import ModelConfig, SigmoidRouter
from engine.errors import PlacementError
from engine.layers.experts import ExpertsMLP, choose
from engine.model import Layer, Model
from engine.placement.memory import trim_malloc
from engine.protocols import IoStats
from engine.streamed.prefetch import PrefetchPlan
from engine.streamed.weight_cache import WeightCache
from engine.streamed.weight_groups import GroupKey, WeightGroup, WeightGroups
from engine.weights import meta_model
from kernels import ExpertStack
from kernels.quantized import Weight


class CachedExperts(ExpertStack):
    """One of the stacks of a layer's experts, `name` in the layer."""

    def __init__(self, layers: "StreamedLayers", layer: int, name: str) -> None:
        self._layers, self._layer, self._name = layers, layer, name

    def __getitem__(self, expert: int) -> Weight:
        return self._layers.expert(GroupKey(self._layer, expert)).weights[self._name]

    def hint(self, experts: Sequence[int]) -> None:
        self._layers.hint(experts)


@dataclass(frozen=True, slots=True)
class Router:
    """What tells early which experts a layer will choose: its norm's weight, and its router."""

    norm: Tensor  # [D]
    eps: float
    router: Tensor  # [N, D]
    num_chosen: int
    kind: SigmoidRouter | None = None
    bias: Tensor | None = None  # [N]

    @classmethod
    def of(cls, parts: WeightGroups, index: int, layer: Layer) -> Self:
        norm, router = (parts.weight(GroupKey(index), x) for x in ("mlp_norm.weight", "mlp.router"))
        assert isinstance(layer.mlp, ExpertsMLP) and layer.mlp_norm is not None
        kind, bias = layer.mlp.kind, None
        if kind is not None and kind.has_bias:
            bias = parts.weight(GroupKey(index), "mlp.router_bias")
        return cls(norm, layer.mlp_norm.eps, router, layer.mlp.chosen, kind, bias)

    def predict_experts(self, hidden: Tensor) -> list[int]:
        """The experts likely for `hidden` [T, D], which some layer before this one has not seen."""
        logits = kernels.linear(kernels.rms_norm(hidden.float(), self.norm, self.eps), self.router)
        best, ids = choose(logits, self.num_chosen, self.kind, self.bias)
        order = best.flatten().argsort(descending=True, stable=True)
        return list(dict.fromkeys(ids.flatten()[order].tolist()))


class StreamedLayers(nn.ModuleList):
    """Iterating gives the layers in order, each with its weights in place until the next is taken.

    One pass at a time. What is iterated over may be left at any point, by an error too.
    """

    def __init__(
        self, model_layers: Sequence[Layer], pool: WeightCache, routers: Mapping[int, Router]
    ) -> None:
        super().__init__(model_layers)
        self._pool, self._routers = pool, routers
        self._num_chosen = max((router.num_chosen for router in routers.values()), default=0)
        self._pass = 0
        self._expert: GroupKey | None = None  # in use
        self._layer: tuple[int, Layer, dict[str, nn.Parameter]] | None = None  # as it is without
        for index, layer in enumerate(model_layers):
            layer.register_forward_pre_hook(partial(self._begin_call, index))
            if isinstance(layer.mlp, ExpertsMLP):
                layer.mlp.register_forward_pre_hook(partial(self._predict_experts, index))
                for name in ("gate_up", "down"):
                    _put(layer, f"mlp.{name}", CachedExperts(self, index, f"mlp.{name}"))

    def __iter__(self) -> Iterator[nn.Module]:
        return self.each(1)

    def each(self, num_calls: int, first: int = 0) -> Iterator[Layer]:
        """The layers from `first` on, each to be called so many times."""
        self._leave_layer()
        self._pool.release_all()
        self._pass += 1
        this_pass = self._pass
        for index, layer in islice(enumerate(self._modules.values()), first, None):
            assert isinstance(layer, Layer)
            schedule = self._pool.schedule
            predicted = {index: schedule.predicted[index]} if index in schedule.predicted else {}
            schedule = replace(schedule, layer=index, num_calls=num_calls, predicted=predicted)
            self._pool.follow(schedule)
            try:
                yield self._enter_layer(index, layer)
            finally:
                if self._pass == this_pass:  # else a later pass has left it already
                    self._leave_layer()

    def _enter_layer(self, index: int, layer: Layer) -> Layer:
        part = self._pool.take(GroupKey(index))
        self._layer = (index, layer, dict(layer.named_parameters()))
        for name, weight in part.weights.items():
            _put(layer, name, weight)
        return layer

    def _leave_layer(self) -> None:
        self._leave_expert()
        if self._layer is not None:
            index, layer, empty = self._layer
            for name, parameter in empty.items():
                _put(layer, name, parameter)
            self._layer = None
            self._pool.release(GroupKey(index))

    def _begin_call(self, index: int, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self._leave_expert()
        schedule, num_rows = self._pool.schedule, arguments[0].shape[:-1].numel()
        all_experts = num_rows * self._num_chosen >= schedule.num_experts
        expected: Sequence[int] = schedule.predicted.get(index, ())
        if all_experts and index in self._routers:
            expected = range(schedule.num_experts)
        num_calls = max(schedule.num_calls - 1, 0)
        self._pool.follow(
            replace(schedule, num_calls=num_calls, all_experts=all_experts, pending=tuple(expected))
        )

    def _predict_experts(self, index: int, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        schedule, following = self._pool.schedule, index + 1
        if schedule.all_experts or following not in self._routers:
            return
        likely = self._routers[following].predict_experts(arguments[0].flatten(0, -2))
        self._pool.follow(replace(schedule, predicted={**schedule.predicted, following: likely}))

    def hint(self, experts: Sequence[int]) -> None:
        self._pool.follow(replace(self._pool.schedule, pending=tuple(experts)))

    def expert(self, key: GroupKey) -> WeightGroup:
        """The expert of the current layer, which stays until another one is asked for."""
        if self._expert != key:
            self._leave_expert()
            schedule = self._pool.schedule
            pending = tuple(expert for expert in schedule.pending if expert != key.expert)
            part = self._pool.take(key)
            self._expert = key
            self._pool.follow(replace(schedule, pending=pending))
            return part
        return self._pool.held(key)

    def _leave_expert(self) -> None:
        if self._expert is not None:
            expert, self._expert = self._expert, None
            self._pool.release(expert)


class StreamedModel(Model):
    """What `stream` makes. Hidden states of `spill_over_bytes` or more go to files in `folder`."""

    pool: WeightCache
    least_bytes = kept_bytes = 0  # of the pool, whatever is reserved
    folder: Path | None = None
    spill_over_bytes = 0

    @property
    def is_streamed(self) -> bool:
        return True

    def each_layer(self, num_calls: int, first: int = 0) -> Iterator[nn.Module]:
        assert isinstance(self.layers, StreamedLayers)
        return self.layers.each(num_calls, first)

    def reserve(self, num_bytes: int, *, at_any_cost: bool = False) -> bool:
        return self.pool.reserve(num_bytes, self.least_bytes if at_any_cost else self.kept_bytes)

    def activations(self, num_tokens: int) -> Activations:
        width = self.config.hidden_size
        num_bytes = num_tokens * width * self.dtype.itemsize
        if self.folder is None or num_bytes < self.spill_over_bytes:
            return Activations(num_tokens, width, self.dtype)
        durable.private_folder(self.folder)
        return Activations.spilled(num_tokens, width, self.dtype, self.folder)

    @property
    def io_stats(self) -> IoStats:
        """What was read from disk so far, and how often it was there already."""
        return self.pool.done


def parts_of(
    checkpoint: Checkpoint, config: ModelConfig, *, device: torch.device, dtype: torch.dtype
) -> WeightGroups:
    """Raises as `weights.meta_model` does."""
    model = meta_model(checkpoint, config)
    return WeightGroups(checkpoint, config, _layers(model), device=device, dtype=dtype)


def stream(
    checkpoint: Checkpoint,
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    pool_bytes: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> StreamedModel:
    """The model with `pool_bytes` of its layers' weights in memory at a time; for inference only.

    `Model.prepare_for_inference` is still to be called, for the head. `on_progress` gets bytes done
    and in all, of what is read now. Raises CheckpointError before allocating if a shape or dtype is
    not the config's, and PlacementError if `pool_bytes` is too little for any layer.
    """
    trim_malloc(is_scarce=True)
    parts = parts_of(checkpoint, config, device=device, dtype=dtype)
    with torch.device("meta"):
        model = StreamedModel(config)
    layers = _layers(model)
    least_bytes = parts.sizes.least_cache_bytes(config.num_experts_per_token)
    if pool_bytes < least_bytes:
        raise PlacementError(
            f"{pool_bytes / 2**20:,.1f} MiB are left for weights that are read on demand, but a "
            "layer's dense part and the experts of one token take "
            f"{least_bytes / 2**20:,.1f} MiB; read less, or free memory"
        )
    del model.layers
    parameters = dict(model.named_parameters())
    total, done = sum(parameter.nbytes for parameter in parameters.values()), 0
    for name, parameter in parameters.items():
        _put(model, name, parts.shared(name))
        done += parameter.nbytes
        if on_progress is not None:
            on_progress(done, total)
    if config.tied_embeddings:
        model.head.weight = model.embed.weight
    routers = {
        index: Router.of(parts, index, layer)
        for index, layer in enumerate(layers)
        if isinstance(layer.mlp, ExpertsMLP)
    }
    dense_layers = frozenset(range(config.num_layers)) - routers.keys()
    schedule = PrefetchPlan(config.num_layers, config.num_experts, dense_layers=dense_layers)
    model.pool = WeightCache(parts, schedule, pool_bytes)
    # Work that shares a pass saves more reading than the room it takes, but not if a pass then has
    # to read a part more than once.
    model.least_bytes = least_bytes
    model.kept_bytes = max(min(parts.sizes.enough_cache_bytes, pool_bytes * 7 // 8), least_bytes)
    model.layers = StreamedLayers(layers, model.pool, routers)
    return model.eval()


def _layers(model: Model) -> list[Layer]:
    return [layer for layer in model.layers if isinstance(layer, Layer)]


def _put(module: nn.Module, path: str, weight: object) -> None:
    """`weight` where a parameter was: as one if it is a plain tensor, else as it is."""
    owner, _, leaf = path.rpartition(".")
    holder = module.get_submodule(owner)
    with suppress(AttributeError):
        delattr(holder, leaf)
    if isinstance(weight, Tensor) and not isinstance(weight, nn.Parameter):
        weight = nn.Parameter(weight, requires_grad=False)
    setattr(holder, leaf, weight)
