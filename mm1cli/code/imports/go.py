"""Go: a package is a folder, named from its module's path or under `vendor`."""

from functools import cached_property

from mm1cli.code.imports.resolver import EXTERNAL, UNRESOLVED, Resolution, internal
from mm1cli.code.imports.tree import Tree, folder_of, folders_above
from mm1cli.code.parsed import RawImport


class GoResolver:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def resolve(self, path: str, entry: RawImport) -> Resolution:
        """All files of the package but its tests."""
        for module, folder in self._modules:
            if entry.module == module or entry.module.startswith(f"{module}/"):
                inner = entry.module[len(module) :].lstrip("/")
                files = self._package("/".join(filter(None, (folder, inner))))
                return internal(*files) if files else UNRESOLVED
        for above in folders_above(folder_of(path)):
            vendored = f"{above}/vendor/{entry.module}".lstrip("/")
            if files := self._package(vendored):
                return internal(*files)
        return EXTERNAL

    def _package(self, folder: str) -> tuple[str, ...]:
        return tuple(
            path
            for path in self._tree.folders.get(folder, ())
            if path.endswith(".go") and not path.endswith("_test.go")
        )

    @cached_property
    def _modules(self) -> list[tuple[str, str]]:
        """(module path, folder), the longest path first: modules may be nested."""
        found = [
            (name, folder_of(path))
            for path, name in self._tree.declaring("module")
            if "vendor" not in path.split("/")
        ]
        return sorted(found, key=lambda pair: -len(pair[0]))
