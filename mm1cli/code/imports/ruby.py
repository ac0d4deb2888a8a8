"""Ruby: require_relative, and require from a `lib` folder above."""

from mm1cli.code.imports.resolver import EXTERNAL, UNRESOLVED, Resolution, internal
from mm1cli.code.imports.tree import Tree, folder_of, folders_above, joined
from mm1cli.code.parsed import RawImport


class RubyResolver:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def resolve(self, path: str, entry: RawImport) -> Resolution:
        if entry.kind == "relative":
            target = self._file(folder_of(path), entry.module)
            return internal(target) if target else UNRESOLVED
        for above in folders_above(folder_of(path)):
            if target := self._file(f"{above}/lib" if above else "lib", entry.module):
                return internal(target)
        return EXTERNAL

    def _file(self, folder: str, module: str) -> str | None:
        base = joined(folder, module)
        return None if base is None else self._tree.first((base, f"{base}.rb"))
