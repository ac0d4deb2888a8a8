"""C and C++: quoted includes from the file's own folder, then by the end of a path."""

from mm1cli.code.imports.resolver import EXTERNAL, UNRESOLVED, Resolution, internal
from mm1cli.code.imports.tree import Tree, folder_of, joined
from mm1cli.code.parsed import RawImport


class CResolver:
    """Which folders a build searches is not known here. A quoted header is the file of that name
    nearest to the one that includes it; <one> is only followed into a folder called `include`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def resolve(self, path: str, entry: RawImport) -> Resolution:
        if entry.kind == "dynamic":
            return UNRESOLVED
        own = joined(folder_of(path), entry.module) if entry.kind == "quoted" else None
        if own is not None and self._tree.has(own):
            return internal(own)
        name = entry.module.rpartition("/")[2]
        end = entry.module if entry.kind == "quoted" else f"include/{entry.module}"
        ends = [
            candidate
            for candidate in self._tree.by_name.get(name, ())
            if candidate == end or candidate.endswith(f"/{end}")
        ]
        if ends:
            return internal(max(ends, key=lambda candidate: _shared_parts(candidate, path)))
        return UNRESOLVED if entry.kind == "quoted" else EXTERNAL


def _shared_parts(a: str, b: str) -> int:
    """How many folders two paths have in common; of equals, `max` takes the first."""
    shared = 0
    for one, other in zip(a.split("/")[:-1], b.split("/")[:-1], strict=False):
        if one != other:
            break
        shared += 1
    return shared
