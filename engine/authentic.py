"""What this user's mm1 wrote, told from what somebody else did: hashes with a key.

A cache believes what it finds under a name. So that nobody can put something there, files are kept
with their HMAC-SHA256, whose key lies in the user's state directory and is read by nobody else.
"""

import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from engine import durable

ALGORITHM = "hmac_sha256"
KEY_BYTES = 32
DIGITS = 32  # 128 bits of the hash, as names of files have them
_NAME = "key"
_PUBLIC_KEY = b"mm1"


_everybodys: ContextVar[bool] = ContextVar("everybodys", default=False)


class Digest:
    """A hash that only who has the key can make; used as those of hashlib are.

    One for one `purpose` says nothing about bytes that serve another.
    """

    def __init__(self, purpose: str) -> None:
        key = _PUBLIC_KEY if _everybodys.get() else _key(state_dir())
        self._hmac = hmac.new(key, f"{purpose}\0".encode(), "sha256")

    def update(self, content: bytes | memoryview) -> None:
        self._hmac.update(content)

    def hexdigest(self) -> str:
        return self._hmac.hexdigest()[:DIGITS]


def hexdigest(purpose: str, content: bytes | memoryview) -> str:
    """32 hexadecimal digits."""
    digest = Digest(purpose)
    digest.update(content)
    return digest.hexdigest()


def is_authentic(purpose: str, content: bytes | memoryview, told: bytes) -> bool:
    """Whether `told`, from a file, is the hash of `content`."""
    return hmac.compare_digest(hexdigest(purpose, content).encode(), told)


@contextmanager
def without_key() -> Iterator[None]:
    """Inside, hashes are such as everybody can make: of what goes to others, or comes from them."""
    token = _everybodys.set(True)
    try:
        yield
    finally:
        _everybodys.reset(token)


def state_dir() -> Path:
    """Where the key lies, and which folders are trusted: MM1_STATE_DIR, or this system's place."""
    if chosen := os.environ.get("MM1_STATE_DIR"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_state_dir

    return Path(user_state_dir("mm1", appauthor=False))


@cache
def _key(folder: Path) -> bytes:
    """The key in `folder`, made where there is none. Where none can be kept, one of this process:
    what it writes nobody believes later."""
    with suppress(OSError):
        path = folder / _NAME
        for _ in range(2):  # of two processes that make one, one wins, and both read it
            if (found := _read(path)) is not None:
                return found
            durable.private_folder(folder)
            _make(path)
        if (found := _read(path)) is not None:
            return found
    return secrets.token_bytes(KEY_BYTES)


def _read(path: Path) -> bytes | None:
    """None where there is no key that could be a secret of this user's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        found = file.read(KEY_BYTES + 1)
    is_private = os.name == "nt" or (
        status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    )
    return found if is_private and len(found) == KEY_BYTES else None


def _make(path: Path) -> None:
    part = path.with_name(f".{_NAME}-{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        if os.path.lexists(path) and _read(path) is None:  # cut, or others can read it
            part.replace(path)
        else:
            with suppress(FileExistsError):
                os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
