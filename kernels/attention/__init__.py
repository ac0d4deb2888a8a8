from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.attention import (
    block_choice,
    block_scores,
    block_sparse,
    blocks,
    naive,
    received,
    sdpa,
    tiled,
)
from kernels.attention.block_choice import BlockRule
from kernels.attention.blocks import KeyBlocks
from kernels.attention.int8 import Int8Tensor, Parts, Rows, Segments, between, dense
from kernels.registry import HAS_TRITON, Registry, on_first_call

__all__ = [
    "BLOCKS",
    "BLOCK_CHOICE",
    "BLOCK_SCORES",
    "BLOCK_SPARSE",
    "JOINT",
    "RECEIVED",
    "REGISTRY",
    "BlockRule",
    "Int8Tensor",
    "KeyBlocks",
    "Parts",
    "Rows",
    "Segments",
    "between",
    "dense",
]

REGISTRY = Registry[[Tensor, Segments, float, int | None, int], Tensor]("attention")
if HAS_TRITON:
    REGISTRY.add(
        "triton",
        on_first_call("kernels.attention.triton", "attention"),
        devices=("cuda",),
        dtypes=(torch.float32, torch.bfloat16, torch.float16),
    )
REGISTRY.add(
    "tiled",
    tiled.attention,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
REGISTRY.add(
    "sdpa",
    sdpa.attention,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
REGISTRY.add("naive", naive.attention, devices=("cpu", "cuda"), dtypes=(torch.float64,))

BLOCKS = Registry[[Tensor, KeyBlocks, float, int | None, int], Tensor]("attention of blocks")
if HAS_TRITON:
    BLOCKS.add(
        "triton",
        on_first_call("kernels.attention.triton_blocks", "attention"),
        devices=("cuda",),
        dtypes=(torch.float32, torch.bfloat16, torch.float16),
    )
BLOCKS.add(
    "tiled",
    blocks.attention,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)

JOINT = Registry[[Parts, float, int | None], Tensor]("joint attention")
JOINT.add(
    "tiled",
    tiled.joint_attention,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
JOINT.add("naive", naive.joint_attention, devices=("cpu", "cuda"), dtypes=(torch.float64,))

RECEIVED = Registry[[Tensor, Segments, float], Tensor]("attention mass")
RECEIVED.add(
    "tiled",
    received.attention_received,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
RECEIVED.add("naive", naive.attention_received, devices=("cpu", "cuda"), dtypes=(torch.float64,))

BLOCK_SCORES = Registry[[Tensor, Tensor, float, int, int], Tensor]("block scores")
BLOCK_SCORES.add(
    "matmul",
    block_scores.block_logsumexp,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32,),
)
BLOCK_SCORES.add("naive", naive.block_logsumexp, devices=("cpu", "cuda"), dtypes=(torch.float64,))

BLOCK_CHOICE = Registry[[Tensor, Sequence[Tensor], int, float, BlockRule], Tensor]("block choice")
BLOCK_CHOICE.add(
    "matmul",
    block_choice.choose_blocks,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
BLOCK_CHOICE.add("naive", naive.choose_blocks, devices=("cpu", "cuda"), dtypes=(torch.float64,))

BLOCK_SPARSE = Registry[[Tensor, Segments, Tensor, int, float], Tensor]("block-sparse attention")
BLOCK_SPARSE.add(
    "tiled",
    block_sparse.attention,
    devices=("cpu", "cuda"),
    dtypes=(torch.float32, torch.bfloat16, torch.float16),
)
BLOCK_SPARSE.add(
    "naive", naive.block_sparse_attention, devices=("cpu", "cuda"), dtypes=(torch.float64,)
)
