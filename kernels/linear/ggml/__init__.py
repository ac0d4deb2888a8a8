"""Matmuls with GGML's blocks on CPUs: x is rounded to int16, and all sums of 32 columns are exact."""
