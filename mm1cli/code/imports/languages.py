"""Which resolver follows the imports of a language."""

from collections.abc import Callable

from mm1cli.code.imports.resolver import Resolver
from mm1cli.code.imports.tree import Tree


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
