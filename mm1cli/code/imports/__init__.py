"""From an import as written to files of the corpus, one file for each language's rules."""

from mm1cli.code.imports.languages import resolver_for
from mm1cli.code.imports.resolver import Resolution, Resolver
from mm1cli.code.imports.tree import Tree

__all__ = ["Resolution", "Resolver", "Tree", "resolver_for"]
