"""Tokens in, tokens out. Knows no document and no terminal."""

import os

# Before any of its modules loads torch; kernels/__init__.py says why.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
