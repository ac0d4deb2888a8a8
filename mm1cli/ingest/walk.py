"""From the paths a user named to files in a fixed order, each with what it was left out for.

Arguments keep their order; inside a folder files are sorted by the bytes of their path. Links are
looked at after everything real, so that a file keeps its own name when a link also leads to it.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from mm1cli.errors import InputError
from mm1cli.ingest.corpus import Omission, Reason
from mm1cli.ingest.display_names import one_line, shown_path
from mm1cli.ingest.gitignore import Gitignore
from mm1cli.ingest.path_filter import PathFilter

STDIN = "-"
OUR_IGNORE_FILE = ".mm1ignore"
ALL = PathFilter()

_Identity = tuple[int, int]
OnFound = Callable[[int], None]
_TOLD_EACH = 1000  # entries
_SPECIAL = (
    (stat.S_ISFIFO, "a pipe; use - to read standard input"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read: `path` opens it (`STDIN` is standard input), `shown` is its name. The user
    named it itself, not a folder that holds it, if `is_named`."""

    path: str
    shown: str
    is_named: bool = False


def walk(
    paths: Sequence[str],
    path_filter: PathFilter = ALL,
    names: Mapping[str, str] = MappingProxyType({}),
    on_found: OnFound | None = None,
) -> list[Found | Omission]:
    """Every file under `paths`, each once, and everything that was seen and is not one.

    Reads folders, `.gitignore` and `.mm1ignore` files, opens no document. A file that is named
    itself is found even if it is hidden or ignored, but `path_filter` speaks of it, too. `names`
    are what some of `paths` are called, if not as they are. `on_found` is told now and then how
    many there are so far, as folders can be large. Raises InputError for a path that does not
    exist, before anything else is looked at.
    """
    for path in paths:
        _check_exists(path)
    seen: dict[_Identity, str] = {}
    results: list[Found | Omission] = []
    for path in paths:
        before = len(results)

        def tell(count: int, before: int = before) -> None:
            if on_found is not None:
                on_found(before + count)

        shown = names.get(path) or shown_path(path)
        results += _from_argument(path, shown, seen, path_filter, tell)
    return results


def _check_exists(path: str) -> None:
    if path == STDIN:
        return
    if not path:
        raise InputError("an empty path: no such file or folder; use . for the current folder")
    try:
        Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        message = f"{shown_path(path)}: no such file or folder; check the spelling"
        raise InputError(message) from None
    except OSError:
        # It may exist: `_from_argument` makes an omission of it.
        return


def _from_argument(
    path: str, shown: str, seen: dict[_Identity, str], path_filter: PathFilter, on_found: OnFound
) -> list[Found | Omission]:
    if path == STDIN:
        key = (-1, -1)
        if key in seen:
            return [Omission("stdin", Reason.DUPLICATE)]
        seen[key] = "stdin"
        return [Found(STDIN, "stdin")]
    try:
        status = Path(path).stat()
    except OSError as error:
        return [_unreachable(shown, error)]
    if not stat.S_ISDIR(status.st_mode):
        if why := path_filter.leaves_out(Path(path).name, is_folder=False):
            return [Omission(shown, Reason.EXCLUDED, why, status.st_size)]
        file = _file(path, shown, status, seen)
        return [replace(file, is_named=True) if isinstance(file, Found) else file]
    if (duplicate := _claim(f"{shown}/", status, seen)) is not None:
        return [duplicate]
    root = os.path.realpath(path)
    tree = _Tree(root, "" if shown == "." else f"{shown.rstrip('/')}/", seen, path_filter, on_found)
    tree.walk(path)
    return tree.sorted()


@dataclass(frozen=True, slots=True)
class _Rules:
    """`.mm1ignore` first: a line of it that brings a file back counts for more than git's."""

    ours: Gitignore
    git: Gitignore
    heeds_git: bool

    @classmethod
    def at(cls, root: str, *, heeds_git: bool) -> "_Rules":
        return cls(Gitignore.at(root, OUR_IGNORE_FILE), Gitignore.at(root), heeds_git)

    def enter(self, name: str, path: str) -> "_Rules":
        ours, git = self.ours.enter(name, path), self.git.enter(name, path)
        return _Rules(ours, git, self.heeds_git)

    def reason(self, name: str, *, is_folder: bool) -> Reason | None:
        verdict = self.ours.verdict(name, is_folder=is_folder)
        if verdict is None:
            is_ignored = self.heeds_git and self.git.ignores(name, is_folder=is_folder)
            return Reason.IGNORED if is_ignored else None
        return Reason.EXCLUDED if verdict else None


@dataclass(slots=True)
class _Tree:
    """One named folder. `root` is its real path, `prefix` what all names in it start with."""

    root: str
    prefix: str
    seen: dict[_Identity, str]
    path_filter: PathFilter
    on_found: OnFound
    results: list[tuple[bytes, Found | Omission]] = field(default_factory=list)
    links: deque[tuple[str, str]] = field(default_factory=deque)  # (path, relative)

    def walk(self, path: str) -> None:
        self._walk_folder(path, "", self._rules(self.root))
        while self.links:
            self._follow(*self.links.popleft())

    def _rules(self, root: str) -> _Rules:
        return _Rules.at(root, heeds_git=self.path_filter.gitignore)

    def sorted(self) -> list[Found | Omission]:
        return [result for _, result in sorted(self.results, key=lambda pair: pair[0])]

    def _add(self, relative: str, result: Found | Omission) -> None:
        self.results.append((os.fsencode(relative), result))
        if len(self.results) % _TOLD_EACH == 0:
            self.on_found(len(self.results))

    def _omit(self, relative: str, reason: Reason, detail: str = "") -> None:
        self._add(relative, Omission(self._shown(relative), reason, detail))

    def _shown(self, relative: str) -> str:
        return f"{self.prefix}{one_line(relative)}" or "./"

    def _walk_folder(self, path: str, relative: str, rules: _Rules) -> None:
        folders = [(path, relative, rules)]
        while folders:
            path, relative, rules = folders.pop()
            try:
                with os.scandir(path) as scan:
                    entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                self._add(relative, _unreachable(self._shown(relative), error))
                continue
            inside = [
                (entry.path, f"{relative}{entry.name}/", rules.enter(entry.name, entry.path))
                for entry in entries
                if self._is_folder_to_enter(entry, relative, rules)
            ]
            folders += reversed(inside)

    def _is_folder_to_enter(self, entry: "os.DirEntry[str]", relative: str, rules: _Rules) -> bool:
        """Settles every entry that is not a folder to enter."""
        is_folder = entry.is_dir(follow_symlinks=False)
        name = f"{relative}{entry.name}/" if is_folder else f"{relative}{entry.name}"
        if self.path_filter.leaves_out_hidden(entry.name):
            self._omit(name, Reason.HIDDEN)
            return False
        if (reason := rules.reason(entry.name, is_folder=is_folder)) is not None:
            self._omit(name, reason, "by .mm1ignore" if reason is Reason.EXCLUDED else "")
            return False
        if why := self.path_filter.leaves_out(name.rstrip("/"), is_folder=is_folder):
            self._omit(name, Reason.EXCLUDED, why)
            return False
        if entry.is_symlink():
            self.links.append((entry.path, name))
            return False
        try:
            # Not entry.stat(): on Windows its inode is 0.
            status = Path(entry.path).lstat()
        except OSError as error:
            self._add(name, _unreachable(self._shown(name), error))
            return False
        if not is_folder:
            self._add(name, _file(entry.path, self._shown(name), status, self.seen))
            return False
        if (duplicate := _claim(self._shown(name), status, self.seen)) is not None:
            self._add(name, duplicate)
            return False
        return True

    def _follow(self, path: str, relative: str) -> None:
        target = os.path.realpath(path)
        if not _is_inside(target, self.root):
            self._omit(relative, Reason.OUTSIDE, f"leads to {shown_path(target)}")
            return
        inner = Path(target).relative_to(self.root)
        if any(map(self.path_filter.leaves_out_hidden, inner.parts)):
            self._omit(relative, Reason.HIDDEN, f"leads to {shown_path(str(inner))}")
            return
        try:
            status = Path(target).stat()
        except OSError as error:
            self._add(relative, _unreachable(self._shown(relative), error))
            return
        if not stat.S_ISDIR(status.st_mode):
            self._add(relative, _file(target, self._shown(relative), status, self.seen))
        elif (duplicate := _claim(self._shown(relative), status, self.seen)) is not None:
            self._add(relative, duplicate)
        else:
            self._walk_folder(target, f"{relative}/", self._rules(target))


def _is_inside(target: str, root: str) -> bool:
    try:
        return os.path.commonpath([target, root]) == root
    except ValueError:
        return False


def _file(
    path: str, shown: str, status: os.stat_result, seen: dict[_Identity, str]
) -> Found | Omission:
    if not stat.S_ISREG(status.st_mode):
        kinds = [kind for is_kind, kind in _SPECIAL if is_kind(status.st_mode)]
        return Omission(shown, Reason.NOT_A_FILE, "".join(kinds))
    return _claim(shown, status, seen) or Found(path, shown)


def _claim(shown: str, status: os.stat_result, seen: dict[_Identity, str]) -> Omission | None:
    """None if `status` was not seen before; from then on it is, under the name `shown`."""
    key = (status.st_dev, status.st_ino)
    if key in seen:
        return Omission(shown, Reason.DUPLICATE, f"same as {seen[key]}")
    seen[key] = shown
    return None


def _unreachable(shown: str, error: OSError) -> Omission:
    if isinstance(error, FileNotFoundError):
        return Omission(shown, Reason.NOT_A_FILE, "a link to nothing")
    return Omission(shown, Reason.UNREADABLE, one_line(error.strerror or type(error).__name__))
