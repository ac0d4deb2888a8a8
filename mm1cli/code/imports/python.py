"""Python: relative imports, packages, `src` layouts, scripts beside their modules."""

import sys
from collections.abc import Iterator
from functools import cached_property

from mm1cli.code.imports.resolver import EXTERNAL, UNRESOLVED, Resolution, internal
from mm1cli.code.imports.tree import Tree, folder_of, folders_above
from mm1cli.code.parsed import RawImport
from mm1cli.code.repo_index import by_path

_PROJECT_FILES = ("pyproject.toml", "setup.cfg", "setup.py")
_SUFFIXES = (".py", "/__init__.py", ".pyi", "/__init__.pyi")


class PythonResolver:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def resolve(self, path: str, entry: RawImport) -> Resolution:
        level = len(entry.module) - len(entry.module.lstrip("."))
        parts = tuple(filter(None, entry.module.split(".")))
        if level:
            return self._relative(path, level, parts, entry)
        if not parts:
            return UNRESOLVED
        is_ours = False
        for root in self._roots(path, parts[0]):
            if self._has(root, parts[0]):
                is_ours = True
                if found := self._inside(root, parts, entry):
                    return found
        return UNRESOLVED if is_ours else EXTERNAL

    def _relative(
        self, path: str, level: int, parts: tuple[str, ...], entry: RawImport
    ) -> Resolution:
        folder = folder_of(path)
        for _ in range(level - 1):
            if not folder:
                return UNRESOLVED
            folder = folder_of(folder)
        return self._inside(folder, parts, entry) or UNRESOLVED

    def _inside(self, root: str, parts: tuple[str, ...], entry: RawImport) -> Resolution | None:
        """The module, or for `from package import module` the modules that are named."""
        base = "/".join(filter(None, (root, *parts)))
        module = self._module(base) if parts else self._package(base)
        if entry.kind != "from":
            return internal(module) if module else None
        is_folder = base in self._tree.has_folder
        targets = []
        for name in entry.names:
            submodule = self._module(f"{base}/{name}" if base else name) if is_folder else None
            if submodule:
                targets.append(submodule)
            elif module and module not in self._tree.empty:
                targets.append(module)
        return internal(*targets) if targets else None

    def _module(self, base: str) -> str | None:
        return self._tree.first(f"{base}{suffix}" for suffix in _SUFFIXES)

    def _package(self, base: str) -> str | None:
        return self._tree.first(
            f"{base}/{name}" if base else name for name in ("__init__.py", "__init__.pyi")
        )

    def _has(self, root: str, name: str) -> bool:
        base = f"{root}/{name}" if root else name
        return self._module(base) is not None or base in self._folders_with_python

    def _roots(self, path: str, name: str) -> Iterator[str]:
        """Folders from which an absolute import may start, the likeliest first.

        Not a package's own folder: there `import json` means the library even beside json.py.
        """
        near = [above for above in folders_above(folder_of(path)) if not self._package(above)]
        # A file in engine/ that says `engine` means that folder before the module in it.
        near.sort(key=lambda above: not path.startswith(f"{above}/{name}/".lstrip("/")))
        for above in near:
            yield above
            yield f"{above}/src" if above else "src"
        if name not in sys.stdlib_module_names:
            yield from self._far_roots

    @cached_property
    def _far_roots(self) -> tuple[str, ...]:
        """Where top-level packages stand, and projects with their `src`."""
        roots = set()
        for folder, paths in self._tree.folders.items():
            names = {path.rpartition("/")[2] for path in paths}
            if "__init__.py" in names:
                top = next(a for a in folders_above(folder) if not a or not self._package(a))
                roots.add(top)
            if names.intersection(_PROJECT_FILES):
                roots |= {folder, f"{folder}/src" if folder else "src"}
        return by_path(roots)

    @cached_property
    def _folders_with_python(self) -> frozenset[str]:
        """Namespace packages, at some depth."""
        return frozenset(
            above
            for folder, paths in self._tree.folders.items()
            if any(path.endswith((".py", ".pyi")) for path in paths)
            for above in folders_above(folder)
            if above
        )
