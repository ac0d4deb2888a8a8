"""Which blocks of keys a query reads (InfLLM-V2, arXiv 2509.24663), by means of neighbouring keys.

With the sums of every `stride` keys at hand, one product of queries with sums gives the scores of
all means, fine and coarse, for means are sums of sums.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_STRIDES = 4  # a block is so many strides, and so is the step of coarse means
_FINE, _COARSE = 2, 8  # strides that a mean is of
_POOLED = 5  # fine means that touch a block
_FEW_QUERIES = 16  # so many on a CPU get, each, the bits they would get alone
SCORES = 2**22  # numbers of one tile of queries


class BlockRule(NamedTuple):
    """`num_blocks` of the blocks so far are read, among them the first `num_first` and the last
    `num_near`. A block is 4 strides of `stride` keys."""

    stride: int
    num_blocks: int
    num_near: int
    num_first: int

    @property
    def block_tokens(self) -> int:
        return BLOCK_STRIDES * self.stride


def choose_blocks(
    q: Tensor, sums: Sequence[Tensor], num_keys: int, scale: float, rule: BlockRule
) -> Tensor:
    num_queries, num_heads, _ = q.shape
    num_sums = num_keys // rule.stride
    num_blocks = -(-num_keys // rule.block_tokens)
    first = num_keys - num_queries  # the position of the first query
    alone = num_queries <= _FEW_QUERIES and q.device.type == "cpu"
    step = 1 if alone else max(SCORES // (num_heads * max(num_sums, 1)), 1)
    num_groups = sums[0].shape[0]
    chosen = torch.zeros((num_queries, num_groups, num_blocks), dtype=torch.bool, device=q.device)
    for start in range(0, num_queries, step):
        tile = q[start : start + step]
        seen = first + start + len(tile)  # keys up to the last of them
        found = _choose(tile, _first_sums(sums, seen // rule.stride), seen, scale, rule)
        chosen[start : start + len(tile), :, : found.shape[-1]] = found
    return chosen


def _first_sums(sums: Sequence[Tensor], count: int) -> list[Tensor]:
    found = []
    for piece in sums:
        found.append(piece[:, : max(count, 0)])
        count -= piece.shape[1]
    return [piece for piece in found if piece.shape[1]]


def _choose(
    q: Tensor, sums: Sequence[Tensor], num_keys: int, scale: float, rule: BlockRule
) -> Tensor:
    """[T, G, N] of the last T of `num_keys` positions."""
    num_queries, _, head_dim = q.shape
    num_groups, num_blocks = sums[0].shape[0], -(-num_keys // rule.block_tokens)
    rows = q.float().view(num_queries, num_groups, -1, head_dim).transpose(0, 1)
    rows = (scale * rows).reshape(num_groups, -1, head_dim)  # [G, T R, D]
    products = torch.cat([rows @ piece.mT for piece in sums], dim=-1)
    products = products.view(num_groups, num_queries, -1, products.shape[-1])  # [G, T, R, n]
    position = torch.arange(num_keys - num_queries, num_keys, device=q.device)[:, None]
    p = _fine_weights(products, position, rule.stride)  # [G, T, n - 1]

    # Fine mean j touches block b if j is 4b - 1 to 4b + 3.
    padded = p.new_full((*p.shape[:-1], BLOCK_STRIDES * num_blocks + 1), -torch.inf)
    padded[..., 1 : 1 + p.shape[-1]] = p
    scores = padded.unfold(-1, _POOLED, BLOCK_STRIDES).amax(dim=-1)  # [G, T, N]
    block, own = torch.arange(num_blocks, device=q.device), position // rule.block_tokens
    forced = (block < rule.num_first) | (block > own - rule.num_near)
    scores.masked_fill_(forced, torch.inf).masked_fill_(block > own, -torch.inf)
    return _best(scores, rule.num_blocks).logical_and_(block <= own).transpose(0, 1)


def _fine_weights(products: Tensor, position: Tensor, stride: int) -> Tensor:
    """exp of the scores of fine means, by what those of coarse ones add up to, summed over the
    heads of a group; minus infinity for means that are not whole yet."""
    fine = (products[..., 1:] + products[..., :-1]).mul_(1 / (_FINE * stride))
    num_steps = products.shape[-1] // BLOCK_STRIDES
    steps = products[..., : BLOCK_STRIDES * num_steps]
    steps = steps.reshape(*steps.shape[:-1], num_steps, BLOCK_STRIDES).sum(dim=-1)
    coarse = (steps[..., 1:] + steps[..., :-1]).mul_(1 / (_COARSE * stride))

    def is_future(count: int, step: int, width: int) -> Tensor:
        last = stride * (step * torch.arange(count, device=products.device) + width) - 1
        return last > position  # [T, count]

    too_late = is_future(coarse.shape[-1], BLOCK_STRIDES, _COARSE)[:, None]
    total = coarse.masked_fill_(too_late, -torch.inf).logsumexp(dim=-1, keepdim=True)
    # Finite, so that no score is as good as being forced.
    p = fine.sub_(total).exp_().sum(dim=2).clamp_(max=torch.finfo(torch.float32).max)
    return p.masked_fill_(is_future(fine.shape[-1], 1, _FINE), -torch.inf)


def _best(scores: Tensor, count: int) -> Tensor:
    """Mask of the `count` largest of each row; of equal ones the first."""
    count = min(count, scores.shape[-1])
    least = scores.topk(count, dim=-1).values[..., -1:]
    above, equal = scores > least, scores == least
    room = count - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1) <= room))
