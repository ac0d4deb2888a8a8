"""Weights larger than memory, and CPU speed beside its peers. One file per table."""
