"""What people call a model, and where that leads: a path, or a name in a store on this machine."""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mm1cli.errors import ModelError
from mm1cli.models.scan import Scan, is_file, is_folder
from mm1cli.models.stores import Found, snapshot_of, walk
from mm1cli.models.weights import weights_in

_MOST_NAMED = 6


def at_path(text: str) -> Path | None:
    """The model at the path `text`: a file, a folder with config.json or one GGUF model, or a
    repository of the hub's cache (`models--ORG--NAME`). None if nothing is there.

    Raises ModelError if something else is.
    """
    path = Path(text).expanduser()
    if "\0" in text or not (is_file(path) or is_folder(path)):
        return None
    path = path.absolute()
    if is_file(path):
        if path.name == "config.json":
            return path.parent
        _check_gguf(path)
        return path
    if path.name.startswith("models--") and (snapshot := snapshot_of(path)) is not None:
        path = snapshot
    if is_file(path / "config.json"):
        return path
    found = weights_in(path, Scan().entries(path))
    if len(found) == 1:
        if found[0].problem:
            raise ModelError(f"{found[0].path}: {found[0].problem}")
        return found[0].path
    if found:
        raise ModelError(f"{text} holds {_listed(w.path.name for w in found)}: name one of them")
    raise ModelError(
        f"{text} holds no config.json and no GGUF file: give a folder with the model's config.json "
        "and safetensors files, or a GGUF file"
    )


def in_stores(name: str, found: Sequence[Found]) -> Found | None:
    """The one of `found` that `name` means, as it is spelled or in any case; None if none does.

    Raises ModelError if it means several, or one that is of no use.
    """
    matches = _matching(name, found)
    usable = [one for one in matches if not one.problem] or matches
    if len({_same_file(one) for one in usable}) > 1:
        choices = _listed(_told_apart(usable))
        raise ModelError(f"{name!r} means {choices}: name one of them")
    if usable:
        if usable[0].problem:
            raise ModelError(f"{usable[0].name}: {usable[0].problem}")
        return usable[0]
    begin = [one for one in found if one.name.casefold().startswith(f"{name}:".casefold())]
    if begin:
        raise ModelError(f"{name!r} means {_listed(one.name for one in begin)}: name one of them")
    return None


def all_found(models_dir: Path | None) -> list[Found]:
    """Of this machine; folders that cannot be read are passed over."""
    return list(walk(Scan(), models_dir, os.environ))


def unknown(name: str, known: Iterable[str], fetched_by: Iterable[str]) -> ModelError:
    """What to say of a name that nothing has: the nearest, and what would fetch them.

    `fetched_by` are names that `mm1 models pull` knows.
    """
    names = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name[:200], names, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(map(repr, near))}?"
    hint = meant if near else f"known: {_listed(names)}."
    pullable = [one for one in near if one in set(fetched_by)]
    if pullable:
        how = f" `mm1 models pull {pullable[0]}` fetches it."
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        how = f" `mm1 models pull {name}` fetches it from the hub."
    else:
        how = " `mm1 models catalogue` shows what can be fetched."
    return ModelError(
        f"no model {name!r:.200}: {hint}{how} Or pass a path: a GGUF file, or a "
        "folder with a config.json"
    )


def _matching(name: str, found: Sequence[Found]) -> list[Found]:
    exact = [one for one in found if name in one.names]
    folded = name.casefold()
    return exact or [one for one in found if folded in map(str.casefold, one.names)]


def _same_file(one: Found) -> tuple[int, str]:
    """Two stores that have a file of one name and size have the same model."""
    return one.num_bytes, one.path.name if one.path.name.endswith(".gguf") else ""


def _told_apart(found: Sequence[Found]) -> list[str]:
    names = [one.name for one in found]
    return names if len(set(names)) == len(names) else [str(one.path) for one in found]


def _listed(names: Iterable[str]) -> str:
    shown = list(dict.fromkeys(names))
    more = len(shown) - _MOST_NAMED
    rest = f" and {more:,} more" if more > 0 else ""
    return ", ".join(shown[:_MOST_NAMED]) + rest


def _check_gguf(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    if not is_gguf:
        raise ModelError(
            f"{path} is no GGUF file: give one, or a folder with config.json and safetensors files"
        )
