"""`mm1 cache`: what lies on this machine of documents that were read, and how to be rid of it."""

import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

from engine import durable
from mm1cli.answering.context_cache import GB, CacheEntry, ContextCache, origin_of, remove
from mm1cli.commands.opening import cache, cache_root
from mm1cli.errors import InputError, UsageError
from mm1cli.ingest.cache import Cache
from mm1cli.models import library, removal
from mm1cli.output.text import safe_line
from mm1cli.settings import Settings
from mm1cli.surprisal.reading import ScoreCache

_UNITS = {"h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGE = re.compile(r"(\d{1,6})([hdw])")
_MOST_NAMES = 4
_SPILLED = re.compile(r"mm1-activations-\w+")  # of a run that was killed at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to clear."""

    texts: bool = False
    contexts: bool = False
    models: bool = False

    def __post_init__(self) -> None:
        if not (self.texts or self.contexts or self.models):
            raise UsageError("nothing was chosen: --text, --contexts, --models or --all")


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: `what` for people, in bytes and by its last use in seconds since 1970."""

    kind: str
    what: str
    num_bytes: int
    used_s: float | None = None


def size(num_bytes: int) -> str:
    return f"{num_bytes / GB:.2f} GB" if num_bytes >= GB / 10 else f"{num_bytes / 10**6:.1f} MB"


def date(used_s: float) -> str:
    return datetime.fromtimestamp(used_s).astimezone().strftime("%Y-%m-%d")


def about(one: CacheEntry) -> str:
    """Folder and documents of a saved context, as far as it says them."""
    folder, documents = origin_of(one.folder)
    if not documents:
        return folder
    more = len(documents) - _MOST_NAMES
    names = ", ".join(documents[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
    return f"{folder}: {names}"


def show(settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """Where everything lies, and of which folders and documents it is."""
    rows = list(_rows(settings))
    if as_json:
        keys = ("kind", "what", "num_bytes", "used_s")
        listed = [{key: getattr(row, key) for key in keys} for row in rows]
        places = {kind: str(place) for kind, place in _places(settings).items()}
        stdout.write(json.dumps({"places": places, "kept": listed}) + "\n")
        return
    for kind, place in _places(settings).items():
        of_kind = [row for row in rows if row.kind == kind]
        total = size(sum(row.num_bytes for row in of_kind))
        stdout.write(f"{kind}: {total} in {safe_line(str(place))}\n")
        for row in of_kind:
            used = date(row.used_s) if row.used_s is not None else ""
            stdout.write(f"  {size(row.num_bytes):>9}  {used:<10}  {safe_line(row.what)}\n")
    stdout.write("`mm1 cache clear --text|--contexts|--models|--all` removes it\n")


def clear(wanted: Wanted, older_than: str | None, settings: Settings, stdout: TextIO) -> None:
    """Removes what was chosen and is mm1's, but what another mm1 is building."""
    before_s = time.time() - _seconds(older_than)
    if wanted.texts:
        count, num_bytes = _texts(settings).clear(before_s)
        stdout.write(f"removed {size(num_bytes)} of text, of {count:,} documents\n")
        num_bytes = _scores(settings).clear(before_s)[1]
        num_bytes += durable.drop_unused([cache_root(settings) / "spill"], _SPILLED, before_s)[1]
        if num_bytes:
            stdout.write(f"removed {size(num_bytes)} of what was computed from texts\n")
    if wanted.contexts:
        _clear_contexts(cache(settings), before_s, stdout)
    if wanted.models:
        _clear_models(before_s, stdout)


def _clear_contexts(contexts: ContextCache, before_s: float, stdout: TextIO) -> None:
    if why := contexts.why_elsewhere():
        raise InputError(f"{why}; nothing was removed")
    for one in list(contexts):
        if one.used_s >= before_s:
            continue
        told = about(one)
        try:
            is_gone = remove(one.folder)
        except InputError as error:
            stdout.write(f"left: {safe_line(str(error))}\n")
            continue
        word = "removed" if is_gone else "left, as another mm1 is building it:"
        stdout.write(f"{word} {one.folder.name[:12]}, {size(one.num_bytes)} {safe_line(told)}\n")


def _clear_models(before_s: float, stdout: TextIO) -> None:
    for model in library.list_models():
        if model.size_bytes == 0 or _changed_s(model.folder) >= before_s:
            continue
        try:
            is_gone = removal.remove(model.name)
        except InputError as error:
            stdout.write(f"left: {safe_line(str(error))}\n")
            continue
        if is_gone:
            stdout.write(f"removed {model.name}, {size(model.size_bytes)}\n")


def _places(settings: Settings) -> dict[str, Path]:
    root = cache_root(settings)
    return {
        "text": root / "text",
        "contexts": root / "contexts",
        "tokens": root / "surprise",
        "models": library.models_dir(),
    }


def _texts(settings: Settings) -> Cache:
    return Cache(_places(settings)["text"])


def _scores(settings: Settings) -> ScoreCache:
    return ScoreCache(_places(settings)["tokens"])


def _rows(settings: Settings) -> Iterator[_Row]:
    by_folder: dict[str, list[tuple[str, int, float]]] = defaultdict(list)
    for one in _texts(settings).entries():
        path = Path(one.document)
        by_folder[str(path.parent)].append((path.name, one.num_bytes, one.used_s))
    for folder, texts in sorted(by_folder.items()):
        names = [name for name, _, _ in sorted(texts, key=lambda text: -text[2])]
        more = len(names) - _MOST_NAMES
        told = ", ".join(names[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
        num_bytes = sum(num for _, num, _ in texts)
        yield _Row("text", f"{folder}: {told}", num_bytes, max(used for *_, used in texts))
    contexts = cache(settings)
    for context in sorted(contexts, key=lambda one: -one.used_s):
        what = f"{context.folder.name[:12]} {about(context)}"
        yield _Row("contexts", what, context.num_bytes, context.used_s)
    if num_bytes := _scores(settings).num_bytes():
        yield _Row("tokens", "how probable each token is, for `mm1 review`", num_bytes)
    for model in library.list_models():
        if model.size_bytes:
            yield _Row("models", model.name, model.size_bytes, _changed_s(model.folder))


def _changed_s(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _seconds(older_than: str | None) -> float:
    if older_than is None:
        return -1.0  # also what is being used this very second
    matched = _AGE.fullmatch(older_than)
    if matched is None:
        raise UsageError(f"--older-than is a number and h, d or w, as 30d, not {older_than!r}")
    return int(matched[1]) * _UNITS[matched[2]]
