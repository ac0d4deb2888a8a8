"""The tensors of all layers by name, and how many bytes they are."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from engine.layers.kv_cache import KVCache
from engine.model import LayerState, Model
from engine.store.manifest import INT8_KV, SEGMENT_TOKENS

STATE_EVERY_TOKENS = 16_384


def kv_dtype(kv: str) -> torch.dtype | None:
    """What `Model.empty_states` takes for `Compatibility.kv`; None is the model's own dtype."""
    return torch.int8 if kv == INT8_KV else None


def num_bytes(model: Model, num_tokens: int, kv: str) -> int:
    """What a context of so many tokens takes on disk, states included, to a few per cent."""
    states = model.empty_states(kv_dtype=kv_dtype(kv))
    fixed, per_token = (
        sum(t.nbytes for t in fixed_tensors(states).values()),
        kv_bytes_per_token(states),
    )
    num_states = num_tokens // checkpoint_every(states) + (num_tokens > 0)
    return num_tokens * (per_token + 4) + num_states * fixed


def checkpoint_every(states: Sequence[LayerState]) -> int:
    """Tokens from one state on disk to the next: more, where a state is larger than their KV."""
    fixed = sum(tensor.nbytes for tensor in fixed_tensors(states).values())
    is_small = fixed <= kv_bytes_per_token(states) * SEGMENT_TOKENS
    return SEGMENT_TOKENS if is_small else STATE_EVERY_TOKENS


def kv_bytes_per_token(states: Sequence[LayerState]) -> int:
    of_segment = sum(
        torch.Size(shape).numel() * dtype.itemsize
        for state in states
        if isinstance(state, KVCache)
        for shape, dtype in state.block_shapes(SEGMENT_TOKENS).values()
    )
    return -(-of_segment // SEGMENT_TOKENS)


def fixed_tensors(states: Sequence[LayerState]) -> dict[str, Tensor]:
    """The tensors of constant size, by name."""
    return {
        f"layer.{layer}.{name}": tensor
        for layer, state in enumerate(states)
        if not isinstance(state, KVCache)
        for name, tensor in state.tensors().items()
    }


def of_layer(named: Mapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    prefix = f"layer.{layer}."
    return {n.removeprefix(prefix): t for n, t in named.items() if n.startswith(prefix)}
