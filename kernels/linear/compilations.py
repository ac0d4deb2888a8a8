"""Every kernel of matmuls with int8 and int4 weights, as it is launched."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from kernels.compilation import Compilation
from kernels.linear import triton
from kernels.linear.triton import ONE_ROW, SPAN, SUM_OUT, Blocks, tile_blocks
from kernels.quantized import GROUPS

# The hardest last: a quick check compiles the last one listed of each kernel.
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_SMALL, _LARGE = 1, 1000  # M that takes each kind of tile

_WEIGHTS: dict[str, dict[str, str | None]] = {
    "int8": {"weight_ptr": "*i8", "scale_ptr": "*fp32", "offset_ptr": None},
    **{
        f"int4/{group}": {"weight_ptr": "*u8", "scale_ptr": "*fp16", "offset_ptr": "*fp16"}
        for group in GROUPS
    },
}


def quantized_and_plain(dtype: str) -> dict[str, dict[str, str | None]]:
    """The pointers of a weight, None where there is none, by the weight's name."""
    return {"plain": {"weight_ptr": f"*{dtype}", "scale_ptr": None, "offset_ptr": None}, **_WEIGHTS}


def tiles_of(dtype: str) -> list[Blocks]:
    return list(dict.fromkeys(tile_blocks(rows, DTYPES[dtype]) for rows in (_SMALL, _LARGE)))


def compilation(
    name: str,
    kernel: Any,  # noqa: ANN401
    dtype: str,
    constants: Mapping[str, int],
    pointers: Mapping[str, str | None],
    blocks: Blocks,
) -> Compilation:
    """`kernel` for activations of `dtype`; pointers not named in `pointers` are to that, too.

    Sizes are run-time arguments that are multiples of 16, as MiniMax-M1's are (6144, 9216).
    """
    values: dict[str, Any] = dict(constants)
    signature, aligned = {}, []
    for argument in kernel.arg_names:
        if argument in values:
            signature[argument] = "constexpr"
        elif argument.endswith("_ptr"):
            kind = pointers.get(argument, f"*{dtype}")
            signature[argument] = kind or "constexpr"
            if kind is None:
                values[argument] = None
            else:
                aligned.append(argument)
        else:
            signature[argument] = "i32"
            if argument in ("num_columns", "num_inner", "num_out", "split_columns"):
                aligned.append(argument)
    return Compilation(
        f"{name} {dtype}",
        kernel,
        signature,
        values,
        blocks.num_warps,
        blocks.num_stages,
        tuple(aligned),
    )


def group_of(name: str) -> int:
    """The GROUP a kernel is given for the weight called `name`."""
    return int(name.partition("/")[2] or 0)


def _compilations() -> Iterator[Compilation]:
    for dtype in DTYPES:
        for name, pointers in _WEIGHTS.items():
            constants = {"GROUP": group_of(name), "OUT": ONE_ROW.out, "WIDTH": ONE_ROW.width}
            for out, kind in (("splits", "*fp32"), ("whole", f"*{dtype}")):
                yield compilation(
                    f"linear one row {name} {out}",
                    triton.one_row,
                    dtype,
                    constants,
                    {**pointers, "out_ptr": kind},
                    ONE_ROW,
                )
            for blocks in tiles_of(dtype):
                constants = {
                    "GROUP": group_of(name),
                    "OUT": blocks.out,
                    "ROWS": blocks.rows,
                    "WIDTH": blocks.width,
                    "SPAN": SPAN,
                }
                yield compilation(
                    f"linear {blocks.rows} rows {name}",
                    triton.tiles,
                    dtype,
                    constants,
                    pointers,
                    blocks,
                )
        yield compilation(
            "linear sum of splits",
            triton.sum_splits,
            dtype,
            {"OUT": SUM_OUT},
            {"partial_ptr": "*fp32"},
            Blocks(SUM_OUT, 1, 1, 4, 3),
        )


COMPILATIONS = list(_compilations())
