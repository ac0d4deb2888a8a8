import torch
from torch import Tensor, nn

import kernels
from engine.config import Activation


class DenseMLP(nn.Module):
    """down(act(gate x) * up x): SwiGLU, or GeGLU with gelu's tanh form (arXiv 2002.05202)."""

    def __init__(
        self, hidden_size: int, mlp_size: int, activation: Activation = Activation.SILU
    ) -> None:
        super().__init__()
        self.is_swiglu = activation is Activation.SILU
        self._gated = kernels.swiglu if self.is_swiglu else kernels.geglu
        self.gate_up = nn.Parameter(torch.empty(2 * mlp_size, hidden_size))
        self.down = nn.Parameter(torch.empty(hidden_size, mlp_size))

    def forward(self, hidden: Tensor) -> Tensor:
        gate_up = kernels.linear(hidden, self.gate_up)
        return kernels.linear(self._gated(gate_up), self.down)
