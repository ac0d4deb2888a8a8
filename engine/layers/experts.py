"""Mixture of experts, its router, and an optional shared expert."""

import torch
from torch import Tensor, nn

import kernels
from engine.config import ModelConfig, SharedExpert, SigmoidRouter
from engine.layers.mlp import DenseMLP

_LEAST_SUM = 1e-20  # added to the sum that weights are divided by


class ExpertsMLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner, count = config.hidden_size, config.mlp_size, config.num_experts
        self.chosen, self._normalizes = config.num_experts_per_token, config.normalize_router
        self.kind, self._shares = config.sigmoid_router, config.shared_expert
        self.router = nn.Parameter(torch.empty(count, width))
        if self.kind is not None and self.kind.has_bias:
            self.router_bias = nn.Parameter(torch.empty(count))
        self.gate_up = nn.Parameter(torch.empty(count, 2 * inner, width))
        self.down = nn.Parameter(torch.empty(count, width, inner))
        self.shared: DenseMLP | None = None
        if config.shared_mlp_size:
            self.shared = DenseMLP(width, config.shared_mlp_size)
            if self._shares is not SharedExpert.PLAIN:
                self.shared_coefficient = nn.Parameter(torch.empty(1, width))

    def forward(self, hidden: Tensor) -> Tensor:
        rows = hidden.flatten(0, -2)  # sequences beside each other are so many more tokens
        weights, ids = self._route(rows)
        routed = kernels.experts(rows, ids, weights, self.gate_up, self.down).view(hidden.shape)
        if self.shared is None:
            return routed
        shared: Tensor = self.shared(hidden).float()
        kept = routed.float()
        if self._shares is not SharedExpert.PLAIN:
            share = torch.sigmoid(kernels.linear(hidden.float(), self.shared_coefficient.float()))
            shared = shared * share
            if self._shares is SharedExpert.BLEND:
                kept = kept * (1 - share)
        return torch.add(kept, shared).to(hidden.dtype)

    def _route(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and ids [T, K] of the experts of `rows` [T, D]."""
        # A rounded router picks other experts, so it runs in float32 whatever the weights are.
        with torch.autocast(rows.device.type, enabled=False):
            logits = kernels.linear(rows.float(), self.router.float())
        bias = getattr(self, "router_bias", None)
        weights, ids = choose(logits, self.chosen, self.kind, bias)
        if self._normalizes:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + _LEAST_SUM)
        return (weights if self.kind is None else weights * self.kind.scale), ids


def choose(
    logits: Tensor, chosen: int, kind: SigmoidRouter | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scores and ids [T, K] of the K experts chosen by router logits [T, N] and `bias` [N]: by the
    softmax, or as `SigmoidRouter` says."""
    if kind is None:
        scores, ids = logits.softmax(dim=-1).topk(chosen, dim=-1)
        return scores, ids
    scores = logits.sigmoid()
    wanted = scores if bias is None else scores + bias.float()
    if kind.num_groups > 1:
        grouped = wanted.view(len(wanted), kind.num_groups, -1)
        worth = grouped.topk(2, dim=-1).values.sum(dim=-1)  # [T, groups]
        kept = worth.topk(kind.kept_groups, dim=-1).indices
        is_dropped = torch.ones_like(worth, dtype=torch.bool).scatter(-1, kept, value=False)
        wanted = grouped.masked_fill(is_dropped[..., None], -torch.inf).flatten(-2)
    ids = wanted.topk(chosen, dim=-1).indices
    return scores.gather(-1, ids), ids
