"""How much attention blocks of keys get, as log-sum-exps: to be joined over any number of tiles."""

import torch
import torch.nn.functional as F
from torch import Tensor


def block_logsumexp(
    rows: Tensor, keys: Tensor, scale: float, block_tokens: int, first: int
) -> Tensor:
    scores = scale * (rows @ keys.T)  # [R, n]
    scores[:, :first] = -torch.inf
    scores = F.pad(scores, (0, -len(keys) % block_tokens), value=-torch.inf)
    return scores.view(len(rows), -1, block_tokens).logsumexp(dim=-1)
