"""HTTP as a server of models needs it.

No request is tried twice: a prompt of a million tokens would be read twice. Reading an answer has
no time limit, because reading a prompt has none. Closing a stream closes the socket, which stops
the server's work. Nothing is followed elsewhere, and proxies of the environment are not asked: the
documents and the key go where the user said, and nowhere else.
"""

import ipaddress
import json
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from engine.errors import KeyRefusedError, ServerError, TooLongError

if TYPE_CHECKING:
    import httpx2

CONNECT_S: Final = 10.0
FACTS_S: Final = 60.0  # for what a server only looks up
MAX_BODY_BYTES: Final = 64 << 20  # of an answer
MAX_LINE_BYTES: Final = 16 << 20  # of a stream
_MISSING: Final = frozenset({404, 405, 501})
_MOST_WORDS: Final = 300  # characters of what a server says of an error
_TOO_LONG: Final = ("exceed_context_size", "context length", "context size", "input_tokens")


class Client:
    """Speaks to the server at `url`, whose path /v1 may be named or not.

    Raises ServerError for an address that is none, and where `httpx2` is missing.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.host, self.base = _address(url)
        self.has_key = key is not None
        self._http = _library()
        headers = {"Accept": "application/json", "User-Agent": "mm1"}
        if key is not None:
            if not key or not key.isascii() or not key.isprintable() or " " in key:
                raise KeyRefusedError("the key is empty, or has characters that no key has")
            headers["Authorization"] = f"Bearer {key}"
        self._session: httpx2.Client = self._http.Client(
            headers=headers,
            timeout=self._http.Timeout(None, connect=CONNECT_S),
            follow_redirects=False,
            trust_env=False,
            verify=self.base.startswith("https:"),  # without TLS no certificates are loaded
        )
        self.close = weakref.finalize(self, self._session.close)

    @property
    def is_local(self) -> bool:
        """Whether what is sent stays on this machine."""
        name = urlsplit(self.base).hostname or ""
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost" or name.endswith(".localhost")

    def get(self, path: str) -> dict[str, Any]:
        """Raises ServerError."""
        return self._body("GET", path, None, FACTS_S)

    def find(
        self, path: str, body: object = None, seconds: float | None = FACTS_S
    ) -> dict[str, Any] | None:
        """`get`, or `post` with a body; None where the server has no such path, or refuses it."""
        try:
            return self._body("GET" if body is None else "POST", path, body, seconds)
        except (KeyRefusedError, TooLongError):
            raise
        except _RefusedError:
            return None

    def post(self, path: str, body: object, seconds: float | None = None) -> dict[str, Any]:
        """Raises ServerError. `seconds` is None where work is asked for that may take any time."""
        return self._body("POST", path, body, seconds)

    @contextmanager
    def stream(self, path: str, body: object) -> Generator[Iterator[dict[str, Any]], None, None]:
        """The events of an answer. Left early, the server is told by a closed socket."""
        with self._telling(None), self._sent("POST", path, body, None) as response:
            yield self._events(response)

    def _body(self, method: str, path: str, body: object, seconds: float | None) -> dict[str, Any]:
        with self._telling(seconds), self._sent(method, path, body, seconds) as response:
            found = self._json(self._content(response))
        return found if isinstance(found, dict) else {"data": found}

    @contextmanager
    def _sent(
        self, method: str, path: str, body: object, seconds: float | None
    ) -> "Generator[httpx2.Response, None, None]":
        """An answer that is no error, not yet read."""
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        request = self._session.build_request(
            method,
            self.base + path,
            content=content,
            headers={"Content-Type": "application/json"} if content is not None else None,
            timeout=self._http.Timeout(None, connect=CONNECT_S, read=seconds),
        )
        response = self._session.send(request, stream=True)
        try:
            if response.status_code != 200:
                self._refuse(response, path, len(content or b""))
            yield response
        finally:
            response.close()

    @contextmanager
    def _telling(self, seconds: float | None) -> Generator[None, None, None]:
        """What goes wrong between here and there, in one line."""
        http = self._http
        try:
            yield
        except (http.ConnectError, http.ConnectTimeout) as error:
            raise ServerError(
                f"{self.host}: no server answers there ({error}); start it, or check --server"
            ) from None
        except http.TimeoutException:
            raise ServerError(
                f"{self.host}: no answer within {seconds or CONNECT_S:.0f} s to what takes little "
                "work; is it stuck?"
            ) from None
        except http.HTTPError as error:
            raise self.gone(str(error)) from None

    def gone(self, why: str = "") -> ServerError:
        """The server ended in the middle of an answer."""
        told = f" ({why[:_MOST_WORDS]})" if why else ""
        return ServerError(
            f"{self.host}: the server went away in the middle of an answer{told}; start it again, "
            "and run the same command"
        )

    def _content(self, response: "httpx2.Response") -> bytes:
        parts, size = [], 0
        for part in response.iter_bytes():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise ServerError(f"{self.host}: an answer of more than {MAX_BODY_BYTES:,} bytes")
            parts.append(part)
        return b"".join(parts)

    def _json(self, content: bytes) -> object:
        try:
            found: object = json.loads(content)
        except (ValueError, RecursionError):
            raise ServerError(
                f"{self.host}: an answer that is no JSON; is a server of models there?"
            ) from None
        return found

    def _events(self, response: "httpx2.Response") -> Iterator[dict[str, Any]]:
        for line in self._lines(response):
            name, _, value = line.partition(b":")
            if name not in {b"data", b"error"} or value.strip() in {b"", b"[DONE]"}:
                continue  # comment lines keep the connection open
            event = self._json(value)
            if not isinstance(event, dict):
                raise ServerError(f"{self.host}: an event that is no object")
            if name == b"error" or "error" in event:
                raise self._error(500, event, 0)
            yield event

    def _lines(self, response: "httpx2.Response") -> Iterator[bytes]:
        rest = b""
        for part in response.iter_bytes():
            *lines, rest = (rest + part).split(b"\n")
            yield from lines
            if len(rest) > MAX_LINE_BYTES:
                raise ServerError(f"{self.host}: a line of more than {MAX_LINE_BYTES:,} bytes")
        yield rest

    def _refuse(self, response: "httpx2.Response", path: str, num_bytes: int) -> None:
        """Raises the error that the answer is."""
        status = response.status_code
        if 300 <= status < 400:
            raise ServerError(
                f"{self.host}: sends on to another address, which is not followed; name that one "
                "with --server, if it is right"
            )
        try:
            told = json.loads(self._content(response))
        except (ValueError, RecursionError):
            told = {}
        raise self._error(status, told if isinstance(told, dict) else {}, num_bytes, path)

    def _error(
        self, status: int, told: dict[str, Any], num_bytes: int, path: str = ""
    ) -> ServerError:
        error = told.get("error", told)
        words = error.get("message", "") if isinstance(error, dict) else error
        said = " ".join(str(words or told.get("detail", "")).split())[:_MOST_WORDS]
        if status in {401, 403}:
            more = "refuses the key" if self.has_key else "wants a key"
            return KeyRefusedError(
                f"{self.host}: the server {more}; set MM1_API_KEY, or name a file with "
                "--api-key-file"
            )
        if status == 413:
            return TooLongError(
                f"{self.host}: the server takes no request of {num_bytes:,} bytes; let it take "
                "more, or give fewer documents, --focus N or --context-tokens"
            )
        kind = f"{error.get('type', '')} {error.get('param', '')}" if error is not told else ""
        if isinstance(error, dict) and any(one in f"{kind} {said}".lower() for one in _TOO_LONG):
            return TooLongError(
                f"{self.host}: more than the server's context ({said}); start it with a longer "
                "one, or lower --context-tokens"
            )
        if status in _MISSING or status == 400:
            return _RefusedError(f"{self.host}: {path}: {said or status}")
        return ServerError(f"{self.host}: the server says {status}: {said or 'nothing more'}")


class _RefusedError(ServerError):
    """There is no such path, or it does not take this request."""


def _address(url: str) -> tuple[str, str]:
    """The host as it is told, and what paths are put behind."""
    whole = url if "//" in url else f"http://{url}"
    try:
        parts = urlsplit(whole)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        raise ServerError(f"--server {url!r} is no address; write http://HOST:PORT") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        raise ServerError(f"--server {url!r} is no address; write http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ServerError("--server has a name or a key in it; keys come by MM1_API_KEY alone")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{name}{port}", f"{parts.scheme}://{name}{port}{path}"


def _library() -> ModuleType:
    try:
        import httpx2
    except ImportError:
        raise ServerError("--server needs httpx2; pip install 'mm1[remote]'") from None
    return httpx2
