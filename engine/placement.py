"""Bytes before work: what a run will hold in memory, and a refusal with the sum if it cannot."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.checkpoint import weight_bytes
from engine.config import Mixer, ModelConfig
from engine.errors import PlacementError
from engine.layers.kv import BLOCK_TOKENS
from engine.model import Model
from kernels.attention.tiled import INT8_TILE, MOST_PARTS


@dataclass(frozen=True, slots=True)
class Placement:
    """Bytes of one run on one device."""

    weights_bytes: int
    kv_bytes: int
    state_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.state_bytes + self.activation_bytes

    def __str__(self) -> str:
        parts = (
            ("weights", self.weights_bytes),
            ("KV", self.kv_bytes),
            ("states", self.state_bytes),
            ("activations", self.activation_bytes),
        )
        total = f"{self.total_bytes / 2**30:.1f} GiB"
        return f"{total} = " + " + ".join(f"{name} {n / 2**30:.1f}" for name, n in parts)


def plan(
    config: ModelConfig,
    num_tokens: int,
    chunk_tokens: int,
    dtype: torch.dtype,
    *,
    kv_dtype: torch.dtype | None = None,
    is_mapped: bool = False,
) -> Placement:
    """The bytes a context of `num_tokens` takes, weights included. Allocates nothing.

    `kv_dtype` is what keys and values are kept in, `dtype` by default. Of a context that
    `is_mapped` (saved while it grows) they are pages of a file, and only the blocks that are not
    saved yet are counted.
    """
    with torch.device("meta"):
        model = Model(config)
    weights = sum(
        weight_bytes(config, name, parameter, dtype) for name, parameter in model.named_parameters()
    )
    if config.tied_embeddings:  # the head is a float32 matrix of its own
        weights += 4 * config.vocab_size * config.hidden_size
    blocks = -(-num_tokens // BLOCK_TOKENS)
    resident_blocks = blocks
    if is_mapped:
        # What one chunk fills, the block on its way to disk, and a fork's copy of the last one.
        resident_blocks = min(blocks, -(-chunk_tokens // BLOCK_TOKENS) + 2)
    kv_per_token = 2 * config.num_kv_heads * _row_bytes(config.head_dim, kv_dtype or dtype)
    state = 4 * config.num_heads * config.head_dim**2
    chosen = max(config.num_experts_per_token, 1)
    # Alive at once: hidden, its norm and the skip; then qkv with its copies, or the MLP's inside.
    # Attention over many blocks also holds their outputs until they are joined.
    parts = min(blocks, MOST_PARTS)
    widest = max((6 + parts) * config.attention_size, 4 * config.mlp_size * chosen)
    rows = min(chunk_tokens, num_tokens)
    dense_tile = 0
    if kv_dtype == torch.int8:  # keys and values, as products and as what these are rounded to
        tile_tokens = min(INT8_TILE, blocks * BLOCK_TOKENS)
        dense_tile = 4 * tile_tokens * config.num_kv_heads * config.head_dim
    return Placement(
        weights_bytes=weights,
        kv_bytes=config.num_growing_layers * resident_blocks * BLOCK_TOKENS * kv_per_token,
        # Twice: an update makes the new state before it drops the old one.
        state_bytes=2 * (config.count(Mixer.LIGHTNING) * state + _window_bytes(config, dtype)),
        activation_bytes=4
        * (rows * (4 * config.hidden_size + widest) + 2 * config.vocab_size + dense_tile),
    )


def _row_bytes(head_dim: int, dtype: torch.dtype) -> int:
    scale_bytes = 4 if dtype == torch.int8 else 0
    return head_dim * dtype.itemsize + scale_bytes


def _window_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    kept = sum(
        layer.softmax.window_tokens - 1 + layer.softmax.sink_tokens
        for layer in config.layers
        if layer.softmax.window_always
    )
    return kept * 2 * config.num_kv_heads * config.head_dim * dtype.itemsize


def available_bytes(device: torch.device) -> int:
    """Memory that can still be taken without swapping, as the system tells it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = _field(Path("/proc/meminfo"), "MemAvailable:", 1024)
    if available is None:
        return 2**63 - 1  # not Linux: the system will tell
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    with suppress(OSError, ValueError):  # absent or "max": no limit is set
        files = _field(limit.with_name("memory.stat"), "inactive_file") or 0
        available = min(available, int(limit.read_text()) - int(used.read_text()) + files)
    return min(available, _data_limit_bytes())


def _data_limit_bytes() -> int:
    """What `ulimit -d` leaves this process; pages mapped from files for reading are not in it."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    taken = _field(Path("/proc/self/status"), "VmData:", 1024)
    if limit == resource.RLIM_INFINITY or taken is None:
        return 2**63 - 1
    return limit - taken


def check(placement: Placement, device: torch.device, held_bytes: int = 0) -> None:
    """Raises PlacementError with the sum if `placement` does not fit beside what is in use.

    `held_bytes` of the placement are already taken (weights that are loaded).
    """
    available = available_bytes(device)
    if placement.total_bytes - held_bytes > available:
        raise PlacementError(
            f"needs {placement}, but {(available + held_bytes) / 2**30:.1f} GiB of memory are "
            f"free on {device}; read less, or use a smaller model"
        )


def _field(path: Path, name: str, unit_bytes: int = 1) -> int | None:
    """The number after `name` in a file of the system, in bytes; None if it is not there."""
    with suppress(OSError):
        for line in path.read_text(encoding="ascii").splitlines():
            if line.split()[:1] == [name]:
                return int(line.split()[1]) * unit_bytes
    return None
