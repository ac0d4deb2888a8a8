import torch
from torch import Tensor, nn

import kernels
from engine.config import Residual


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, in float32 (arXiv 1910.07467, eq. 4).

    With `groups`, each of so many equal groups of the last dimension has its own rms.
    """

    def __init__(self, size: int, eps: float, groups: int = 1) -> None:
        super().__init__()
        self.eps, self.groups = eps, groups
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return kernels.rms_norm(x, self.weight, self.eps, self.groups)

    def of_sum(self, skip: Tensor, block: Tensor, residual: Residual) -> tuple[Tensor, Tensor]:
        """The residual sum of both, and the norm of that."""
        return kernels.rms_norm_of_sum(
            skip, block, residual.alpha, residual.beta, self.weight, self.eps
        )
