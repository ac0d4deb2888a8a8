from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from kernels.ggml.block_type import BlockType
from kernels.ggml.dequantize import dequantize


@dataclass(frozen=True, slots=True, weakref_slot=True)
class GgmlWeight:
    """Blocks of one kind: `packed` [..., O, row bytes] uint8, at any address.

    With `has_int8_rows` what is multiplied with it is rounded to eight bits first: see
    kernels/linear/int8_rows.py. Raises ValueError if rows are no whole number of blocks.
    """

    type: BlockType
    packed: Tensor
    has_int8_rows: bool = False

    def __post_init__(self) -> None:
        row_bytes = self.packed.shape[-1]
        if self.packed.dtype != torch.uint8 or row_bytes % self.type.num_bytes:
            raise ValueError(f"{self.type}: {row_bytes} bytes a row, {self.type.num_bytes} a block")

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[..., O, I]; in float32 what GGML has, bit by bit; exact in float64."""
        precise = torch.float64 if dtype == torch.float64 else torch.float32
        blocks = self.packed.reshape(-1, self.type.num_bytes)
        return dequantize(self.type, blocks, precise).to(dtype).view(self.shape)

    @property
    def shape(self) -> torch.Size:
        """[..., O, I], that of the weight."""
        width = self.packed.shape[-1] // self.type.num_bytes * self.type.elements
        return torch.Size([*self.packed.shape[:-1], width])

    @property
    def num_bytes(self) -> int:
        return self.packed.nbytes

    def __getitem__(self, index: int | slice) -> Self:
        """Some of the first axis: one expert, or some rows. Shares memory."""
        return replace(self, packed=self.packed[index])

    def view(self, *leading: int) -> Self:
        """The same rows under other leading axes: [*leading, I]. Shares memory."""
        return replace(self, packed=self.packed.view(*leading, -1))

    def to(self, device: torch.device) -> Self:
        return replace(self, packed=self.packed.to(device))
