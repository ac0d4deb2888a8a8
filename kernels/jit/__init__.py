"""A JIT for small M: functions written for LLVM at run time. Of all rooms only this one and the
`jit_ir.py` of each op know llvmlite.
"""
