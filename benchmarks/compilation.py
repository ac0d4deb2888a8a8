"""Every Triton kernel in every configuration, compiled for GPUs that are not here.

    python -m benchmarks.compilation

Prints registers, spills and shared memory of each; exits 1 if one spills or does not fit.
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module

from kernels.compilation import Compilation, compile_for

MODULES: tuple[str, ...] = ("kernels.attention.triton",)


def compilations() -> Iterator[Compilation]:
    for module in MODULES:
        yield from import_module(module).COMPILATIONS


def command() -> None:
    rows, misfits = [], []
    print(f"{'kernel':44} {'sm':>4} {'registers':>10} {'spilled B':>10} {'shared B':>9}")
    for compilation in compilations():
        for capability in compilation.capabilities:
            found = compile_for(capability, compilation)
            row = {
                "kernel": compilation.name,
                "capability": capability,
                "registers": found.num_registers,
                "spilled_bytes": found.spilled_bytes,
                "shared_bytes": found.shared_bytes,
                "fits": found.fits,
            }
            rows.append(row)
            print(
                f"{compilation.name:44} {capability:>4} {found.num_registers:>10} "
                f"{found.spilled_bytes:>10} {found.shared_bytes:>9}"
                + ("" if found.fits else "  does not fit")
            )
            if not found.fits:
                misfits.append(f"{compilation.name} on sm_{capability}")
    print(json.dumps({"benchmark": "compilation", "rows": rows}))
    if misfits:
        sys.exit(f"spilled or too large: {', '.join(misfits)}")


if __name__ == "__main__":
    command()
