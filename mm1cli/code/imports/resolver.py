"""What every language's rules have in common, and the choice of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mm1cli.code.facts import Status
from mm1cli.code.imports.tree import Tree
from mm1cli.code.parsed import RawImport


@dataclass(frozen=True, slots=True)
class Resolution:
    status: Status
    targets: tuple[str, ...] = ()


class Resolver(Protocol):
    """Made once for a corpus; `resolve` is asked for each import of the file at `path`."""

    def resolve(self, path: str, entry: RawImport) -> Resolution: ...


EXTERNAL = Resolution(Status.EXTERNAL)
UNRESOLVED = Resolution(Status.UNRESOLVED)


def internal(*targets: str) -> Resolution:
    return Resolution(Status.INTERNAL, tuple(dict.fromkeys(targets)))


def resolver_for(grammar: str, tree: Tree) -> Resolver | None:
    """None for a language whose imports are not followed."""
    from mm1cli.code.imports.c import CResolver
    from mm1cli.code.imports.go import GoResolver
    from mm1cli.code.imports.java import JavaResolver
    from mm1cli.code.imports.javascript import JavaScriptResolver
    from mm1cli.code.imports.python import PythonResolver
    from mm1cli.code.imports.ruby import RubyResolver
    from mm1cli.code.imports.rust import RustResolver

    makers: dict[str, Callable[[Tree], Resolver]] = {
        "python": PythonResolver,
        "javascript": JavaScriptResolver,
        "go": GoResolver,
        "rust": RustResolver,
        "java": JavaResolver,
        "c": CResolver,
        "ruby": RubyResolver,
    }
    same = {"typescript": "javascript", "tsx": "javascript", "cpp": "c"}
    make = makers.get(same.get(grammar, grammar))
    return make(tree) if make else None
