"""Every Triton kernel in every configuration, compiled for GPUs that are not here.

    python -m benchmarks.compilation [--quick]

Prints registers, spills and shared memory of each; exits 1 if one spills or does not fit. It takes
about two seconds each. Quick is the last configuration listed of each kernel, for one GPU.
"""

import json
import sys
from importlib import import_module

from kernels.compilation import CAPABILITIES, Compilation, compile_for

MODULES: tuple[str, ...] = (
    "kernels.experts.compilations",
    "kernels.linear.compilations",
    "kernels.norm.triton",
)
_QUICK_CAPABILITIES = (90,)


def compilations(*, quick: bool) -> list[Compilation]:
    found = [each for module in MODULES for each in import_module(module).COMPILATIONS]
    return list({id(each.kernel): each for each in found}.values()) if quick else found


def command() -> None:
    rows, misfits = [], []
    quick = "--quick" in sys.argv[1:]
    print(f"{'kernel':44} {'sm':>4} {'registers':>10} {'spilled B':>10} {'shared B':>9}")
    for compilation in compilations(quick=quick):
        for capability in _QUICK_CAPABILITIES if quick else CAPABILITIES:
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
