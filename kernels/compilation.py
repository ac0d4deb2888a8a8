"""Compiles Triton kernels for a GPU that is not here, and says what they would take of it.

Every `triton.py` lists its `COMPILATIONS`: each kernel in each shape and dtype it is launched
with. `python -m benchmarks.compilation` prints them all.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CAPABILITIES = (80, 90, 100)  # A100, H100 and H200, B200

# Shared memory of one thread block, bytes: CUDA C++ Programming Guide, "Technical Specifications".
_SHARED_LIMIT_BYTES = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}


@dataclass(frozen=True, slots=True)
class Compilation:
    """One kernel with all that decides its machine code.

    `signature` maps each argument to "*bf16", "*fp32", "*i8", "i64", ... in the kernel's order,
    "constexpr" where `constants` has its value. Arguments in `aligned` are multiples of 16. It is
    launched so on GPUs of `capabilities`.
    """

    name: str
    kernel: Any  # a function under @triton.jit
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 2
    aligned: tuple[str, ...] = field(default=())
    capabilities: tuple[int, ...] = CAPABILITIES


@dataclass(frozen=True, slots=True)
class Resources:
    """What one thread (registers, spills) and one thread block (shared memory) take."""

    num_registers: int
    spilled_bytes: int
    shared_bytes: int
    shared_limit_bytes: int

    @property
    def fits(self) -> bool:
        return not self.spilled_bytes and self.shared_bytes <= self.shared_limit_bytes


def compile_for(capability: int, compilation: Compilation) -> Resources:
    """Compiles without a GPU. Raises whatever Triton or ptxas cannot do.

    Does nothing useful under TRITON_INTERPRET=1, where there is nothing to compile.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = list(compilation.signature)
    source = ASTSource(
        compilation.kernel,
        signature=dict(compilation.signature),
        constexprs=dict(compilation.constants),
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in compilation.aligned},
    )
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": compilation.num_warps, "num_stages": compilation.num_stages},
    )
    usage = _resource_usage(compiled.asm["cubin"])
    return Resources(
        num_registers=usage["REG"],
        spilled_bytes=usage["LOCAL"] + usage["STACK"],
        shared_bytes=compiled.metadata.shared,
        shared_limit_bytes=_SHARED_LIMIT_BYTES[capability],
    )


def _resource_usage(cubin: bytes) -> dict[str, int]:
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", printed)}
