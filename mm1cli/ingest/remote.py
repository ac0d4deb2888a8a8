"""Web pages and repositories that a user names as paths: fetched once, read as files, then gone.

A page is fetched by urllib, over http and https alone, a repository by git, without history,
submodules, hooks or a question for a password. What is fetched keeps its address as its name.
"""

import os
import re
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from mm1cli.about import version
from mm1cli.errors import InputError, UsageError
from mm1cli.ingest.display_names import one_line

MOST_BYTES = 64 * 2**20
_TIMEOUT_S = 30.0
_GIT_TIMEOUT_S = 600.0
_PIECE_BYTES = 1 << 16
_URL = re.compile(r"(?:git\+)?https?://|ssh://|git@[\w.-]+:", re.IGNORECASE)
_FORGES = frozenset({"github.com", "gitlab.com", "codeberg.org", "bitbucket.org"})
_GIT_OPTIONS = ("-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never")


def is_remote(path: str) -> bool:
    return _URL.match(path) is not None


@contextmanager
def fetched(
    paths: Sequence[str], *, is_offline: bool, on_note: Callable[[str], None]
) -> Iterator[tuple[list[str], dict[str, str]]]:
    """`paths` with a local path for each address, and what those are called.

    Raises UsageError offline, InputError for what cannot be fetched.
    """
    if not any(map(is_remote, paths)):
        yield list(paths), {}
        return
    if is_offline:
        first = next(filter(is_remote, paths))
        raise UsageError(f"{_shown(first)}: is on the network, and --offline fetches nothing")
    with tempfile.TemporaryDirectory(prefix="mm1-") as folder:
        local, names = [], {}
        for number, path in enumerate(paths):
            if not is_remote(path):
                local.append(path)
                continue
            on_note(f"fetching {_shown(path)}")
            target = Path(folder) / str(number)
            (_clone if _is_repository(path) else _download)(path, target)
            local.append(str(target))
            names[str(target)] = _shown(path)
        yield local, names


def _shown(address: str) -> str:
    """As it is told, without name and password, which are nobody's business but the server's."""
    bare = address.removeprefix("git+").rstrip("/")
    return one_line(re.sub(r"(?<=://)[^/@\s]*@", "", bare))


def _is_repository(path: str) -> bool:
    if path.startswith(("git+", "git@", "ssh://")) or path.rstrip("/").endswith(".git"):
        return True
    parts = urlsplit(path)
    return parts.hostname in _FORGES and len([one for one in parts.path.split("/") if one]) == 2


def _clone(path: str, target: Path) -> None:
    url = path.removeprefix("git+")
    command = ["git", *_GIT_OPTIONS, "clone", "--quiet", "--depth", "1", "--no-tags"]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}
    environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    try:
        subprocess.run(
            [*command, "--", url, str(target)],
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=_GIT_TIMEOUT_S,
        )
    except FileNotFoundError:
        raise InputError(f"{_shown(path)}: needs git, which is not installed") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{_shown(path)}: git took more than {_GIT_TIMEOUT_S:.0f} s") from None
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.strip()] or ["git failed"]
        raise InputError(f"{_shown(path)}: {one_line(said[-1])}") from None


def _opener() -> urllib.request.OpenerDirector:
    """Knows http and https, and so follows a redirect to nothing else."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    opener.addheaders = [("User-Agent", f"mm1/{version()}")]
    return opener


def _download(url: str, target: Path) -> None:
    num_bytes = 0
    try:
        with _opener().open(url, timeout=_TIMEOUT_S) as answer, target.open("wb") as file:
            while piece := answer.read(_PIECE_BYTES):
                num_bytes += len(piece)
                if num_bytes > MOST_BYTES:
                    raise InputError(f"{_shown(url)}: is larger than {MOST_BYTES >> 20} MiB")
                file.write(piece)
    except urllib.error.HTTPError as error:
        error.close()
        raise InputError(f"{_shown(url)}: the server says {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise InputError(f"{_shown(url)}: cannot be fetched ({one_line(str(why))})") from None
