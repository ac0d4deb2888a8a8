"""A softmax attention layer with grouped heads (arXiv 2305.13245)."""

import math
from functools import partial

import torch
from torch import Tensor, nn

import kernels
from engine.config import ModelConfig, QkNorm, SoftmaxOptions
from engine.layers.kv_cache import DifferentiableKV, KVCache, WindowCache
from engine.layers.norm import RMSNorm
from engine.layers.rotary import positions, rotated, rotation
from engine.layers.sparse_kv import SparseCache
from engine.layers.static_kv import StaticKVCache
from kernels import BlockRule
from kernels.attention import between

SoftmaxState = KVCache | WindowCache | StaticKVCache


class SoftmaxAttention(nn.Module):
    """See `SoftmaxOptions` for what varies."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.options: SoftmaxOptions = config.layers[layer].softmax
        self.heads = (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        self.head_dim = config.head_dim
        self.rotary_frequencies = config.frequencies_of(layer)
        own_scale = self.options.scale
        self.scale = config.head_dim**-0.5 if own_scale is None else own_scale
        num_projected = sum(self.heads) + config.num_heads * self.options.gate_in_q
        self.qkv = nn.Parameter(torch.empty(num_projected * config.head_dim, config.hidden_size))
        self.out = nn.Parameter(torch.empty(config.hidden_size, config.attention_size))
        if self.options.output_gate and not self.options.gate_in_q:
            self.gate = nn.Parameter(torch.empty(config.attention_size, config.hidden_size))
        if self.options.qkv_bias:
            self.qkv_bias = nn.Parameter(torch.empty(num_projected * config.head_dim))
        if self.options.out_bias:
            self.out_bias = nn.Parameter(torch.empty(config.hidden_size))
        if self.options.qk_norm is not QkNorm.NONE:
            heads = self.heads[:2] if self.options.qk_norm is QkNorm.FULL else (1, 1)
            self.q_norm, self.k_norm = (
                RMSNorm(count * config.head_dim, config.norm_eps) for count in heads
            )

    def forward(self, hidden: Tensor, state: SoftmaxState, start: int | Tensor) -> Tensor:
        qk, v, gate = self._projected(hidden)
        num_heads = self.heads[0]
        unrotated = qk[..., :num_heads, :]
        if isinstance(state, KVCache) and state.queries is not None:
            state.queries.append(unrotated)
        if self.rotary_frequencies:
            cosine, sine = rotation(
                self.rotary_frequencies,
                start,
                hidden.shape[0],
                hidden.device,
                self.options.attention_factor,
            )
            if hidden.dim() == 3:
                cosine, sine = cosine[:, None], sine[:, None]
            qk = kernels.rotate(qk, cosine, sine)
        q, k = qk[..., :num_heads, :], qk[..., num_heads:, :]
        if hidden.dim() == 3:
            # Sequences beside each other ([T, B, D]) have their heads one after another, of queries
            # as of keys and values, so that the groups stay what they are.
            q, k, v = (part.flatten(1, -2) for part in (q, k, v))
        state.append(k, v)
        q = self._grown(q, start)
        if self.options.sink_distance:
            assert isinstance(start, int) and not isinstance(state, StaticKVCache)
            out = self._attend_apart(unrotated, q, state, start)
        else:
            out = self._attend(q, state, start)
        out = out.reshape(*hidden.shape[:-1], -1)
        if self.options.output_gate:
            out = torch.sigmoid(kernels.linear(hidden, self.gate) if gate is None else gate) * out
        out = kernels.linear(out, self.out)
        return out + self.out_bias if self.options.out_bias else out

    def queries(self, hidden: Tensor) -> Tensor:
        """[T, H, D] of `hidden` [T, D], before rotation."""
        return self._projected(hidden)[0][..., : self.heads[0], :]

    def rotated(self, x: Tensor, position: int) -> Tensor:
        """x [T, H, D], before rotation, as if every row stood at `position`."""
        frequencies, factor = self.rotary_frequencies, self.options.attention_factor
        return rotated(x, position, frequencies, factor)

    def _projected(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """q and k [..., H + G, D] before rotation, v [..., G, D], and the gate if it is among the
        projected rows."""
        qkv = kernels.linear(hidden, self.qkv)
        if self.options.qkv_bias:
            qkv = qkv + self.qkv_bias
        qkv, gate = self._by_head(qkv)
        num_heads, num_kv_heads, _ = self.heads
        qk, v = qkv[..., : num_heads + num_kv_heads, :], qkv[..., -num_kv_heads:, :]
        return qk if self.options.qk_norm is QkNorm.NONE else self._normed(qk), v, gate

    def _by_head(self, qkv: Tensor) -> tuple[Tensor, Tensor | None]:
        """The projected rows as [..., H + 2 G, D], and the gate [..., H D] if it was among them."""
        qkv = qkv.view(*qkv.shape[:-1], -1, self.head_dim)
        if not self.options.gate_in_q:
            return qkv, None
        with_gate, rest = qkv[..., : 2 * self.heads[0], :], qkv[..., 2 * self.heads[0] :, :]
        q, gate = with_gate.view(*qkv.shape[:-2], -1, 2, self.head_dim).unbind(-2)
        return torch.cat([q, rest], dim=-2), gate.flatten(-2)

    def _normed(self, qk: Tensor) -> Tensor:
        """q and k [..., H + G, D], each through its norm."""
        q, k = qk[..., : self.heads[0], :], qk[..., self.heads[0] :, :]
        if self.options.qk_norm is QkNorm.HEAD:
            return torch.cat([self.q_norm(q), self.k_norm(k)], dim=-2)
        parts = (
            norm(part.flatten(-2)).view(part.shape)
            for norm, part in ((self.q_norm, q), (self.k_norm, k))
        )
        return torch.cat([*parts], dim=-2)

    def _attend(self, q: Tensor, state: SoftmaxState, start: int | Tensor) -> Tensor:
        if isinstance(state, StaticKVCache):
            return state.attend(q, self.scale, self.options)
        assert isinstance(start, int)
        attention = partial(
            kernels.attention, scale=self.scale, implementation=state.implementation
        )
        window, num_tokens = self.options.window_tokens, q.shape[0]
        if self.options.sparse is not None:
            return self._attend_sparse(q, state, start)
        if isinstance(state, WindowCache):
            sinks = self.options.sink_tokens
            return attention(q, state.segments(), window=window, sinks=sinks)
        if not window:
            self._watch(q, state)
            return attention(q, state.segments())
        if isinstance(state, DifferentiableKV) and state.global_mask is not None:
            sinks = self.options.sink_tokens
            near = attention(q, state.segments(), window=window, sinks=sinks)
            marked = state.global_mask[start : start + num_tokens].view(num_tokens, -1)  # [T, B]
            marked = marked.repeat_interleave(q.shape[1] // marked.shape[1], dim=1)  # [T, B * H]
            return torch.where(marked[..., None], attention(q, state.segments()), near)
        border = state.global_attention_from
        border = start + num_tokens if border is None else border
        local = min(max(border - start, 0), num_tokens)  # so many queries see the window only
        outs = []
        if local:
            seen = state.segments(start + local)
            sinks = self.options.sink_tokens
            outs.append(attention(q[:local], seen, window=window, sinks=sinks))
        if local < num_tokens:
            self._watch(q[local:], state)
            outs.append(attention(q[local:], state.segments()))
        return torch.cat(outs) if len(outs) > 1 else outs[0]

    def _attend_sparse(self, q: Tensor, state: SoftmaxState, start: int) -> Tensor:
        """Where a query with enough before it reads blocks of its choice."""
        sparse, end = self.options.sparse, start + len(q)
        assert sparse is not None
        border = min(max(sparse.dense_tokens - 1 - start, 0), len(q))  # so many read everything
        outs = []
        if border:
            assert isinstance(state, KVCache)
            seen = state.segments(start + border)
            outs.append(
                kernels.attention(q[:border], seen, self.scale, implementation=state.implementation)
            )
        if border < len(q):
            if not isinstance(state, SparseCache):
                raise ValueError(
                    f"no gradients through a choice of blocks: at most {sparse.dense_tokens - 1:,} "
                    "tokens"
                )
            rule = BlockRule(
                sparse.stride, sparse.most_blocks, sparse.near_blocks, sparse.first_blocks
            )
            chosen = kernels.choose_blocks(q[border:], state.sums(), end, self.scale, rule)
            outs.append(
                kernels.block_sparse_attention(
                    q[border:], state.segments(), chosen, rule.block_tokens, self.scale
                )
            )
        return torch.cat(outs) if len(outs) > 1 else outs[0]

    def _attend_apart(
        self, unrotated: Tensor, q: Tensor, state: KVCache | WindowCache, start: int
    ) -> Tensor:
        """Where sinks, and what was selected, are seen at other distances than they were read."""
        options, end = self.options, start + len(q)
        cap, num_sinks = options.sink_distance, options.sink_tokens
        border = state.global_attention_from if isinstance(state, KVCache) else None
        border = end if border is None else border
        seen = state.segments()
        moved = sum(keys.shape[0] for keys, _ in seen) - end  # from a position to a row of `seen`
        outs, first = [], start
        for edge in sorted((border, cap, end)):
            last = min(edge, end)
            if first >= last:
                continue
            rows = slice(first - start, last - start)
            is_question = first >= border
            window = None if is_question else options.window_tokens
            # About so few documents that no sink is far a question sees everything where it is.
            if first < cap or border < cap:
                sees, sinks = between(seen, 0, last + moved), 0 if is_question else num_sinks
                outs.append(
                    kernels.attention(q[rows], sees, self.scale, window=window, sinks=sinks)
                )
            else:
                parts = [(self.rotated(unrotated[rows], cap), between(seen, 0, num_sinks))]
                lowest = border if is_question else first + 1
                if is_question and isinstance(state, KVCache) and state.selected:
                    # In place of the end of the documents, which would draw the answer to itself.
                    far = self.rotated(unrotated[rows], options.selected_distance)
                    parts.append((far, state.selected))
                else:
                    lowest -= options.window_tokens
                lowest = max(lowest + moved, num_sinks)
                parts.append((q[rows], between(seen, lowest, last + moved)))
                outs.append(kernels.joint_attention(parts, self.scale, window=window))
            first = last
        return torch.cat(outs) if len(outs) > 1 else outs[0]

    def _watch(self, q: Tensor, state: KVCache) -> None:
        if state.attention_received is not None:
            received = kernels.attention_received(q, state.segments(), self.scale)
            state.attention_received += received[: len(state.attention_received)]

    def _grown(self, q: Tensor, start: int | Tensor) -> Tensor:
        """q [T, H, D] times the logarithmic factor of its position, 1 at positions trained for."""
        base, trained = self.options.log_scale_base, self.options.log_scale_from_tokens
        if not base:
            return q
        position = positions(start, q.shape[0], q.device)
        factor = ((position - trained).clamp(min=0) + base).log() / math.log(base)
        return (q.float() * factor.float()[:, None, None]).to(q.dtype)
