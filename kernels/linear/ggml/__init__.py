"""Matmuls with GGML's blocks on CPUs: x as int16, and sums of 32 columns that are exact."""
