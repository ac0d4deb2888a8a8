"""`mm1 serve`: the model, and saved contexts, for any client of OpenAI's API."""

import stat
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from engine.api import max_positions
from mm1cli.commands.backend import local_only
from mm1cli.commands.listening import listener, serve
from mm1cli.commands.opening import begin, ensure_model
from mm1cli.errors import InputError, UsageError
from mm1cli.serving import LOOPBACK_HOSTS
from mm1cli.settings import Settings
from mm1cli.sink import Sink

LOOPBACK = "127.0.0.1"
_FEWEST_KEY_CHARS = 16


def run(
    folders: Sequence[Path],
    settings: Settings,
    sink: Sink,
    *,
    host: str,
    port: int,
    key_file: Path | None,
) -> None:
    """Serves until it is stopped. Raises UsageError for a host beyond loopback without a key."""
    local_only(settings, "mm1 serve")
    key = "" if key_file is None else read_key(key_file)
    if host not in LOOPBACK_HOSTS and not key:
        raise UsageError(f"--host {host} is seen by others: --key-file FILE says who may ask")
    try:
        import uvicorn  # noqa: F401 - what `serve` needs, told before a model is opened

        from mm1cli.serving.app import Api, Guard
    except ModuleNotFoundError:
        raise UsageError("mm1 serve needs a server: pip install 'mm1[serve]'") from None
    from mm1cli.serving.engines import Engines

    taken = listener(host, port)
    settings = begin("serve", settings, sink)
    model = ensure_model(settings, sink)
    engines = Engines(settings.model, settings, sink, folders)
    limit = cache(lambda: settings.context_tokens or max_positions(model))
    app = Api(engines, settings, Guard(key), limit).app()
    names = ", ".join([engines.name, *engines.saved])
    sink.note(f"serving {names} at http://{host}:{port}/v1; Ctrl-C ends")
    serve(app, taken, sink)


def read_key(file: Path) -> str:
    """The key in `file`. Raises InputError, also where others may read it."""
    try:
        key = file.read_text(encoding="utf-8").strip()
        mode = file.stat().st_mode
    except (OSError, UnicodeDecodeError):
        raise InputError(f"--key-file {file}: cannot be read") from None
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        raise InputError(f"--key-file {file}: others can read it; chmod 600 {file}")
    if len(key) < _FEWEST_KEY_CHARS or not key.isprintable():
        raise InputError(f"--key-file {file}: a key has {_FEWEST_KEY_CHARS} characters or more")
    return key
