"""Contexts on disk; see `store.py` for what a folder holds and what is promised."""
