"""A softmax attention layer with grouped heads, and the keys and values it keeps."""

from typing import Self

import torch
from torch import Tensor, nn

import kernels
from engine.config import ModelConfig
from engine.layers.rotary import rotate, rotation

BLOCK_TOKENS = 4096


class KVCache:
    """Keys (after rotation) and values of one layer, append-only, in blocks of 4,096 tokens.

    Forks share the blocks that are full; only the last, unfinished one is copied.
    """

    def __init__(
        self, num_kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._shape = (BLOCK_TOKENS, num_kv_heads, head_dim)
        self._dtype, self._device = dtype, device
        self._blocks: list[tuple[Tensor, Tensor]] = []
        self.num_tokens = 0

    @classmethod
    def empty(cls, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Self:
        return cls(config.num_kv_heads, config.head_dim, dtype, device)

    def append(self, keys: Tensor, values: Tensor) -> None:
        """keys, values: [T, G, D]."""
        start = 0
        while start < keys.shape[0]:
            used = self.num_tokens % BLOCK_TOKENS
            if used == 0:
                self._blocks.append(self._new_block())
            count = min(BLOCK_TOKENS - used, keys.shape[0] - start)
            block_keys, block_values = self._blocks[-1]
            block_keys[used : used + count] = keys[start : start + count]
            block_values[used : used + count] = values[start : start + count]
            self.num_tokens += count
            start += count

    def segments(self) -> list[tuple[Tensor, Tensor]]:
        """All keys and values in order, as views [n, G, D]; safe until the next append."""
        full, rest = divmod(self.num_tokens, BLOCK_TOKENS)
        segments = self._blocks[:full]
        if rest:
            keys, values = self._blocks[full]
            segments.append((keys[:rest], values[:rest]))
        return segments

    def fork(self) -> "KVCache":
        _, num_kv_heads, head_dim = self._shape
        twin = KVCache(num_kv_heads, head_dim, self._dtype, self._device)
        full = self.num_tokens // BLOCK_TOKENS
        twin._blocks = self._blocks[:full]
        twin.num_tokens = full * BLOCK_TOKENS
        for keys, values in self.segments()[full:]:
            twin.append(keys, values)
        return twin

    @property
    def num_bytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self._blocks)

    def _new_block(self) -> tuple[Tensor, Tensor]:
        keys = torch.empty(self._shape, dtype=self._dtype, device=self._device)
        return keys, torch.empty_like(keys)


class SoftmaxAttention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        self.rotary_frequencies = config.rotary_frequencies
        self.scale = config.head_dim**-0.5
        self.qkv = nn.Parameter(torch.empty(sum(self.heads) * config.head_dim, config.hidden_size))
        self.out = nn.Parameter(torch.empty(config.hidden_size, config.attention_size))

    def forward(self, hidden: Tensor, state: KVCache, start: int) -> Tensor:
        num_tokens = hidden.shape[0]
        qkv = kernels.linear(hidden, self.qkv).view(num_tokens, sum(self.heads), -1)
        q, k, v = torch.split(qkv, list(self.heads), dim=1)
        turn = rotation(self.rotary_frequencies, start, num_tokens, hidden.device)
        state.append(rotate(k, *turn), v)
        out = kernels.attention(rotate(q, *turn), state.segments(), self.scale)
        return kernels.linear(out.reshape(num_tokens, -1), self.out)
