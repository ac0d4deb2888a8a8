"""Bytes before work: what a run will hold in memory, and a refusal with the sum if it cannot."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.checkpoint import stays_float32
from engine.config import Mixer, ModelConfig
from engine.errors import PlacementError
from engine.layers.kv import BLOCK_TOKENS
from engine.model import Model


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


def plan(config: ModelConfig, num_tokens: int, chunk_tokens: int, dtype: torch.dtype) -> Placement:
    """The bytes a context of `num_tokens` takes, weights included. Allocates nothing."""
    with torch.device("meta"):
        model = Model(config)
    weights = sum(
        parameter.numel() * (4 if stays_float32(name) else dtype.itemsize)
        for name, parameter in model.named_parameters()
    )
    if config.tied_embeddings:  # the head is a float32 matrix of its own
        weights += 4 * config.vocab_size * config.hidden_size
    blocks = -(-num_tokens // BLOCK_TOKENS)
    kv_per_token = 2 * config.num_kv_heads * config.head_dim * dtype.itemsize
    state = 4 * config.num_heads * config.head_dim**2
    chosen = max(config.num_experts_per_token, 1)
    # Alive at once: hidden, its norm and the skip; then qkv with its copies, or the MLP's inside.
    widest = max(6 * config.attention_size, 4 * config.mlp_size * chosen)
    rows = min(chunk_tokens, num_tokens)
    return Placement(
        weights_bytes=weights,
        kv_bytes=config.num_growing_layers * blocks * BLOCK_TOKENS * kv_per_token,
        # Twice: an update makes the new state before it drops the old one.
        state_bytes=2 * (config.count(Mixer.LIGHTNING) * state + _window_bytes(config, dtype)),
        activation_bytes=4 * (rows * (4 * config.hidden_size + widest) + 2 * config.vocab_size),
    )


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
    available = _meminfo_available()
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    with suppress(OSError, ValueError):  # absent or "max": no limit is set
        available = min(available, int(limit.read_text()) - int(used.read_text()))
    return available


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


def _meminfo_available() -> int:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 2**63 - 1  # not Linux: the system will tell
