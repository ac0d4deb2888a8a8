"""`.gitignore` files as git reads them: the deepest file with a matching line decides.

A folder that is ignored must not be entered: a line in or below it cannot bring files back.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pathspec import GitIgnoreSpec

_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Gitignore:
    """The rules that hold in one folder. `folder` is its path below the repository ("" or "a/b/").

    Immutable; `enter` makes the rules of a folder inside.
    """

    folder: str = ""
    levels: tuple[tuple[int, GitIgnoreSpec], ...] = ()  # (len of the level's folder, its lines)

    @classmethod
    def at(cls, root: str) -> Self:
        """The rules in `root`, a real path, with those of the repository around it, if any.

        A root that the repository ignores was named on purpose: only its own rules hold.
        """
        folder = Path(root)
        repository = next((up for up in (folder, *folder.parents) if _is_repository(up)), folder)
        rules = cls()._load(str(repository))
        for name in folder.relative_to(repository).parts:
            if rules.ignores(name, is_folder=True):
                return cls()._load(root)
            repository /= name
            rules = rules.enter(name, str(repository))
        return rules

    def enter(self, name: str, path: str) -> Self:
        """The rules in the folder `name` of this one, which is at `path` on disk."""
        return type(self)(f"{self.folder}{name}/", self.levels)._load(path)

    def ignores(self, name: str, *, is_folder: bool) -> bool:
        """Whether git would ignore `name` in this folder."""
        path = f"{self.folder}{name}/" if is_folder else f"{self.folder}{name}"
        for length, lines in reversed(self.levels):
            include = lines.check_file(path[length:]).include
            if include is not None:
                return include
        return False

    def _load(self, path: str) -> Self:
        lines = _read_lines(Path(path, ".gitignore"))
        if not lines:
            return self
        return type(self)(self.folder, (*self.levels, (len(self.folder), _compile(lines))))


def _is_repository(folder: Path) -> bool:
    try:
        return (folder / ".git").exists()
    except OSError:
        return False


def _read_lines(path: Path) -> list[str]:
    try:
        # Like git, no link is followed; and no pipe may hang the walk.
        if not stat.S_ISREG(path.lstat().st_mode):
            return []
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES)
    except OSError:
        return []
    # surrogateescape, because that is how file names that are not UTF-8 arrive.
    return content.decode("utf-8-sig", errors="surrogateescape").replace("\r\n", "\n").split("\n")


def _compile(lines: list[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return GitIgnoreSpec.from_lines([line for line in lines if _is_valid(line)])


def _is_valid(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
