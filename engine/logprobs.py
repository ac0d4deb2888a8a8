"""What the model thinks of each token as it comes: the price is the head's matmul for every row.

Logits are made a few rows at a time, so that memory does not grow with chunk times vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.model import Model

ROWS = 64  # 12.6 MB of float32 logits for a vocabulary of 49,152


@dataclass(frozen=True, slots=True)
class TokenScores:
    """float32 [T] each, in nats, on the CPU; NaN for a token that nothing stands before.

    `log_p` is of the token that came, `best_log_p` of the likeliest one, `entropy` that of the
    whole distribution: what -log p was expected to be.
    """

    log_p: Tensor
    entropy: Tensor
    best_log_p: Tensor


def token_scores(
    model: Model, before: Tensor | None, hidden: Tensor, token_ids: Sequence[int]
) -> TokenScores:
    """Scores of `token_ids` [T]: the first by the logits `before` [vocab], the others by the
    hidden states [T - 1, D] of the tokens before them."""
    targets = torch.tensor(token_ids, dtype=torch.int64, device=hidden.device)
    unknown = torch.full((3, 1), torch.nan, device=hidden.device)
    found = [unknown if before is None else _of_rows(before[None].clone(), targets[:1])]
    for first in range(0, len(hidden), ROWS):
        rows = model.logits(hidden[first : first + ROWS])
        found.append(_of_rows(rows, targets[1 + first : 1 + first + ROWS]))
    return TokenScores(*torch.cat(found, dim=1).cpu())


def _of_rows(logits: Tensor, targets: Tensor) -> Tensor:
    """log p, entropy and the best log p [3, T] of float32 logits [T, vocab], which are changed."""
    logits -= logits.amax(dim=-1, keepdim=True)
    chosen = logits.gather(1, targets[:, None])[:, 0]
    weights = logits.exp()
    total = weights.sum(dim=-1)
    log_total = total.log()
    expected = weights.mul_(logits).sum(dim=-1) / total
    return torch.stack([chosen - log_total, log_total - expected, -log_total])
