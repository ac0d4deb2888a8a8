"""What a user asked to read or to leave out: `--include`, `--exclude`, `.mm1ignore`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from mm1cli.errors import UsageError
from mm1cli.ingest.gitignore import patterns
from mm1cli.ingest.wildmatch import Pattern


@dataclass(frozen=True, slots=True)
class PathFilter:
    """Patterns as in a `.gitignore` that lies in each folder that is named.

    A file is read if some `include` matches it or a folder it is in, or there is none, and no
    `exclude` does. For a file that is named itself, its name is matched.
    """

    include: tuple[Pattern, ...] = ()
    exclude: tuple[Pattern, ...] = ()
    hidden: bool = False  # are read, too; git's own folder never is
    gitignore: bool = True  # is heeded

    @classmethod
    def of(
        cls,
        include: Sequence[str],
        exclude: Sequence[str],
        *,
        hidden: bool = False,
        gitignore: bool = True,
    ) -> Self:
        """Raises UsageError for a pattern that can match nothing."""
        patterns_in = _parsed("--include", include), _parsed("--exclude", exclude)
        return cls(*patterns_in, hidden=hidden, gitignore=gitignore)

    def leaves_out_hidden(self, name: str) -> bool:
        return name.startswith(".") and (not self.hidden or name == ".git")

    def leaves_out(self, path: str, *, is_folder: bool) -> str:
        """Why `path`, below the folder that was named, is not read; "" if it is."""
        encoded = os.fsencode(path)
        if any(line.matches(encoded, is_folder=is_folder) for line in self.exclude):
            return "by --exclude"
        if not self.include or is_folder:
            return ""
        parts = encoded.split(b"/")
        folders = (b"/".join(parts[:count]) for count in range(1, len(parts)))
        if any(line.matches(encoded, is_folder=False) for line in self.include):
            return ""
        if any(line.matches(folder, is_folder=True) for folder in folders for line in self.include):
            return ""
        return "not in --include"


def _parsed(option: str, globs: Sequence[str]) -> tuple[Pattern, ...]:
    found = patterns(map(os.fsencode, globs))
    if len(found) != len(globs) or any(p.tokens is None or p.is_negated for p in found):
        raise UsageError(f"{option} takes patterns such as '*.log' or 'build/', without a !")
    return found
