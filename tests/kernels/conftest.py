"""What tests of the JIT share."""

import pytest

TARGETS = {
    "AVX2": ("x86_64-unknown-linux-gnu", "haswell"),
    "AVX-512": ("x86_64-unknown-linux-gnu", "skylake-avx512"),
    "Arm": ("aarch64-unknown-linux-gnu", "neoverse-n1"),
    "Apple": ("arm64-apple-darwin", "apple-m1"),
}


@pytest.fixture(params=TARGETS)
def instructions_of(request):
    """A function: the instructions LLVM makes of what is written, for one processor after another.

    It fails where code would call functions: on such a machine they are not there, and the process
    dies.
    """
    llvm = pytest.importorskip("llvmlite.binding")
    from kernels.jit.builder import optimised

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple, cpu = TARGETS[request.param]
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)

    def instructions(write):
        code = machine.emit_assembly(optimised(write, machine))
        found = {words[0] for line in code.splitlines() if (words := line.split())}
        assert not found & {"call", "callq", "bl", "blr", "b.l"}
        return found

    return instructions
