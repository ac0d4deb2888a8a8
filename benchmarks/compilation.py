"""Every Triton kernel in every configuration, compiled for GPUs that are not here.

    python -m benchmarks.compilation [--anew | --check]

Prints registers, spills and shared memory of each; exits 1 if one spills or does not fit. A
compilation takes about two seconds, so what came of it is kept in benchmarks/compilation.json by a
hash of all that decides it: the kernel's text and what it calls, its configuration, the GPU and
Triton's version. What is known is not compiled again without --anew; --check writes nothing.
"""

import hashlib
import json
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from kernels.compilation import Compilation, Resources, compile_for

MODULES: tuple[str, ...] = (
    "kernels.attention.triton",
    "kernels.experts.compilations",
    "kernels.lightning.triton",
    "kernels.linear.compilations",
    "kernels.norm.triton",
)
KNOWN = Path(__file__).with_suffix(".json")


def compilations() -> list[Compilation]:
    return [each for module in MODULES for each in import_module(module).COMPILATIONS]


def identity(compilation: Compilation, capability: int) -> str:
    """A hash of all that the machine code depends on."""
    import triton

    parts = (
        triton.__version__,
        compilation.kernel.cache_key,  # its text and that of every function it calls
        sorted(compilation.signature.items()),
        sorted((name, str(value)) for name, value in compilation.constants.items()),
        (compilation.num_warps, compilation.num_stages, sorted(compilation.aligned)),
        capability,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def command() -> None:
    known: dict[str, dict[str, int]] = {}
    if KNOWN.exists() and "--anew" not in sys.argv[1:]:
        known = json.loads(KNOWN.read_text(encoding="utf-8"))
    found, rows, misfits = {}, [], []
    print(f"{'kernel':52} {'sm':>4} {'registers':>10} {'spilled B':>10} {'shared B':>9}")
    for compilation in compilations():
        for capability in compilation.capabilities:
            key = identity(compilation, capability)
            is_known = key in known
            one = Resources(**known[key]) if is_known else compile_for(capability, compilation)
            found[key] = asdict(one)
            rows.append({"kernel": compilation.name, "capability": capability, **asdict(one)})
            print(
                f"{compilation.name:52} {capability:>4} {one.num_registers:>10} "
                f"{one.spilled_bytes:>10} {one.shared_bytes:>9}"
                + ("" if one.fits else "  does not fit")
                + ("" if is_known else "  compiled now"),
                flush=True,
            )
            if not one.fits:
                misfits.append(f"{compilation.name} on sm_{capability}")
    if misfits:
        sys.exit(f"spilled or too large: {', '.join(misfits)}")
    if found != known and "--check" not in sys.argv[1:]:
        lines = (f"{json.dumps(key)}: {json.dumps(found[key])}" for key in sorted(found))
        KNOWN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(json.dumps({"benchmark": "compilation", "rows": rows}))


if __name__ == "__main__":
    command()
