"""The noun `RepoIndex`: what stands where in a repository. Lines count from 1, as `Locator`s do."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from mm1cli.code.graph import Graph

LARGEST = 20
FUNCTION_KINDS = frozenset({"function", "method"})


class Mark(StrEnum):
    """What a file is besides source that people here write and run."""

    TEST = "test"
    GENERATED = "generated"
    VENDORED = "vendored"
    MINIFIED = "minified"
    LOCK = "lock file"


class Status(StrEnum):
    """What became of an import."""

    INTERNAL = "internal"  # leads to files of the repository; `targets` are those of the corpus
    EXTERNAL = "external"  # names something that is not of this repository
    UNRESOLVED = "unresolved"  # looks like the repository's own, and no file was found


@dataclass(frozen=True, slots=True)
class Definition:
    """`kind` is "function", "method", "class", ...; `scope` names what encloses it, outermost
    first. A decorator is not part of it, a doc comment before it neither."""

    path: str
    name: str
    kind: str
    first: int
    last: int
    scope: tuple[str, ...] = ()

    @property
    def num_lines(self) -> int:
        return self.last - self.first + 1

    @property
    def qualified_name(self) -> str:
        return ".".join((*self.scope, self.name))


@dataclass(frozen=True, slots=True)
class Import:
    """One module, header or crate path named at a place. `module` is as written, `names` are what
    is taken from it. A deferred import runs later than its file, or never: inside a function,
    under TYPE_CHECKING, `import type`, and Rust's `mod x;`, which declares and does not use."""

    path: str
    line: int
    module: str
    names: tuple[str, ...]
    status: Status
    targets: tuple[str, ...]
    is_deferred: bool = False


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """Where running begins: `kind` is "main", "console script", "make target", ..."""

    path: str
    line: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One document of the corpus. `num_bytes` are the file's, `num_lines` those of its text.

    `unparsed` says why nothing is known of the inside of a source file; "" otherwise, also for
    files that are no source code. `first_error` is the line where the grammar first gave up, in a
    file that was read around it. `num_cut` definitions and imports are too many to be kept.
    """

    path: str
    language: str
    num_lines: int
    num_bytes: int
    marks: tuple[Mark, ...] = ()
    is_code: bool = False
    unparsed: str = ""
    first_error: int | None = None
    num_cut: int = 0

    @property
    def is_own(self) -> bool:
        """Written by people of this repository, tests included."""
        return not self.marks or self.marks == (Mark.TEST,)


@dataclass(frozen=True, slots=True)
class LanguageTotal:
    language: str
    num_files: int
    num_lines: int
    num_bytes: int
    is_code: bool


@dataclass(frozen=True)
class RepoIndex:
    """Files in corpus order; everything else by file, then by line. `submodules` are paths."""

    files: tuple[FileFacts, ...]
    definitions: tuple[Definition, ...]
    imports: tuple[Import, ...]
    entry_points: tuple[EntryPoint, ...]
    submodules: tuple[str, ...]
    graph: Graph

    @cached_property
    def languages(self) -> tuple[LanguageTotal, ...]:
        """Code first, then by bytes, the most first."""
        groups: dict[tuple[str, bool], list[FileFacts]] = {}
        for file in self.files:
            groups.setdefault((file.language, file.is_code), []).append(file)
        totals = (
            LanguageTotal(
                language,
                len(files),
                sum(file.num_lines for file in files),
                sum(file.num_bytes for file in files),
                is_code,
            )
            for (language, is_code), files in groups.items()
        )
        return tuple(sorted(totals, key=lambda t: (not t.is_code, -t.num_bytes, t.language)))

    @cached_property
    def import_counts(self) -> dict[Status, int]:
        counts = Counter(entry.status for entry in self.imports)
        return {status: counts[status] for status in Status}

    @cached_property
    def definitions_in(self) -> dict[str, tuple[Definition, ...]]:
        """By path, for files that have any."""
        found: dict[str, list[Definition]] = {}
        for definition in self.definitions:
            found.setdefault(definition.path, []).append(definition)
        return {path: tuple(definitions) for path, definitions in found.items()}

    def around(self, path: str, line: int) -> Definition | None:
        """The innermost definition that the line is in."""
        inside = (d for d in self.definitions_in.get(path, ()) if d.first <= line <= d.last)
        return min(inside, key=lambda d: (d.num_lines, -len(d.scope)), default=None)

    @property
    def unparsed(self) -> tuple[FileFacts, ...]:
        return tuple(file for file in self.files if file.unparsed)

    def marked(self, mark: Mark) -> tuple[FileFacts, ...]:
        return tuple(file for file in self.files if mark in file.marks)

    @cached_property
    def largest_functions(self) -> tuple[Definition, ...]:
        """The longest `LARGEST` of the repository's own, the longest first."""
        own = {file.path for file in self.files if file.is_own}
        found = (d for d in self.definitions if d.kind in FUNCTION_KINDS and d.path in own)
        return tuple(sorted(found, key=_by_length)[:LARGEST])

    @cached_property
    def largest_files(self) -> tuple[FileFacts, ...]:
        """The longest `LARGEST` source files of the repository's own."""
        own = (file for file in self.files if file.is_own and file.is_code)
        return tuple(sorted(own, key=lambda f: (-f.num_lines, path_key(f.path)))[:LARGEST])

    @cached_property
    def most_used(self) -> tuple[tuple[str, int], ...]:
        """Files that others import, and by how many files, the most first."""
        users = Counter(target for targets in self.graph.uses.values() for target in targets)
        return tuple(sorted(users.items(), key=lambda pair: (-pair[1], path_key(pair[0]))))


def path_key(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def by_path(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(paths), key=path_key))


def _by_length(definition: Definition) -> tuple[int, bytes, int]:
    return -definition.num_lines, path_key(definition.path), definition.first
