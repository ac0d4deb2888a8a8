"""Reads files into a `Corpus`. Importing this imports no parser and no torch."""

from mm1cli.ingest.corpus import (
    Block,
    Corpus,
    Document,
    Locator,
    Omission,
    Place,
    Reason,
    Unit,
)
from mm1cli.ingest.read import read_corpus

__all__ = [
    "Block",
    "Corpus",
    "Document",
    "Locator",
    "Omission",
    "Place",
    "Reason",
    "Unit",
    "read_corpus",
]
