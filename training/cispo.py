"""CISPO: the policy gradient with clipped importance weights (arXiv 2506.13585, equations 4 and 5).

    J = sum_i sum_t sg(clip(r_it, 1 - low, 1 + high)) A_i log p(o_it) / sum_i |o_i|

The weight r = p / p_sampled is clipped and kept out of the gradient, so that no token loses its
own, as tokens outside the clip range do in PPO and GRPO. With low = 1 there is no lower bound,
as in the paper.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def advantages(rewards: Sequence[float], device: torch.device | None = None) -> Tensor:
    """(r - mean) / standard deviation over the answers to one prompt [G]; 0 if all are equal."""
    values = torch.tensor(rewards, dtype=torch.float32, device=device)
    spread = values.std(correction=0)
    return (values - values.mean()) / spread if spread > 1e-6 else torch.zeros_like(values)


def loss(log_p: Tensor, sampled: Tensor, advantage: Tensor, *, low: float, high: float) -> Tensor:
    """-J of one answer, summed over its tokens.

    `log_p` [t] are the tokens' log-likelihoods with gradients, `sampled` [t] those they were drawn
    with, `advantage` a scalar.
    """
    weight = (log_p.detach() - sampled).exp().clamp(1 - low, 1 + high)
    return -(weight * advantage * log_p).sum()
