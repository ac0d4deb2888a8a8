"""A gated delta layer: constant-size state, cost linear in length (Gated DeltaNet, arXiv
2412.06464), as in Qwen3-Next and Qwen3.5."""

from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from engine.config import DeltaOptions

_LEAST_SQUARE = 1e-6  # added to the squared norm of a query or key before they are divided by it


class DeltaState:
    """What one layer knows: `tensor` [B * H, D, E] float32, the sum of what was written to keys,
    key dimension first, and `rows` [taps - 1, B * C], the last inputs of the convolution.

    B independent sequences of equal length have their heads, and channels, one after another;
    mostly B is 1.
    """

    def __init__(self, tensor: Tensor, rows: Tensor) -> None:
        self.tensor, self.rows = tensor, rows
        self.keeps_last = False  # what `cut` needs of the tokens that are read next
        self._rows_read: Tensor | None = None
        self._last: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] | None = None

    @classmethod
    def empty(
        cls,
        options: DeltaOptions,
        dtype: torch.dtype,
        device: torch.device,
        num_sequences: int = 1,
    ) -> Self:
        """`dtype` is that of the activations."""
        shape = (num_sequences * options.num_value_heads, options.key_dim, options.value_dim)
        rows = (options.taps - 1, num_sequences * options.num_channels)
        return cls(
            torch.zeros(shape, dtype=torch.float32, device=device),
            torch.zeros(rows, dtype=dtype, device=device),
        )

    def fork(self) -> "DeltaState":
        # Updates replace the tensors and never write into them, so they can be shared.
        return DeltaState(self.tensor, self.rows)

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """silu of the convolution of these tokens [T, B * C], to be followed by `move`."""
        if self.keeps_last:
            self._rows_read = torch.cat([self.rows, x])
        out, self.rows = kernels.short_convolution(x, weight, None, self.rows, silu=True)
        return out

    def move(self, q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor) -> Tensor:
        """What these tokens read, as `kernels.gated_delta`, by which the state moves on."""
        if self.keeps_last:
            self._last, self.keeps_last = (k, v, decay, beta, self.tensor), False
        out, self.tensor = kernels.gated_delta(q, k, v, decay, beta, self.tensor)
        return out

    def cut(self, num_tokens: int) -> None:
        """Forgets the last `num_tokens` of the tokens that were read when it had to keep them."""
        assert self._last is not None and self._rows_read is not None
        last, self._last = self._last, None
        rows, self._rows_read = self._rows_read, None
        if num_tokens:
            kept = len(last[0]) - num_tokens
            self.rows = rows[kept : kept + len(self.rows)].clone()
            count = torch.tensor(kept, device=self.tensor.device)
            self.tensor = kernels.gated_delta_state(*last, count)

    def tensors(self) -> dict[str, Tensor]:
        """All it is, of constant shape: what `restore` takes."""
        return {"state": self.tensor, "rows": self.rows}

    def restore(self, tensors: Mapping[str, Tensor], num_tokens: int) -> None:  # noqa: ARG002
        """As `tensors` gave it after `num_tokens` tokens."""
        self.tensor = tensors["state"].to(self.tensor.device)
        self.rows = tensors["rows"].to(self.rows.device)

    @property
    def num_bytes(self) -> int:
        return self.tensor.nbytes + self.rows.nbytes


class GatedDeltaNet(nn.Module):
    """See `DeltaOptions` for what varies.

    Projections to q, k, v, the output's gate z, and for each value head b and a; silu of a short
    convolution of q, k and v; q and k divided by their norms; the gated delta rule with
    beta = sigmoid(b) and decay = -exp(A) softplus(a + dt); RMSNorm of each head; times silu(z).
    """

    def __init__(self, hidden_size: int, options: DeltaOptions, norm_eps: float) -> None:
        super().__init__()
        heads, taps = options.num_value_heads, options.taps
        self.options = options
        self._scales: dict[torch.device, Tensor] = {}
        projected = options.num_channels + options.value_size
        self.qkvz = nn.Parameter(torch.empty(projected, hidden_size))
        self.ba = nn.Parameter(torch.empty(2 * heads, hidden_size))
        self.convolution = nn.Parameter(torch.empty(options.num_channels, taps))
        self.log_decay = nn.Parameter(torch.empty(heads))  # A
        self.decay_bias = nn.Parameter(torch.empty(heads))  # dt
        self.norm_eps = norm_eps
        self.norm_scale = nn.Parameter(torch.ones(options.value_dim))
        self.out = nn.Parameter(torch.empty(hidden_size, options.value_size))

    def forward(self, hidden: Tensor, state: DeltaState, start: int | Tensor) -> Tensor:  # noqa: ARG002
        # Sequences beside each other ([T, B, D]) have their heads one after another.
        rows = hidden if hidden.dim() == 3 else hidden[:, None]
        sizes = [self.options.num_channels, self.options.value_size]
        qkv, z = torch.split(self._by_kind(kernels.linear(rows, self.qkvz)), sizes, dim=-1)
        weight = self.convolution.flatten(1)  # [C, 1, K] in checkpoints
        if (num_sequences := rows.shape[1]) > 1:
            weight = weight.repeat(num_sequences, 1)
        convolved = state.convolve(qkv.flatten(1), weight).view(qkv.shape)
        out = state.move(*self._heads(convolved), *self._gates(rows))
        normed = kernels.rms_norm(out, self.norm_scale, self.norm_eps)
        normed = self._as_stored(normed.view(*rows.shape[:2], self.options.num_value_heads, -1))
        gated = (normed.reshape(z.shape).float() * F.silu(z.float())).to(hidden.dtype)
        return kernels.linear(gated.view(*hidden.shape[:-1], -1), self.out)

    def _by_kind(self, qkvz: Tensor) -> Tensor:
        """[T, B, C + H E] with all heads' q first, then k, v and z."""
        options = self.options
        if not options.interleaved:
            return qkvz
        ratio = options.num_value_heads // options.num_key_heads
        widths = [options.key_dim] * 2 + [ratio * options.value_dim] * 2
        parts = torch.split(_in_heads(qkvz, options.num_key_heads), widths, dim=-1)
        return torch.cat([part.flatten(-2) for part in parts], dim=-1)

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q and k [T, B * G, D], divided by their norms and q by sqrt(D) too, and v [T, B * H, E].

        x / sqrt(x x + e) is the RMSNorm of x with e / D, divided by sqrt(D).
        """
        options = self.options
        qk, v = torch.split(qkv, [2 * options.key_size, options.value_size], dim=-1)
        eps, num_heads = _LEAST_SQUARE / options.key_dim, 2 * options.num_key_heads
        qk = kernels.rms_norm(qk, self._scale(qk.device), eps, num_heads)
        q, k = (_in_heads(x, options.num_key_heads) for x in qk.chunk(2, dim=-1))
        v = self._grouped(_in_heads(v, options.num_value_heads))
        return q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2)

    def _scale(self, device: torch.device) -> Tensor:
        """What normed q and k are multiplied by, [2 G D], made once."""
        if device not in self._scales:
            with torch.inference_mode(False):
                width = self.options.key_dim
                scale = torch.tensor([1 / width, width**-0.5], device=device)
                self._scales[device] = scale.repeat_interleave(self.options.key_size)
        return self._scales[device]

    def _grouped(self, values: Tensor) -> Tensor:
        """[T, B, H, ...] with the value heads of a key beside each other."""
        if not self.options.tiled:
            return values
        tiled = values.view(*values.shape[:2], -1, self.options.num_key_heads, *values.shape[3:])
        return tiled.transpose(2, 3).reshape(values.shape)

    def _as_stored(self, values: Tensor) -> Tensor:
        """[T, B, H, E] in the order of the rows of z and of the columns of `out`."""
        if not self.options.tiled:
            return values
        grouped = values.view(*values.shape[:2], self.options.num_key_heads, -1, values.shape[-1])
        return grouped.transpose(2, 3).reshape(values.shape)

    def _gates(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Decay and beta of each value head, [T, B * H] float32."""
        groups = self.options.num_key_heads if self.options.interleaved else 1
        ba = kernels.linear(rows, self.ba).float().view(*rows.shape[:-1], groups, 2, -1)
        b, a = (part.flatten(-2) for part in ba.unbind(-2))  # [T, B, H]
        decay = -self.log_decay.float().exp() * F.softplus(a + self.decay_bias.float())
        b, decay = self._grouped(b), self._grouped(decay)
        return decay.flatten(1), torch.sigmoid(b).flatten(1)


def _in_heads(x: Tensor, num_heads: int) -> Tensor:
    """[..., H D] as [..., H, D]."""
    return x.view(*x.shape[:-1], num_heads, -1)
