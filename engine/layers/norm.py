import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, in float32 (arXiv 1910.07467, eq. 4).

    With `groups`, each of so many equal stretches of the last dimension has its own rms.
    """

    def __init__(self, size: int, eps: float, groups: int = 1) -> None:
        super().__init__()
        self.eps, self.groups = eps, groups
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.float()
        if self.groups == 1:
            return F.rms_norm(x.float(), weight.shape, weight, self.eps).to(x.dtype)
        grouped = x.float().view(*x.shape[:-1], self.groups, -1)
        normed = F.rms_norm(grouped, grouped.shape[-1:], None, self.eps)
        return (normed.flatten(-2) * weight).to(x.dtype)
