"""The kinds of block served here, and their sizes: ggml/src/ggml-common.h of the GGML library."""

from enum import StrEnum
from typing import Self


class BlockType(StrEnum):
    """A kind of block, called as GGML calls it: `elements` weights in `num_bytes` bytes."""

    elements: int
    num_bytes: int

    Q4_0 = "Q4_0", 32, 18
    Q4_1 = "Q4_1", 32, 20
    Q5_0 = "Q5_0", 32, 22
    Q5_1 = "Q5_1", 32, 24
    Q8_0 = "Q8_0", 32, 34
    Q2_K = "Q2_K", 256, 84
    Q3_K = "Q3_K", 256, 110
    Q4_K = "Q4_K", 256, 144
    Q5_K = "Q5_K", 256, 176
    Q6_K = "Q6_K", 256, 210
    IQ4_NL = "IQ4_NL", 32, 18
    IQ4_XS = "IQ4_XS", 256, 136
    MXFP4 = "MXFP4", 32, 17

    def __new__(cls, name: str, elements: int, num_bytes: int) -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.elements, member.num_bytes = elements, num_bytes
        return member

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` weights; ValueError if they are no whole number of blocks."""
        if width <= 0 or width % self.elements:
            raise ValueError(f"{self}: {width} columns are no blocks of {self.elements}")
        return width // self.elements * self.num_bytes
