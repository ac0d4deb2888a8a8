"""`mm1 models rm`: what mm1 put into its own folder of models, and nothing else."""

import re
import secrets
from pathlib import Path

import filelock

from engine import durable
from mm1cli.errors import InputError
from mm1cli.models import default, library, manifest, names
from mm1cli.models.pieces import PARTIAL

_GONE = ".gone"


def check_removable(name: str, elsewhere: Path | None) -> None:
    """Raises InputError, with what it looks like, unless all there is of `name` is mm1's."""
    folder, partials = _places(name)
    if folder.is_symlink():
        raise InputError(f"{folder} is a symbolic link; nothing was removed")
    if why := manifest.why_foreign(folder):
        raise InputError(f"{why}; nothing was removed")
    if not folder.exists() and not partials:
        raise InputError(_whose(name, elsewhere))


def remove(name: str) -> bool:
    """Removes a model, and what a stopped pull of it left; False if it is being pulled.

    It is renamed first, so that a kill leaves no half of it under its name. A file of another
    program that it links to stays. Raises InputError if the system refuses.
    """
    folder, partials = _places(name)
    try:
        with filelock.FileLock(library.lock_of(folder.name)).acquire(blocking=False):
            for path in [folder, *partials]:
                if path.exists():
                    gone = path.with_name(f".{folder.name[:32]}.{secrets.token_hex(4)}{_GONE}")
                    path.rename(gone)
            own = re.compile(rf"\..{{1,32}}\.[0-9a-f]{{8}}{re.escape(_GONE)}")
            for path in folder.parent.iterdir():  # those of a removal that was killed, too
                if own.fullmatch(path.name):
                    durable.remove_folder(path)
    except filelock.Timeout:
        return False
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; not removed, or not all of it") from None
    if default.chosen() == name:
        default.use(default.AUTO)
    return True


def _places(name: str) -> tuple[Path, list[Path]]:
    """The model's folder, and those of pulls of it that were stopped. Raises InputError."""
    base = name.partition("@")[0]
    own = library.folder_of(base)
    if not own or own.startswith(".") or Path(own).name != own:
        raise InputError(f"{name}: not a name of a model that mm1 fetched; nothing was removed")
    root = library.models_dir()
    partials = [root / f".{own}{PARTIAL}"]
    partials += sorted(root.glob(f".{own}.{'[0-9a-f]' * 12}{PARTIAL}"))
    return root / own, [path for path in partials if path.is_dir() and not path.is_symlink()]


def _whose(name: str, elsewhere: Path | None) -> str:
    one = next((f for f in names.all_found(elsewhere) if name in f.names), None)
    if one is not None:
        return f"{name} is {one.path}, which mm1 did not put there: remove it in {one.store}"
    return f"{name}: mm1 has fetched no such model; `mm1 models list` shows those it has"
