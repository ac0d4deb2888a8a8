import torch
from torch import Tensor, nn

import kernels


class DenseMLP(nn.Module):
    """SwiGLU: down(silu(gate x) * up x) (arXiv 2002.05202)."""

    def __init__(self, hidden_size: int, mlp_size: int) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(2 * mlp_size, hidden_size))
        self.down = nn.Parameter(torch.empty(hidden_size, mlp_size))

    def forward(self, hidden: Tensor) -> Tensor:
        gate_up = kernels.linear(hidden, self.gate_up)
        return kernels.linear(kernels.swiglu(gate_up), self.down)
