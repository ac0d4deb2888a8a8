"""Rust: `mod x;` names a file, `use` walks the module tree from the crate's root or from here."""

from functools import cached_property

from mm1cli.code.imports.resolver import EXTERNAL, UNRESOLVED, Resolution, internal
from mm1cli.code.imports.tree import Tree, folder_of, folders_above, joined
from mm1cli.code.parsed import RawImport

_ROOTS = ("lib.rs", "main.rs")
_OWN_FOLDER = (*_ROOTS, "mod.rs")  # whose modules stand beside them, not in a folder of their name
_PROGRAM_FOLDERS = ("bin", "examples", "tests", "benches")


class RustResolver:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def resolve(self, path: str, entry: RawImport) -> Resolution:
        if entry.kind == "mod":
            target = self._child(self._inside(path, entry.within), entry.module)
            return internal(target) if target else UNRESOLVED
        words = [word.removeprefix("r#") for word in entry.module.split("::") if word]
        if not words:
            return UNRESOLVED
        first, rest = words[0], words[1:]
        if first == "crate":
            root = self._root(path)
            return self._walk(root, rest) if root else UNRESOLVED
        if first in ("self", "super"):
            return self._from_here(path, entry.within, words)
        if (library := self._crates.get(first)) is not None:
            return self._walk(library, rest)
        if self._child(self._inside(path, entry.within), first):
            return self._walk(path, words, entry.within)
        return EXTERNAL

    def _from_here(self, path: str, within: tuple[str, ...], words: list[str]) -> Resolution:
        at: str | None = path
        while words and words[0] in ("self", "super") and at is not None:
            if words[0] == "super":
                if within:
                    within = within[:-1]
                else:
                    at = self._parent(at)
            words = words[1:]
        return self._walk(at, words, within) if at is not None else UNRESOLVED

    def _walk(self, path: str, words: list[str], within: tuple[str, ...] = ()) -> Resolution:
        """As far as words are files; what follows is defined in the last of them."""
        for word in words:
            inner = self._child(self._inside(path, within), word)
            if inner is None:
                break
            path, within = inner, ()
        return internal(path)

    def _inside(self, path: str, within: tuple[str, ...]) -> str:
        """The folder that the modules of a file stand in."""
        folder, name = folder_of(path), path.rpartition("/")[2]
        if name not in _OWN_FOLDER and path not in self._program_roots:
            folder = path.removesuffix(".rs")
        return "/".join(filter(None, (folder, *within)))

    def _child(self, folder: str, name: str) -> str | None:
        base = f"{folder}/{name}" if folder else name
        return self._tree.first((f"{base}.rs", f"{base}/mod.rs"))

    def _parent(self, path: str) -> str | None:
        folder = folder_of(path)
        if path.rpartition("/")[2] == "mod.rs":
            folder = folder_of(folder)
        inside = f"{folder}/" if folder else ""
        beside = [f"{inside}{name}" for name in (*_ROOTS, "mod.rs") if f"{inside}{name}" != path]
        return self._tree.first([*beside, f"{folder}.rs"])

    def _root(self, path: str) -> str | None:
        """That of the crate a file belongs to: its own, if it is a program, else the library's."""
        if path in self._program_roots:
            return path
        for above in folders_above(folder_of(path)):
            inside = f"{above}/" if above else ""
            if root := self._tree.first(f"{inside}{name}" for name in _ROOTS):
                return root
            if f"{inside}Cargo.toml" in self._tree.paths:
                return self._crate_folders.get(above)
        return None

    @cached_property
    def _program_roots(self) -> frozenset[str]:
        """src/bin/x.rs, tests/x.rs: each a crate of its own."""
        found: set[str] = set()
        for folder, paths in self._tree.folders.items():
            name = folder.rpartition("/")[2]
            above = folder_of(folder)
            crate = folder_of(above) if name == "bin" else above
            manifest = f"{crate}/Cargo.toml" if crate else "Cargo.toml"
            if name in _PROGRAM_FOLDERS and manifest in self._tree.paths:
                found.update(path for path in paths if path.endswith(".rs"))
        return frozenset(found)

    @cached_property
    def _crate_folders(self) -> dict[str, str]:
        """The library's root file of each folder with a Cargo.toml."""
        found = {}
        for path, _ in self._tree.declaring("crate"):
            folder = folder_of(path)
            declared = [*self._tree.parsed[path].declared("lib"), "src/lib.rs", "src/main.rs"]
            candidates = (joined(folder, name) for name in declared)
            if root := self._tree.first(c for c in candidates if c is not None):
                found[folder] = root
        return found

    @cached_property
    def _crates(self) -> dict[str, str]:
        return {
            name: self._crate_folders[folder_of(path)]
            for path, name in self._tree.declaring("crate")
            if folder_of(path) in self._crate_folders
        }
