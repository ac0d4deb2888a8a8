"""Machine code for few rows, written for LLVM at run time; the only room that knows llvmlite, with
the `jit_ir.py` of each op."""
