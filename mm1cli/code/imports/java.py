"""Java: a class is a file of its package; the package is what the file says, not its folder."""

from functools import cached_property

from mm1cli.code.imports.resolver import EXTERNAL, UNRESOLVED, Resolution, internal
from mm1cli.code.imports.tree import Tree
from mm1cli.code.parsed import RawImport


class JavaResolver:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def resolve(self, path: str, entry: RawImport) -> Resolution:  # noqa: ARG002
        """a.b.C, a.b.C.Inner, static a.b.C.member, a.b.*."""
        words = entry.module.split(".")
        if entry.names == ("*",) and entry.module in self._packages:
            return internal(*self._packages[entry.module].values())
        for size in range(len(words) - 1, 0, -1):
            package = self._packages.get(".".join(words[:size]))
            if package is None:
                continue
            target = package.get(words[size])
            return internal(target) if target else UNRESOLVED
        return EXTERNAL

    @cached_property
    def _packages(self) -> dict[str, dict[str, str]]:
        """Files by package, by the top-level types they define."""
        found: dict[str, dict[str, str]] = {}
        for path, name in self._tree.declaring("package"):
            if not path.endswith(".java"):
                continue
            package = found.setdefault(name, {})
            for definition in self._tree.parsed[path].definitions:
                if not definition.scope:
                    package.setdefault(definition.name, path)
        return found
