"""Keys and values of a layer whose queries choose blocks, with what the choice is made by."""

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.layers import kv_cache
from engine.layers.kv_cache import KVCache
from kernels.attention import between, dense


class SparseCache(KVCache):
    """Also keeps the sums of every `stride` keys, float32: a 1/32 of the bytes of bfloat16's KV.

    They follow from the keys as they are kept, whichever way those came, bit by bit.
    """

    def __init__(
        self,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        stride: int,
    ) -> None:
        super().__init__(num_kv_heads, head_dim, dtype, device)
        self._stride = stride
        self._full: list[Tensor] = []  # of full blocks, [G, n, D] each
        self._joined = torch.empty((num_kv_heads, 0, head_dim), device=device)  # `_full`, or less
        self._rest = self._joined  # of the block behind them

    def sums(self) -> list[Tensor]:
        """[G, n, D] pieces in order: of all full blocks, and of the block behind them."""
        self._update()
        per_block = kv_cache.BLOCK_TOKENS // self._stride
        if missing := self._full[self._joined.shape[1] // per_block :]:
            self._joined = torch.cat([self._joined, *missing], dim=1)
            # The same numbers need not be held twice.
            self._full = list(torch.split(self._joined, per_block, dim=1))
        return [self._joined, self._rest]

    def _update(self) -> None:
        full, rest = divmod(self.num_tokens, kv_cache.BLOCK_TOKENS)
        for index in range(len(self._full), full):
            self._full.append(
                self._between(index * kv_cache.BLOCK_TOKENS, (index + 1) * kv_cache.BLOCK_TOKENS)
            )
            self._rest = self._rest[:, :0]
        have, want = self._rest.shape[1], rest // self._stride
        if have < want:
            start = full * kv_cache.BLOCK_TOKENS
            more = self._between(start + have * self._stride, start + want * self._stride)
            self._rest = torch.cat([self._rest, more], dim=1)

    def _between(self, first: int, last: int) -> Tensor:
        """The sums [G, n, D] of the keys first .. last - 1, whole strides."""
        pieces = [dense(keys, torch.float32) for keys, _ in between(self.segments(), first, last)]
        keys = torch.cat([piece.float() for piece in pieces]).transpose(0, 1)  # [G, n stride, D]
        sums = keys.reshape(keys.shape[0], -1, self._stride, keys.shape[-1])
        # Halves onto halves: each number gets its sum in one order, whatever is beside it.
        while (half := sums.shape[2] // 2) > 0:
            sums = sums[:, :, :half] + sums[:, :, half:]
        return sums[:, :, 0]

    def cut(self, num_tokens: int) -> None:
        super().cut(num_tokens)
        full, rest = divmod(self.num_tokens, kv_cache.BLOCK_TOKENS)
        self._keep(full, rest // self._stride if len(self._full) == full else 0)

    def _keep(self, num_full: int, num_rest: int) -> None:
        """Forgets the sums of other blocks, and all but so many of the one behind them."""
        self._full = self._full[:num_full]
        self._joined = self._joined[:, : num_full * (kv_cache.BLOCK_TOKENS // self._stride)]
        self._rest = self._rest[:, :num_rest]

    def block(self, index: int) -> dict[str, Tensor]:
        self._update()
        sums = self._full[index] if index < len(self._full) else self._rest
        return {**super().block(index), "sums": sums}

    def block_shapes(self, num_tokens: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        _, num_kv_heads, head_dim = self._shape
        shape = (num_kv_heads, num_tokens // self._stride, head_dim)
        return {**super().block_shapes(num_tokens), "sums": (shape, torch.float32)}

    def adopt(self, index: int, block: Mapping[str, Tensor], num_tokens: int) -> None:
        super().adopt(index, block, num_tokens)
        if num_tokens < kv_cache.BLOCK_TOKENS:
            self._keep(index, 0)
        elif index == len(self._full):
            self._full.append(block["sums"].to(self._device))
            self._rest = self._rest[:, :0]

    def fork(self) -> "SparseCache":
        twin = super().fork()
        assert isinstance(twin, SparseCache)
        self._update()
        twin._full, twin._joined, twin._rest = list(self._full), self._joined, self._rest
        return twin

    def _empty_twin(self) -> "SparseCache":
        _, num_kv_heads, head_dim = self._shape
        return SparseCache(num_kv_heads, head_dim, self._dtype, self._device, stride=self._stride)

    @property
    def num_bytes(self) -> int:
        self._update()
        return super().num_bytes + sum(x.nbytes for x in (*self._full, self._rest))
