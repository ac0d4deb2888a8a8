"""The keys and values softmax layers keep: all of them in blocks, or those of a window."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from engine.config import ModelConfig, SoftmaxOptions
from kernels import Int8Tensor
from kernels.attention import Rows

BLOCK_TOKENS = 4096
_FIRST_TOKENS = 256  # what a block has room for at first


class KVCache:
    """Keys (after rotation) and values of one layer, append-only, in blocks of 4,096 tokens.

    Of dtype torch.int8 it keeps `Int8Tensor`. Forks share the blocks that are full; only the last,
    unfinished one is copied, which has room for no more tokens than `capacity` says. Queries at
    positions from `global_attention_from` on see everything, also in layers with a window.
    `selected` are keys, not rotated, and values that were selected for such queries.
    `attention_received` [n] float32, once it is set, sums up the attention that queries which see
    everything give to the first n tokens.
    """

    implementation: ClassVar[str | None] = None  # of the attention over it; None: what is fastest
    names: ClassVar[tuple[str, ...]] = ("keys", "values")  # what a block holds

    def __init__(
        self, num_kv_heads: int, head_dim: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._shape = (BLOCK_TOKENS, num_kv_heads, head_dim)
        self._dtype, self._device = dtype, device
        self._blocks: list[tuple[Rows, ...]] = []
        self.num_tokens = 0
        self.global_attention_from: int | None = None
        self.selected: list[tuple[Rows, Rows]] = []
        self.attention_received: Tensor | None = None
        self.queries: list[Tensor] | None = None

    @classmethod
    def empty(
        cls, config: ModelConfig, dtype: torch.dtype, device: torch.device, num_sequences: int = 1
    ) -> Self:
        return cls(num_sequences * config.num_kv_heads, config.head_dim, dtype, device)

    def append(self, keys: Tensor, values: Tensor) -> None:
        """keys, values: [T, G, D]; each is rounded to int8 if that is what the cache keeps."""
        self._append(self._kept(keys), self._kept(values))

    def _kept(self, rows: Tensor) -> Rows:
        return Int8Tensor.quantize(rows) if self._dtype == torch.int8 else rows

    def fits(self, num_tokens: int) -> bool:
        """Whether so many more tokens lie in one block."""
        return self.num_tokens % BLOCK_TOKENS + num_tokens <= BLOCK_TOKENS

    def extended(self, num_tokens: int) -> tuple[list[tuple[Rows, Rows]], tuple[Rows, Rows], int]:
        """Room for so many more tokens that it `fits`, which are to be put there now.

        The full blocks before, that one, and how many of its rows were in use.
        """
        used = self.num_tokens % BLOCK_TOKENS
        self._make_room(used, used + num_tokens)
        self.num_tokens += num_tokens
        *before, last = [self._segment(block) for block in self._blocks]
        return before, last, used

    def _append(self, *parts: Rows) -> None:
        start, num_rows = 0, parts[0].shape[0]
        while start < num_rows:
            used = self.num_tokens % BLOCK_TOKENS
            count = min(BLOCK_TOKENS - used, num_rows - start)
            self._make_room(used, used + count)
            for block, rows in zip(self._blocks[-1], parts, strict=True):
                _copy(block[used : used + count], rows[start : start + count])
            self.num_tokens += count
            start += count

    def _make_room(self, used: int, needed: int) -> None:
        """For the last block, which holds `used` tokens (0: for a new one), to hold `needed`."""
        if used == 0:
            self._blocks.append(self._new_block(capacity(needed)))
        elif needed > self._blocks[-1][0].shape[0]:
            before, after = self._blocks[-1], self._new_block(capacity(needed))
            for new, old in zip(after, before, strict=True):
                _copy(new[:used], old[:used])
            self._blocks[-1] = after

    def cut(self, num_tokens: int) -> None:
        """Forgets the last `num_tokens`, which must have been appended since the last fork, and
        blocks beyond, which another one that shares them may have begun."""
        self.num_tokens -= num_tokens
        del self._blocks[-(-self.num_tokens // BLOCK_TOKENS) :]

    def segments(self, num_tokens: int | None = None) -> list[tuple[Rows, Rows]]:
        """The first `num_tokens` keys and values (all, if None) in order, as views [n, G, D].

        Safe until the next append.
        """
        count = self.num_tokens if num_tokens is None else num_tokens
        full, rest = divmod(count, BLOCK_TOKENS)
        segments = [self._segment(block) for block in self._blocks[:full]]
        if rest:
            keys, values = self._segment(self._blocks[full])
            segments.append((keys[:rest], values[:rest]))
        return segments

    def _segment(self, block: tuple[Rows, ...]) -> tuple[Rows, Rows]:
        """Keys and values of a block."""
        keys, values = block
        return keys, values

    def block(self, index: int) -> dict[str, Tensor]:
        """The block's n <= 4,096 tokens, head-major: keys and values [G, n, D], in int8 with scales
        [G, n]; to be read, not changed."""
        count = min(self.num_tokens - index * BLOCK_TOKENS, BLOCK_TOKENS)
        found: dict[str, Tensor] = {}
        for name, rows in zip(self.names, self._blocks[index], strict=True):
            if isinstance(rows, Int8Tensor):
                found[f"{name}.scales"] = rows.scales[:count].transpose(0, 1)
                rows = rows.values
            found[name] = rows[:count].transpose(0, 1)
        return found

    def block_shapes(self, num_tokens: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """What `block` gives for a block of so many tokens."""
        _, num_kv_heads, head_dim = self._shape
        shapes = dict.fromkeys(self.names, ((num_kv_heads, num_tokens, head_dim), self._dtype))
        if self._dtype == torch.int8:
            scales = ((num_kv_heads, num_tokens), torch.float32)
            return {**shapes, **{f"{name}.scales": scales for name in self.names}}
        return {**shapes}

    def adopt(self, index: int, block: Mapping[str, Tensor], num_tokens: int) -> None:
        """Puts the first `num_tokens` of `block` at `index`: a block there is, or one more.

        A full block is used where it is and never written to; another one is copied, and must be
        the last.
        """
        token_major = {n: t.to(self._device).transpose(0, 1) for n, t in block.items()}
        parts: tuple[Rows, ...] = tuple(
            Int8Tensor(token_major[name], token_major[f"{name}.scales"])
            if self._dtype == torch.int8
            else token_major[name]
            for name in self.names
        )
        if num_tokens == BLOCK_TOKENS == parts[0].shape[0]:
            self._blocks[index : index + 1] = [parts]
            self.num_tokens = max(self.num_tokens, (index + 1) * BLOCK_TOKENS)
        else:
            del self._blocks[index:]
            self.num_tokens = index * BLOCK_TOKENS
            self._append(*(rows[:num_tokens] for rows in parts))

    def room(self, num_blocks: int) -> tuple[list[tuple[Rows, Rows]], Tensor, Tensor | None]:
        """New blocks one behind the other, the first of them with the rows of an unfinished block.

        Returns them as blocks, as one tensor [num_blocks, 4096, 2, G, D] (keys, values), and the
        scales [num_blocks, 4096, 2, G] if it keeps int8: the same memory three times.
        """
        tokens, num_kv_heads, head_dim = self._shape
        shape = (num_blocks, 2, num_kv_heads, tokens)
        pairs = torch.empty((*shape, head_dim), dtype=self._dtype, device=self._device)
        pairs = pairs.permute(0, 3, 1, 2, 4)
        blocks: list[tuple[Rows, Rows]] = [(pair[:, 0], pair[:, 1]) for pair in pairs]
        scales = None
        if self._dtype == torch.int8:
            scales = torch.empty(shape, device=self._device).permute(0, 3, 1, 2)
            blocks = [
                (Int8Tensor(pair[:, 0], scale[:, 0]), Int8Tensor(pair[:, 1], scale[:, 1]))
                for pair, scale in zip(pairs, scales, strict=True)
            ]
        full, rest = divmod(self.num_tokens, BLOCK_TOKENS)
        if rest:
            for block, rows in zip(blocks[0], self._blocks[full], strict=True):
                _copy(block[:rest], rows[:rest])
        return blocks, pairs, scales

    def grow(self, blocks: Sequence[tuple[Rows, Rows]], num_tokens: int) -> None:
        """Takes over `blocks` that `room` gave and that were filled up to `num_tokens` in all."""
        full = self.num_tokens // BLOCK_TOKENS
        needed = -(-num_tokens // BLOCK_TOKENS) - full
        self._blocks[full:] = blocks[:needed]
        self.num_tokens = num_tokens

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def fork(self) -> "KVCache":
        twin = self._empty_twin()
        full, rest = divmod(self.num_tokens, BLOCK_TOKENS)
        twin._blocks = self._blocks[:full]
        twin.num_tokens = full * BLOCK_TOKENS
        if rest:
            twin._append(*(rows[:rest] for rows in self._blocks[full]))
        twin.global_attention_from = self.global_attention_from
        twin.selected = self.selected
        return twin

    def _empty_twin(self) -> "KVCache":
        _, num_kv_heads, head_dim = self._shape
        return type(self)(num_kv_heads, head_dim, self._dtype, self._device)

    @property
    def num_bytes(self) -> int:
        return sum(rows.nbytes for block in self._blocks for rows in block)

    def _new_block(self, tokens: int) -> tuple[Rows, ...]:
        _, num_kv_heads, head_dim = self._shape
        # Head-major in memory, token-major to look at: a decode step streams each head's rows.
        shape = (len(self.names), num_kv_heads, tokens)
        parts = torch.empty((*shape, head_dim), dtype=self._dtype, device=self._device).transpose(
            1, 2
        )
        # Views of their own: what `unbind` gives cannot be written to where gradients are kept.
        numbers = range(len(self.names))
        if self._dtype != torch.int8:
            return tuple(parts[number] for number in numbers)
        scales = torch.empty(shape, device=self._device).transpose(1, 2)
        return tuple(Int8Tensor(parts[number], scales[number]) for number in numbers)


def capacity(num_tokens: int) -> int:
    """The tokens that there is room for where so many are kept: whole blocks, and for the last one
    256, 512, 1,024, 2,048 or 4,096, so that a short context or a fork takes little more than it
    holds."""
    full, rest = divmod(num_tokens, BLOCK_TOKENS)
    room = min(_FIRST_TOKENS, BLOCK_TOKENS)
    while room < rest:
        room *= 2
    return full * BLOCK_TOKENS + min(room, BLOCK_TOKENS) * (rest > 0)


def _copy(target: Rows, source: Rows) -> None:
    if isinstance(target, Int8Tensor) and isinstance(source, Int8Tensor):
        target.values.copy_(source.values)
        target.scales.copy_(source.scales)
    elif isinstance(target, Tensor) and isinstance(source, Tensor):
        target.copy_(source)


class LatentCache(KVCache):
    """What latent attention keeps of a token: [latent | rotated key], one row for all heads, that
    is key and value at once; see engine/layers/latent.py."""

    names = ("latents",)

    def append_rows(self, rows: Tensor) -> None:
        """rows: [T, B, W], a row for each of B sequences."""
        self._append(self._kept(rows))

    def _segment(self, block: tuple[Rows, ...]) -> tuple[Rows, Rows]:
        (rows,) = block
        return rows, rows


class DifferentiableKV(KVCache):
    """Keys and values as the layer made them, never copied, so that gradients pass through them.

    For training: one tensor per append instead of blocks. In layers with a window for document
    tokens those that `global_mask` [T] or [T, B] (a sequence in each column) marks see everything;
    T counts from the first token on.
    """

    implementation = "sdpa"
    global_mask: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> None:
        self._blocks.append((keys, values))
        self.num_tokens += keys.shape[0]

    def segments(self, num_tokens: int | None = None) -> list[tuple[Rows, Rows]]:
        left = self.num_tokens if num_tokens is None else num_tokens
        segments = []
        for keys, values in map(self._segment, self._blocks):
            segments.append((keys[:left], values[:left]))
            left -= segments[-1][0].shape[0]
        return [(keys, values) for keys, values in segments if keys.shape[0]]

    def fork(self) -> "DifferentiableKV":
        _, num_kv_heads, head_dim = self._shape
        twin = DifferentiableKV(num_kv_heads, head_dim, self._dtype, self._device)
        twin._blocks, twin.num_tokens = list(self._blocks), self.num_tokens
        twin.global_attention_from = self.global_attention_from
        return twin


class WindowCache:
    """Keys and values of a layer that never looks further back than its window: constant size.

    The first `sink_tokens` and the last `window_tokens` - 1 tokens; others are forgotten. Updates
    replace tensors and never write into them, so forks share them, and gradients pass through.
    """

    def __init__(self, window_tokens: int, sink_tokens: int, empty: Tensor) -> None:
        self._num_recent, self._num_sinks = window_tokens - 1, sink_tokens
        self._keys = self._values = empty  # [n, G, D]
        self._seen: list[tuple[Rows, Rows]] = []
        self.num_tokens = 0
        self.implementation: str | None = None

    @classmethod
    def empty(
        cls,
        config: ModelConfig,
        options: SoftmaxOptions,
        dtype: torch.dtype,
        device: torch.device,
        num_sequences: int = 1,
    ) -> Self:
        shape = (0, num_sequences * config.num_kv_heads, config.head_dim)
        empty = torch.empty(shape, dtype=dtype, device=device)
        return cls(options.window_tokens, options.sink_tokens, empty)

    def append(self, keys: Tensor, values: Tensor) -> None:
        """keys, values: [T, G, D]."""
        before = [(self._keys, self._values)] if len(self._keys) else []
        self._seen = [*before, (keys, values)]
        self._keys = self._kept(torch.cat([self._keys, keys]))
        self._values = self._kept(torch.cat([self._values, values]))
        self.num_tokens += keys.shape[0]

    def cut(self, num_tokens: int) -> None:
        """Forgets the last `num_tokens` of the last append."""
        if not num_tokens:
            return
        *before, (keys, values) = self._seen
        count = keys.shape[0] - num_tokens
        assert isinstance(keys, Tensor) and isinstance(values, Tensor)
        self.num_tokens -= keys.shape[0]
        kept_keys, kept_values = before[0] if before else (keys[:0], values[:0])
        assert isinstance(kept_keys, Tensor) and isinstance(kept_values, Tensor)
        self._keys, self._values = kept_keys, kept_values
        self.append(keys[:count], values[:count])

    def segments(self) -> list[tuple[Rows, Rows]]:
        """What the tokens of the last append may see, themselves included, as [n, G, D].

        Between sinks and window tokens are missing, which the window hides anyway.
        """
        return self._seen

    def fork(self) -> "WindowCache":
        twin = WindowCache(self._num_recent + 1, self._num_sinks, self._keys)
        twin._values, twin.num_tokens = self._values, self.num_tokens
        return twin

    def tensors(self) -> dict[str, Tensor]:
        """All it is, of constant shape: what `restore` takes."""
        missing = self._num_sinks + self._num_recent - len(self._keys)
        padding = self._keys.new_zeros((missing, *self._keys.shape[1:]))
        return {
            "keys": torch.cat([self._keys, padding]),
            "values": torch.cat([self._values, padding]),
        }

    def restore(self, tensors: Mapping[str, Tensor], num_tokens: int) -> None:
        """As `tensors` gave it after `num_tokens` tokens."""
        count = min(num_tokens, self._num_sinks + self._num_recent)
        device = self._keys.device
        self._keys = tensors["keys"][:count].to(device)
        self._values = tensors["values"][:count].to(device)
        self.num_tokens, self._seen = num_tokens, []

    @property
    def num_bytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def _kept(self, rows: Tensor) -> Tensor:
        if len(rows) <= self._num_sinks + self._num_recent:
            return rows
        recent = rows[len(rows) - self._num_recent :]
        return torch.cat([rows[: self._num_sinks], recent])
