"""The paths of a corpus as import rules ask for them. Nothing is looked up on the disk."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from posixpath import normpath

from mm1cli.code.parsed import Parsed
from mm1cli.code.repo_index import path_key


@dataclass(frozen=True)
class Tree:
    """`parsed` holds what is known of the inside of files, by path; `paths` are all
    files, also those that the corpus left out: an empty `__init__.py` makes a package,
    though it defines nothing. `empty` are those without any text."""

    paths: frozenset[str]
    parsed: Mapping[str, Parsed] = field(default_factory=dict)
    empty: frozenset[str] = frozenset()

    def has(self, path: str) -> bool:
        return path in self.paths

    def first(self, candidates: Iterable[str]) -> str | None:
        return next((path for path in candidates if path in self.paths), None)

    @cached_property
    def folders(self) -> Mapping[str, tuple[str, ...]]:
        """The files right inside each folder, by path bytes. The folder of `a.py` is ""."""
        found: dict[str, list[str]] = {}
        for path in sorted(self.paths, key=path_key):
            found.setdefault(folder_of(path), []).append(path)
        return {folder: tuple(paths) for folder, paths in found.items()}

    @cached_property
    def has_folder(self) -> frozenset[str]:
        """Every folder above a file."""
        return frozenset(above for folder in self.folders for above in folders_above(folder))

    @cached_property
    def by_name(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for path in sorted(self.paths, key=path_key):
            found.setdefault(path.rpartition("/")[2], []).append(path)
        return {name: tuple(paths) for name, paths in found.items()}

    def declaring(self, what: str) -> Iterator[tuple[str, str]]:
        """(path, name) of every file that declares a name of that kind, by path bytes."""
        for path in sorted(self.parsed, key=path_key):
            for name in self.parsed[path].declared(what):
                yield path, name


def folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def folders_above(folder: str) -> Iterator[str]:
    """`folder` itself first, "" last."""
    while folder:
        yield folder
        folder = folder_of(folder)
    yield ""


def joined(folder: str, path: str) -> str | None:
    """`path` seen from `folder`; None where it leaves the corpus."""
    if path.startswith("/") or "\0" in path:
        return None
    whole = normpath(f"{folder}/{path}" if folder else path)
    if whole == ".." or whole.startswith("../"):
        return None
    return "" if whole == "." else whole.removeprefix("./")
