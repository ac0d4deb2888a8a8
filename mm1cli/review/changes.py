"""A change: a unified diff, held against the files of the repository as they are now."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unidiff import patch as unidiff
from unidiff.constants import DEV_NULL
from unidiff.patch import PatchedFile, PatchSet

from mm1cli.errors import UsageError
from mm1cli.ingest.corpus import Corpus, Document
from mm1cli.ingest.display_names import one_line, shown_path

_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true")
_DIFF = (
    *("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--find-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--submodule=short", "--relative"),
)
NOT_HERE = "no such file here"
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))


@dataclass(frozen=True, slots=True)
class Hunk:
    """A hunk: `lines` of a file as it is now, from line `first` on; `added` those that the change
    put there, `removed` others with the line they stood before."""

    first: int
    lines: tuple[str, ...]
    added: frozenset[int]
    removed: tuple[tuple[int, str], ...]

    @property
    def last(self) -> int:
        return self.first + max(len(self.lines), 1) - 1

    @property
    def text(self) -> str:
        gone: dict[int, list[str]] = {}
        for before, line in self.removed:
            gone.setdefault(before, []).append(line)
        lines = []
        for number in range(self.first, self.first + len(self.lines) + 1):
            lines += [f"     -|{line}\n" for line in gone.get(number, ())]
            if number - self.first < len(self.lines):
                mark = "+" if number in self.added else " "
                lines.append(f"{number:5}{mark}|{self.lines[number - self.first]}\n")
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class Change:
    """`hunks` by the path of a document. `elsewhere` are (path, why) of what the diff names
    and no lines can be shown of; `lost` those of them that a diff of these files would not name.
    `text` is the change as a model reads it."""

    hunks: Mapping[str, tuple[Hunk, ...]]
    elsewhere: tuple[tuple[str, str], ...]
    lost: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        return "".join(["The change:\n", *(text for _, text in self.parts())])

    def parts(self) -> Iterator[tuple[str, str]]:
        """(path, its part of `text`)."""
        for path, hunks in self.hunks.items():
            text = "".join(f"{hunk.text}\n" for hunk in hunks)
            yield path, f"\nChanged: {path}\n{text}"
        for path, why in self.elsewhere:
            yield path, f"\nChanged: {path} ({why})\n"

    def only(self, is_chosen: Callable[[str], bool]) -> "Change":
        """The change of the files whose paths are chosen; the others are `elsewhere`."""
        left = [(path, "not in --paths") for path in self.hunks if not is_chosen(path)]
        kept = {path: found for path, found in self.hunks.items() if is_chosen(path)}
        return Change(kept, (*self.elsewhere, *left), self.lost)

    @property
    def added(self) -> dict[str, frozenset[int]]:
        """The lines that the change put there, by path."""
        return {
            path: frozenset(line for hunk in hunks for line in hunk.added)
            for path, hunks in self.hunks.items()
        }

    def adds(self, path: str, line: int) -> bool:
        return any(line in hunk.added for hunk in self.hunks.get(path, ()))

    def touches(self, path: str, first: int, last: int) -> bool:
        """Whether a line was added there, or one removed within or right beside."""
        for hunk in self.hunks.get(path, ()):
            if any(line in hunk.added for line in range(first, last + 1)):
                return True
            if any(first <= before <= last + 1 for before, _ in hunk.removed):
                return True
        return False


def git_diff(base: str, paths: Sequence[str]) -> list[tuple[str, str]]:
    """For each of `paths` its prefix in a corpus, and what changed in it since `base` was left.

    Raises UsageError where git is missing, a path is in no repository, or `base` is unknown.
    """
    if base.startswith("-"):
        raise UsageError(f"--diff {base}: no revision begins with a dash")
    found = []
    for path in paths:
        is_folder = Path(path).is_dir()
        folder = path if is_folder else str(Path(path).parent)
        only = () if is_folder else (f":(literal){Path(path).name}",)
        shown = shown_path(folder)
        prefix = "" if shown == "." else f"{shown.rstrip('/')}/"
        text = _git(folder, *_DIFF, "--merge-base", base, "--", *only)
        found.append((prefix, text.decode("utf-8", "replace")))
    return found


def is_revision(name: str) -> bool:
    """Whether the positional argument after --diff is a BASE: no file or folder has that name."""
    return name != "-" and not os.path.lexists(name)


def prefixes_of(paths: Sequence[str]) -> list[str]:
    """What the paths of a diff made at the top of the repository begin with in a corpus."""
    found = []
    for path in paths:
        shown = shown_path(path)
        found.append("" if shown == "." else f"{shown.rstrip('/')}/")
    return found


def offset_in_repository() -> str:
    """The current folder below the top of its repository, "" at the top or outside of any."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".git").exists():
            relative = here.relative_to(folder).as_posix()
            return "" if relative == "." else f"{relative}/"
    return ""


def change_of(
    patches: Sequence[tuple[Sequence[str], PatchSet]], corpus: Corpus, offset: str = ""
) -> Change:
    """`patches` with the prefixes that may lead from their paths to those of `corpus`; `offset` is
    what such paths begin with outside of it."""
    documents = {document.path: document for document in corpus.documents}
    omitted = {omission.path: str(omission.reason) for omission in corpus.omissions}
    hunks: dict[str, tuple[Hunk, ...]] = {}
    elsewhere: list[tuple[str, str]] = []
    lost: list[tuple[str, str]] = []
    known = {**documents, **omitted}
    for prefixes, patch in ((before, patch) for before, found in patches for patch in found):
        path = _path(patch, prefixes, offset, known)
        document = documents.get(path)
        # unidiff takes a file that was emptied for one that was removed.
        if patch.is_removed_file and (patch.target_file == DEV_NULL or path not in known):
            elsewhere.append((path, "removed"))
        elif patch.is_submodule:
            elsewhere.append((path, "submodule"))
        elif document is None:
            why = omitted.get(path) or _folder_reason(path, omitted)
            if not why and not _is_here(patch, prefixes, offset):
                why = NOT_HERE
                lost.append((path, why))
            elsewhere.append((path, why or "not among what was read"))
        elif patch.is_binary_file or not _is_text(document):
            elsewhere.append((path, "not text"))
        elif not list(patch):
            elsewhere.append((path, "renamed or its mode changed, no line"))
        else:
            found = list(_hunks(patch, document.blocks[0].text.split("\n")))
            if len(found) < len(patch):
                why = f"{len(patch) - len(found)} of {len(patch)} hunks are not in the file now"
                elsewhere.append((path, why))
                lost.append((path, why))
            if found:
                hunks[path] = (*hunks.get(path, ()), *found)
    return Change(hunks, tuple(elsewhere), tuple(lost))


def _is_text(document: Document) -> bool:
    return len(document.blocks) == 1 and document.blocks[0].unit == "line"


def _path(
    patch: PatchedFile, prefixes: Sequence[str], offset: str, known: Mapping[str, object]
) -> str:
    """As the corpus has it, if it does."""
    candidates = _candidates(patch, prefixes, offset)
    return next((path for path in candidates if path in known), candidates[0])


def _is_here(patch: PatchedFile, prefixes: Sequence[str], offset: str) -> bool:
    """Whether there is such a file on disk, read or not, from here or from the top."""
    top = "../" * offset.count("/")
    for path in _candidates(patch, (*prefixes, top), offset):
        with suppress(OSError, ValueError):
            if os.path.lexists(path):
                return True
    return False


def _candidates(patch: PatchedFile, prefixes: Sequence[str], offset: str) -> list[str]:
    target = patch.target_file or DEV_NULL
    whole = _unquoted(patch.source_file or target if target == DEV_NULL else target)
    name = _without_prefix(whole, "ab")
    names = [name, _without_prefix(name, "ciow12"), whole]
    if offset:
        names += [one.removeprefix(offset) for one in names if one.startswith(offset)]
    return [f"{prefix}{shown_path(one)}" for prefix in prefixes for one in names]


def _without_prefix(name: str, prefixes: str) -> str:
    head, slash, rest = name.partition("/")
    return rest if slash and len(head) == 1 and head in prefixes else name


def _unquoted(name: str) -> str:
    """Git writes names with other than plain letters in quotes, as C does."""
    if len(name) < 2 or not (name.startswith('"') and name.endswith('"')):
        return name
    inner = name[1:-1].encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_byte, inner).decode("utf-8", "surrogateescape")


def _byte(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code.isdigit():
        return bytes([int(code, 8) & 0xFF])
    letter = code.decode("latin-1")
    return _ESCAPED.get(letter, letter).encode("latin-1")


def _folder_reason(path: str, omitted: Mapping[str, str]) -> str:
    for folder in PurePosixPath(path).parents:
        if (why := omitted.get(f"{folder}/")) is not None:
            return why
    return ""


def _hunks(patch: PatchedFile, lines: Sequence[str]) -> Iterator[Hunk]:
    """Of each hunk whose lines stand in the file: where it says, or at the only other place."""
    for hunk in patch:
        target = [line.value.rstrip("\r\n") for line in hunk.target_lines()]
        at = _place(target, lines, max(hunk.target_start, 1) - 1)
        if at is not None:
            yield _hunk(hunk, at + 1, lines[at : at + len(target)])


def _place(target: Sequence[str], lines: Sequence[str], expected: int) -> int | None:
    def is_at(at: int) -> bool:
        return all(
            a.rstrip() == b.rstrip()
            for a, b in zip(target, lines[at : at + len(target)], strict=False)
        ) and at + len(target) <= len(lines)

    if is_at(expected) or not target:
        return expected
    first = target[0].rstrip()
    found = [at for at, line in enumerate(lines) if line.rstrip() == first and is_at(at)]
    return found[0] if len(found) == 1 else None


def _hunk(hunk: unidiff.Hunk, first: int, lines: Sequence[str]) -> Hunk:
    added: set[int] = set()
    removed: list[tuple[int, str]] = []
    line_number = first
    for line in hunk:
        if line.is_added:
            added.add(line_number)
        if line.is_removed:
            removed.append((line_number, line.value.rstrip("\r\n")))
        elif line.is_added or line.is_context:
            line_number += 1
    return Hunk(first, tuple(lines), frozenset(added), tuple(removed))


def _git(folder: str, *arguments: str) -> bytes:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        ran = subprocess.run(
            [*_GIT, "-C", folder, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise UsageError("--diff needs git, which is not installed; pipe a diff to -") from None
    if ran.returncode != 0:
        said = one_line(
            ran.stderr.decode("utf-8", "replace").strip().splitlines()[0][:200]
            if ran.stderr.strip()
            else f"exit {ran.returncode}"
        )
        hint = "; a shallow clone lacks it" if "merge base" in said else ""
        raise UsageError(f"--diff: git says: {said}{hint}")
    return ran.stdout
