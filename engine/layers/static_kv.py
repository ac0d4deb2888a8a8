"""One softmax layer's keys and values while tokens are decoded one at a time, at fixed addresses.

Nothing here depends on how many tokens there are but a number on the device, so a step that appends
and attends can be recorded once in a CUDA graph and replayed for every token.
"""

import torch
from torch import Tensor

import kernels
from engine.config import SoftmaxOptions
from engine.layers import kv_cache
from kernels import Int8Tensor, KeyBlocks


class StaticKVCache:
    """`cache` with room for more tokens, which `cache` knows nothing of until `commit`.

    `position` [1] int64 on the device is that of the next token; who owns it moves it on. The full
    blocks of `cache` are read where they are. The unfinished one is copied, so that nothing `cache`
    holds is ever written to.
    """

    def __init__(self, cache: kv_cache.KVCache, position: Tensor, num_blocks: int) -> None:
        self._cache, self._position = cache, position
        first = cache.num_tokens // kv_cache.BLOCK_TOKENS
        self._first_position = first * kv_cache.BLOCK_TOKENS
        self._new, self._pairs, self._scales = cache.room(num_blocks)
        self._keys = KeyBlocks(
            [*cache.segments(self._first_position), *self._new], torch.zeros_like(position)
        )
        # Later queries see everything once any does.
        self._is_global = cache.global_attention_from is not None

    @staticmethod
    def capacity(num_tokens: int, num_blocks: int) -> int:
        """Tokens that can be appended to a cache of `num_tokens` with so many blocks."""
        return num_blocks * kv_cache.BLOCK_TOKENS - num_tokens % kv_cache.BLOCK_TOKENS

    def append(self, keys: Tensor, values: Tensor) -> None:
        """keys, values [1, G, D] of the token at the position."""
        within = self._position - self._first_position
        at = (within // kv_cache.BLOCK_TOKENS, within % kv_cache.BLOCK_TOKENS)
        if self._scales is None:
            self._pairs.index_put_(at, torch.stack([keys, values], dim=1))
        else:
            rows = [Int8Tensor.quantize(x) for x in (keys, values)]
            self._pairs.index_put_(at, torch.stack([x.values for x in rows], dim=1))
            self._scales.index_put_(at, torch.stack([x.scales for x in rows], dim=1))
        torch.add(self._position, 1, out=self._keys.num_keys)

    def attend(self, q: Tensor, scale: float, options: SoftmaxOptions) -> Tensor:
        """Attention of q [1, H, D] at the position over all tokens up to it, as `options` say."""
        window = None if self._is_global else options.window_tokens or None
        return kernels.attention_of_blocks(
            q, self._keys, scale, window=window, sinks=options.sink_tokens if window else 0
        )

    def commit(self, num_tokens: int) -> None:
        """Gives the cache its tokens up to `num_tokens` in all. This object is then used up."""
        self._cache.grow(self._new, num_tokens)
