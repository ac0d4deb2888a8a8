"""Weights of any kind to try things on: every code is as likely as another, scales are finite."""

import torch
from torch import Tensor

from kernels.ggml.block_type import BlockType
from kernels.ggml.weight import GgmlWeight

_NO_HALVES = BlockType.MXFP4  # but an exponent in byte 0
_HALVES = {  # where blocks have float16
    **dict.fromkeys((BlockType.Q4_0, BlockType.Q5_0, BlockType.Q8_0), (0,)),
    **dict.fromkeys((BlockType.IQ4_NL, BlockType.IQ4_XS), (0,)),
    **dict.fromkeys((BlockType.Q4_1, BlockType.Q5_1, BlockType.Q4_K, BlockType.Q5_K), (0, 2)),
    BlockType.Q2_K: (80, 82),
    BlockType.Q3_K: (108,),
    BlockType.Q6_K: (208,),
}
_SIZE = 0.01
_EXPONENTS = (118, 126)


def random_weight(
    kind: BlockType, num_out: int, width: int, generator: torch.Generator
) -> GgmlWeight:
    """[num_out, width], float16 scales and offsets normal, of either sign."""
    shape = (num_out, kind.row_bytes(width) // kind.num_bytes)
    blocks = _bytes((*shape, kind.num_bytes), 0, 256, generator)
    for at in _HALVES.get(kind, ()):
        halves = (_SIZE * torch.randn(*shape, 1, generator=generator)).half()
        blocks[..., at : at + 2] = halves.view(torch.uint8)
    if kind is _NO_HALVES:
        blocks[..., 0] = _bytes(shape, *_EXPONENTS, generator)
    return GgmlWeight(kind, blocks.flatten(1))


def _bytes(shape: tuple[int, ...], low: int, high: int, generator: torch.Generator) -> Tensor:
    return torch.randint(low, high, shape, generator=generator, dtype=torch.uint8)
