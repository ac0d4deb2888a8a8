"""What the shell may complete: names of models, contexts, templates and settings.

Nothing here fails or says a word: a shell would show it in the middle of a command line.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path


def _quiet(names: Callable[[], Iterator[str]]) -> Callable[[str], list[str]]:
    @wraps(names)
    def complete(incomplete: str) -> list[str]:
        found: list[str] = []
        with suppress(Exception):
            for name in names():
                if name.startswith(incomplete):
                    found.append(name)
        return list(dict.fromkeys(found))

    complete.__annotations__ = {"incomplete": str, "return": list[str]}
    delattr(complete, "__wrapped__")  # typer looks at its parameters
    return complete


@_quiet
def models() -> Iterator[str]:
    from mm1cli.models import library, names

    yield from (model.name for model in library.list_models())
    yield from (found.name for found in names.all_found(None) if not found.problem)


@_quiet
def contexts() -> Iterator[str]:
    """Folders here that hold one, and those that `analyze` keeps."""
    yield from (path.name for path in sorted(Path().glob("*.mm1ctx")))
    import os

    from mm1cli.commands.opening import cache
    from mm1cli.settings import load

    yield from (one.folder.name for one in cache(load({}, os.environ, Path.cwd())))


@_quiet
def templates() -> Iterator[str]:
    from mm1cli.tables import templates

    yield from (template.name for template in templates.listed())


@_quiet
def settings() -> Iterator[str]:
    from mm1cli.settings import NAMES

    yield from NAMES
