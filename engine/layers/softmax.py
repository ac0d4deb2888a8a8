"""A softmax attention layer with grouped heads, and the keys and values it keeps."""

import math
from typing import Self

import torch
from torch import Tensor, nn

import kernels
from engine.config import ModelConfig, SoftmaxOptions
from engine.layers.rotary import rotate, rotation
from kernels import Int8Rows
from kernels.attention import Rows

BLOCK_TOKENS = 4096


class KVCache:
    """Keys (after rotation) and values of one layer, append-only, in blocks of 4,096 tokens.

    Of dtype torch.int8 it keeps `Int8Rows`. Forks share the blocks that are full; only the last,
    unfinished one is copied. Queries at positions from `global_from` on see everything, also in
    layers with a window.
    """

    def __init__(
        self, num_kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._shape = (BLOCK_TOKENS, num_kv_heads, head_dim)
        self._dtype, self._device = dtype, device
        self._blocks: list[tuple[Rows, Rows]] = []
        self.num_tokens = 0
        self.global_from: int | None = None

    @classmethod
    def empty(cls, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> Self:
        return cls(config.num_kv_heads, config.head_dim, dtype, device)

    def append(self, keys: Tensor, values: Tensor) -> None:
        """keys, values: [T, G, D]; each is rounded to int8 if that is what the cache keeps."""
        if self._dtype == torch.int8:
            self._append(Int8Rows.quantize(keys), Int8Rows.quantize(values))
        else:
            self._append(keys, values)

    def _append(self, keys: Rows, values: Rows) -> None:
        start = 0
        while start < keys.shape[0]:
            used = self.num_tokens % BLOCK_TOKENS
            if used == 0:
                self._blocks.append(self._new_block())
            count = min(BLOCK_TOKENS - used, keys.shape[0] - start)
            for block, rows in zip(self._blocks[-1], (keys, values), strict=True):
                _copy(block[used : used + count], rows[start : start + count])
            self.num_tokens += count
            start += count

    def segments(self, num_tokens: int | None = None) -> list[tuple[Rows, Rows]]:
        """The first `num_tokens` keys and values (all, if None) in order, as views [n, G, D].

        Safe until the next append.
        """
        count = self.num_tokens if num_tokens is None else num_tokens
        full, rest = divmod(count, BLOCK_TOKENS)
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
            twin._append(keys, values)
        twin.global_from = self.global_from
        return twin

    @property
    def num_bytes(self) -> int:
        return sum(keys.nbytes + values.nbytes for keys, values in self._blocks)

    def _new_block(self) -> tuple[Rows, Rows]:
        tokens, num_kv_heads, head_dim = self._shape
        # Head-major in memory, token-major to look at: a decode step streams each head's rows.
        pair = torch.empty(
            (2, num_kv_heads, tokens, head_dim), dtype=self._dtype, device=self._device
        ).transpose(1, 2)
        if self._dtype != torch.int8:
            return pair[0], pair[1]
        scales = torch.empty((2, num_kv_heads, tokens), device=self._device).transpose(1, 2)
        return Int8Rows(pair[0], scales[0]), Int8Rows(pair[1], scales[1])


def _copy(target: Rows, source: Rows) -> None:
    if isinstance(target, Int8Rows) and isinstance(source, Int8Rows):
        target.values.copy_(source.values)
        target.scales.copy_(source.scales)
    elif isinstance(target, Tensor) and isinstance(source, Tensor):
        target.copy_(source)


class KVTrace(KVCache):
    """Keys and values as the layer made them, never copied, so that gradients pass through them.

    For training: one tensor per append instead of blocks.
    """

    def append(self, keys: Tensor, values: Tensor) -> None:
        self._blocks.append((keys, values))
        self.num_tokens += keys.shape[0]

    def segments(self, num_tokens: int | None = None) -> list[tuple[Rows, Rows]]:
        left = self.num_tokens if num_tokens is None else num_tokens
        segments = []
        for keys, values in self._blocks:
            segments.append((keys[:left], values[:left]))
            left -= segments[-1][0].shape[0]
        return [(keys, values) for keys, values in segments if keys.shape[0]]

    def fork(self) -> "KVTrace":
        _, num_kv_heads, head_dim = self._shape
        twin = KVTrace(num_kv_heads, head_dim, self._dtype, self._device)
        twin._blocks, twin.num_tokens = list(self._blocks), self.num_tokens
        twin.global_from = self.global_from
        return twin


class SoftmaxAttention(nn.Module):
    """See `SoftmaxOptions` for what varies."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.options: SoftmaxOptions = config.layers[layer].softmax
        self.heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        own = self.options.rotary_frequencies
        self.rotary_frequencies = config.rotary_frequencies if own is None else own
        self.scale = config.head_dim**-0.5
        self.qkv = nn.Parameter(torch.empty(sum(self.heads) * config.head_dim, config.hidden_size))
        self.out = nn.Parameter(torch.empty(config.hidden_size, config.attention_size))
        if self.options.output_gate:
            self.gate = nn.Parameter(torch.empty(config.attention_size, config.hidden_size))

    def forward(self, hidden: Tensor, state: KVCache, start: int) -> Tensor:
        num_tokens = hidden.shape[0]
        qkv = kernels.linear(hidden, self.qkv).view(num_tokens, sum(self.heads), -1)
        q, k, v = torch.split(qkv, list(self.heads), dim=1)
        turn = rotation(self.rotary_frequencies, start, num_tokens, hidden.device)
        state.append(rotate(k, *turn), v)
        q = self._grown(rotate(q, *turn), start)
        out = self._attend(q, state, start).reshape(num_tokens, -1)
        if self.options.output_gate:
            out = torch.sigmoid(kernels.linear(hidden, self.gate)) * out
        return kernels.linear(out, self.out)

    def _attend(self, q: Tensor, state: KVCache, start: int) -> Tensor:
        window, num_tokens = self.options.window_tokens, q.shape[0]
        if not window:
            return kernels.attention(q, state.segments(), self.scale)
        border = start + num_tokens if state.global_from is None else state.global_from
        local = min(max(border - start, 0), num_tokens)  # so many queries see the window only
        outs = []
        if local:
            seen = state.segments(start + local)
            sinks = self.options.sink_tokens
            outs.append(kernels.attention(q[:local], seen, self.scale, window=window, sinks=sinks))
        if local < num_tokens:
            outs.append(kernels.attention(q[local:], state.segments(), self.scale))
        return torch.cat(outs) if len(outs) > 1 else outs[0]

    def _grown(self, q: Tensor, start: int) -> Tensor:
        """q [T, H, D] times the logarithmic factor of its position, 1 at positions trained for."""
        base, trained = self.options.log_scale_base, self.options.log_scale_from_tokens
        if not base:
            return q
        end = start + q.shape[0]
        position = torch.arange(start, end, dtype=torch.float64, device=q.device)
        factor = ((position - trained).clamp(min=0) + base).log() / math.log(base)
        return (q.float() * factor.float()[:, None, None]).to(q.dtype)
