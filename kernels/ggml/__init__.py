"""Weights as GGML's files have them: rows of blocks of codes and their scales.

Nothing is converted: what is multiplied with is what lies in the file, of which a weight may be a
memory-mapped view.
"""

from kernels.ggml.block_type import BlockType as BlockType
from kernels.ggml.weight import GgmlWeight as GgmlWeight
