"""Mixture of experts with a softmax router and an optional shared expert."""

import torch
from torch import Tensor, nn

import kernels
from engine.config import ModelConfig, SharedExpert
from engine.layers.mlp import DenseMLP


class ExpertsMLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner, count = config.hidden_size, config.mlp_size, config.num_experts
        self.chosen, self._normalizes = config.num_experts_per_token, config.normalize_router
        self._blends = config.shared_expert is SharedExpert.BLEND
        self.router = nn.Parameter(torch.empty(count, width))
        self.gate_up = nn.Parameter(torch.empty(count, 2 * inner, width))
        self.down = nn.Parameter(torch.empty(count, width, inner))
        self.shared: DenseMLP | None = None
        if config.shared_mlp_size:
            self.shared = DenseMLP(width, config.shared_mlp_size)
            self.shared_coefficient = nn.Parameter(torch.empty(1, width))

    def forward(self, hidden: Tensor) -> Tensor:
        # A rounded router picks other experts, so it runs in float32 whatever the weights are.
        with torch.autocast(hidden.device.type, enabled=False):
            logits = kernels.linear(hidden.float(), self.router.float()).flatten(0, -2)
        weights, ids = logits.softmax(dim=-1).topk(self.chosen, dim=-1)
        if self._normalizes:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        rows = hidden.flatten(0, -2)  # sequences beside each other are so many more tokens
        routed = kernels.experts(rows, ids, weights, self.gate_up, self.down).view(hidden.shape)
        if self.shared is None:
            return routed
        share = torch.sigmoid(kernels.linear(hidden.float(), self.shared_coefficient.float()))
        shared: Tensor = self.shared(hidden)
        kept = routed.float() * (1 - share) if self._blends else routed.float()
        return (kept + shared.float() * share).to(hidden.dtype)
