"""The kinds of block served here, and their sizes: ggml/src/ggml-common.h of the GGML library."""

from enum import StrEnum

_SIZES = {  # elements, bytes
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "IQ4_NL": (32, 18),
    "IQ4_XS": (256, 136),
    "MXFP4": (32, 17),
}


class BlockType(StrEnum):
    """A kind of block, called as GGML calls it."""

    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q5_0 = "Q5_0"
    Q5_1 = "Q5_1"
    Q8_0 = "Q8_0"
    Q2_K = "Q2_K"
    Q3_K = "Q3_K"
    Q4_K = "Q4_K"
    Q5_K = "Q5_K"
    Q6_K = "Q6_K"
    IQ4_NL = "IQ4_NL"
    IQ4_XS = "IQ4_XS"
    MXFP4 = "MXFP4"

    @property
    def elements(self) -> int:
        """Weights in a block."""
        return _SIZES[self.value][0]

    @property
    def num_bytes(self) -> int:
        """Bytes of a block."""
        return _SIZES[self.value][1]

    def row_bytes(self, width: int) -> int:
        """Bytes of a row of `width` weights; ValueError if they are no whole number of blocks."""
        if width <= 0 or width % self.elements:
            raise ValueError(f"{self}: {width} columns are no blocks of {self.elements}")
        return width // self.elements * self.num_bytes
