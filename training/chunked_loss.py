"""The loss at the head, some rows at a time: scores are the largest tensors by far.

Loss per token: k KL(parent || hybrid) at temperature 1, plus w times the cross-entropy, w being
`text_weight` and, where the token is part of an answer, `answer_weight` more. Its gradient by the
scores has a closed form, (k + w) softmax(ours) - k softmax(theirs) - w onehot, so no graph of the
scores is kept.
"""

import torch
from torch import Tensor

from engine.model import Model

ROWS = {"cpu": 256, "cuda": 4096}  # in memory at a time, for parent and hybrid


def learn(
    model: Model,
    teacher: Model,
    hidden: Tensor,
    wanted: Tensor | None,
    token_ids: Tensor,
    is_answer: Tensor,
    *,
    weight: float,
    answer_weight: float,
    text_weight: float = 0.0,
    kl_weight: float = 1.0,
    rows: int | None = None,
) -> tuple[float, Tensor]:
    """The mean loss of all tokens but the first, and `weight` times its gradient by `hidden`.

    `hidden` and `wanted` [T, D] or [T, B, D] are the last layers' outputs of `model` and `teacher`
    over `token_ids` [T] or [T, B]; without `wanted` there is no KL. Adds `weight` times the
    gradient of what is learnt in the head.
    """
    gradient = torch.zeros_like(hidden)
    got, out = (x[:-1].flatten(0, -2) for x in (hidden.detach(), gradient))
    theirs_at = None if wanted is None else wanted[:-1].flatten(0, -2)
    kl = 0.0 if theirs_at is None else kl_weight
    ids, answers = token_ids[1:].flatten(), is_answer[1:].flatten().float()
    weights = text_weight + answer_weight * answers
    total = torch.zeros((), dtype=torch.float64, device=hidden.device)
    for part in blocks(len(ids), hidden.device, rows):
        at_head = got[part].requires_grad_()
        ours = model.logits(at_head)
        with torch.no_grad():
            theirs = ours.detach() if theirs_at is None else teacher.logits(theirs_at[part])
            divergence, surprise, log_q, p = compare(ours.detach(), theirs, ids[part])
            extra = weights[part]
            total += (kl * divergence + extra * surprise).sum(dtype=torch.float64)
            scale = weight / len(ids)
            slope = log_q.exp_().mul_(((kl + extra) * scale)[:, None]).sub_(p, alpha=kl * scale)
            slope.scatter_add_(1, ids[part, None], -(extra * scale)[:, None])
        torch.autograd.backward(ours, slope)
        assert at_head.grad is not None
        out[part] = at_head.grad
    return total.item() / len(ids), gradient


def compare(ours: Tensor, theirs: Tensor, next_ids: Tensor) -> tuple[Tensor, ...]:
    """KL(theirs || ours) and cross-entropy of ours [t], log softmax(ours), softmax(theirs) [t, V].

    `ours` and `theirs` [t, V] are scores.
    """
    log_q, log_p = torch.log_softmax(ours, dim=-1), torch.log_softmax(theirs, dim=-1)
    p = log_p.exp()
    divergence = log_p.sub_(log_q).mul_(p).sum(dim=-1)
    return divergence, -log_q.gather(1, next_ids[:, None])[:, 0], log_q, p


def blocks(num_rows: int, device: torch.device, rows: int | None = None) -> list[slice]:
    step = rows or ROWS[device.type]
    return [slice(i, min(i + step, num_rows)) for i in range(0, num_rows, step)]
