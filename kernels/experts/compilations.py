"""Every kernel of the experts, as it is launched."""

from collections.abc import Iterator

from kernels.compilation import Compilation
from kernels.experts import triton
from kernels.linear.compilations import (
    DTYPES,
    compilation,
    group_of,
    quantized_and_plain,
    tiles_of,
)
from kernels.linear.triton import ONE_ROW, SPAN, Blocks

_ROUTING = {
    "expert_ids_ptr": "*i64",
    "expert_weights_ptr": "*fp32",
    "order_ptr": "*i64",
    "experts_ptr": "*i64",
    "firsts_ptr": "*i64",
    "ends_ptr": "*i64",
}


def _compilations() -> Iterator[Compilation]:
    for dtype in DTYPES:
        for name, weight in quantized_and_plain(dtype).items():
            pointers = {**_ROUTING, **weight}
            few = {"GROUP": group_of(name), "OUT": ONE_ROW.out, "WIDTH": ONE_ROW.width}
            for kernel, part in ((triton.gate_up_rows, "gate up"), (triton.down_rows, "down")):
                yield compilation(
                    f"experts {part} few tokens {name}", kernel, dtype, few, pointers, ONE_ROW
                )
            for blocks in tiles_of(dtype):
                many = {
                    "GROUP": group_of(name),
                    "ROWS": blocks.rows,
                    "WIDTH": blocks.width,
                    "SPAN": SPAN,
                }
                for kernel, part, out in (
                    (triton.gate_up_tiles, "gate up", blocks.out // 2),
                    (triton.down_tiles, "down", blocks.out),
                ):
                    yield compilation(
                        f"experts {part} {blocks.rows} rows {name}",
                        kernel,
                        dtype,
                        {**many, "OUT": out},
                        pointers,
                        blocks,
                    )
        yield compilation(
            "experts weighted sum",
            triton.weighted_sums,
            dtype,
            {"WIDTH": triton.SUM_WIDTH},
            _ROUTING,
            Blocks(triton.SUM_WIDTH, 1, 1, 4, 3),
        )


COMPILATIONS = list(_compilations())
