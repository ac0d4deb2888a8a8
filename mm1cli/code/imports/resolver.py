"""What every language's rules have in common, and the choice of them."""

from dataclasses import dataclass
from typing import Protocol

from mm1cli.code.parsed import RawImport
from mm1cli.code.repo_index import Status


@dataclass(frozen=True, slots=True)
class Resolution:
    status: Status
    targets: tuple[str, ...] = ()


class Resolver(Protocol):
    """Made once for a corpus; `resolve` is asked for each import of the file at `path`."""

    def resolve(self, path: str, entry: RawImport) -> Resolution: ...


EXTERNAL = Resolution(Status.EXTERNAL)
UNRESOLVED = Resolution(Status.UNRESOLVED)


def internal(*targets: str) -> Resolution:
    return Resolution(Status.INTERNAL, tuple(dict.fromkeys(targets)))
