"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

Of each token one row is kept, [latent | rotated key], from which every head's keys and values would
be projected. They never are: a head's key matrix is applied to its query and its value matrix to
what it read ("absorbed"), so that all heads attend over the rows as they are kept, in prefill as in
decoding.
"""

import torch
from torch import Tensor, nn

import kernels
from engine.config import ModelConfig
from engine.layers.kv_cache import LatentCache
from engine.layers.norm import RMSNorm
from engine.layers.rotary import rotation

_FEW_TOKENS = 16  # so many get, each, the bits it would get alone


class LatentAttention(nn.Module):
    """See `LatentOptions` for what varies."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        options = self.options = config.layers[layer].latent
        self.num_heads, hidden_size = config.num_heads, config.hidden_size
        num_queries = config.num_heads * options.key_dim
        if options.q_rank:
            self.q_a = nn.Parameter(torch.empty(options.q_rank, hidden_size))
            self.q_norm = RMSNorm(options.q_rank, options.norm_eps)
            self.q_b = nn.Parameter(torch.empty(num_queries, options.q_rank))
        else:
            self.q = nn.Parameter(torch.empty(num_queries, hidden_size))
        self.kv_a = nn.Parameter(torch.empty(options.row_size, hidden_size))
        self.kv_norm = RMSNorm(options.kv_rank, options.norm_eps)
        num_projected = config.num_heads * (options.nope_dim + options.value_dim)
        self.kv_b = nn.Parameter(torch.empty(num_projected, options.kv_rank))
        self.out = nn.Parameter(torch.empty(hidden_size, config.num_heads * options.value_dim))

    def forward(self, hidden: Tensor, state: LatentCache, start: int | Tensor) -> Tensor:
        options = self.options
        rows = hidden if hidden.dim() == 3 else hidden[:, None]  # [T, B, D]
        sizes = [options.nope_dim, options.rope_dim]
        q, q_rope = torch.split(self._queries(rows), sizes, dim=-1)  # [T, B, H, ...]
        row = kernels.linear(rows, self.kv_a)
        latent, k_rope = row[..., : options.kv_rank], row[..., options.kv_rank :]
        turned = self._rotated(torch.cat([q_rope, k_rope[:, :, None]], dim=2), start)
        q_rope, k_rope = turned[:, :, :-1], turned[:, :, -1]
        state.append_rows(torch.cat([self.kv_norm(latent), k_rope], dim=-1))
        of_heads = self.kv_b.view(self.num_heads, -1, options.kv_rank)
        of_keys, of_values = of_heads[:, : options.nope_dim], of_heads[:, options.nope_dim :]
        queries = torch.cat([_per_head(q, of_keys), q_rope], dim=-1).flatten(1, 2)
        if state.attention_received is not None:
            received = kernels.attention_received(queries, state.segments(), options.scale)
            state.attention_received += received[: len(state.attention_received)]
        read = kernels.attention(queries, state.segments(), options.scale)  # [T, B H, W]
        read = read.view(*rows.shape[:2], self.num_heads, -1)[..., : options.kv_rank]
        values = _per_head(read, of_values.transpose(1, 2))
        return kernels.linear(values.reshape(*hidden.shape[:-1], -1), self.out)

    def _queries(self, rows: Tensor) -> Tensor:
        """[T, B, H, nope + rope], before rotation."""
        if self.options.q_rank:
            q = kernels.linear(self.q_norm(kernels.linear(rows, self.q_a)), self.q_b)
        else:
            q = kernels.linear(rows, self.q)
        return q.view(*rows.shape[:2], self.num_heads, -1)

    def _rotated(self, x: Tensor, start: int | Tensor) -> Tensor:
        """x [T, B, H, R], its pairs turned; first ones of pairs stand before all second ones."""
        options = self.options
        if options.interleaved:
            x = x.view(*x.shape[:-1], -1, 2).transpose(-1, -2).flatten(-2)
        turns = rotation(
            options.rotary_frequencies, start, len(x), x.device, options.attention_factor
        )
        return kernels.rotate(x.flatten(1, 2), *turns).view(x.shape)


def _per_head(x: Tensor, weight: Tensor) -> Tensor:
    """x [T, B, H, I] times each head's matrix [H, I, O]."""
    if len(x) <= _FEW_TOKENS and x.device.type == "cpu":
        return torch.stack([_product(one, weight) for one in x])
    return _product(x.flatten(0, 1), weight).view(*x.shape[:-1], -1)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """x [N, H, I]; returns [N, H, O]."""
    return (x.transpose(0, 1) @ weight).transpose(0, 1)
