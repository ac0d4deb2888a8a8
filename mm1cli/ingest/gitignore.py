"""`.gitignore` files as git reads them: the deepest file with a matching line decides.

A folder that is ignored must not be entered: a line in or below it cannot bring files back. The
same rules hold for `.mm1ignore`, which has the last word where it has one.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mm1cli.ingest.wildmatch import Pattern, num_wildcards, parse

_MAX_BYTES = 1 << 20
_MOST_WILDCARDS = 10_000


@dataclass(frozen=True, slots=True)
class Gitignore:
    """The rules that hold in one folder. `folder` is its path below the repository ("" or "a/b/").

    Immutable; `enter` makes the rules of a folder inside.
    """

    folder: bytes = b""
    levels: tuple[tuple[int, tuple[Pattern, ...]], ...] = ()  # (len of the level's folder, lines)
    file_name: str = ".gitignore"

    @classmethod
    def at(cls, root: str, file_name: str = ".gitignore") -> Self:
        """The rules in `root`, a real path, with those of the repository around it, if any.

        A root that the repository ignores was named on purpose: only its own rules hold.
        """
        folder = Path(root)
        repository = next((up for up in (folder, *folder.parents) if _is_repository(up)), None)
        rules = cls(file_name=file_name)
        if repository is None:
            return rules._load(root)
        if file_name == ".gitignore":
            for path in (_personal_file(), repository / ".git/info/exclude"):
                rules = rules._with(_read(path))
        beside = cls(rules.folder, rules.levels, file_name)
        rules = rules._load(str(repository))
        for name in folder.relative_to(repository).parts:
            if rules.ignores(name, is_folder=True):
                return beside._load(root)
            repository /= name
            rules = rules.enter(name, str(repository))
        return rules

    def enter(self, name: str, path: str) -> Self:
        """The rules in the folder `name` of this one, which is at `path` on disk."""
        folder = self.folder + os.fsencode(name) + b"/"
        return type(self)(folder, self.levels, self.file_name)._load(path)

    def ignores(self, name: str, *, is_folder: bool) -> bool:
        """Whether git would ignore `name` in this folder."""
        return self.verdict(name, is_folder=is_folder) is True

    def verdict(self, name: str, *, is_folder: bool) -> bool | None:
        """True: ignored; False: a line brings it back; None: no line speaks of it."""
        path = self.folder + os.fsencode(name)
        for length, lines in reversed(self.levels):
            below = path[length:]
            for line in reversed(lines):
                if line.matches(below, is_folder=is_folder):
                    return not line.is_negated
        return None

    def _load(self, path: str) -> Self:
        return self._with(_read(Path(path, self.file_name)))

    def _with(self, content: bytes) -> Self:
        lines = patterns(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
        if not lines:
            return self
        levels = (*self.levels, (len(self.folder), lines))
        return type(self)(self.folder, levels, self.file_name)


def patterns(lines: Iterable[bytes]) -> tuple[Pattern, ...]:
    """Of all lines, until they have more wildcards than anyone writes: each path is held against
    them."""
    found = []
    left = _MOST_WILDCARDS
    for line in lines:
        left -= num_wildcards(line)
        pattern = parse(line.removesuffix(b"\r")) if left >= 0 else None
        if pattern is not None:
            found.append(pattern)
    return tuple(found)


def _is_repository(folder: Path) -> bool:
    try:
        return (folder / ".git").exists()
    except OSError:
        return False


def _personal_file() -> Path:
    """Where git looks for a user's own rules unless it is told otherwise."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return Path(config, "git", "ignore")


def _read(path: Path) -> bytes:
    try:
        # Like git, no link is followed; and no pipe may hang the walk.
        if not stat.S_ISREG(path.lstat().st_mode):
            return b""
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except (OSError, ValueError):
        return b""
