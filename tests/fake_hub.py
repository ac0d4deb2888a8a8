"""A hub of our own: what huggingface_hub asks of one, and files that come in ranges, or break."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from model_stores import COMMIT

LARGE_BYTES = 2000  # from here on a file is kept in LFS and has a sha256


@dataclass
class FakeHub:
    """`asked` are (path, Range) of all requests; `cut_at` ends a download there, once; what is in
    `lies` is sent instead of a file's contents; `ignores_ranges` sends all of it always."""

    repository: str
    files: Mapping[str, bytes]
    commit: str = COMMIT
    asked: list[tuple[str, str]] = field(default_factory=list)
    cut_at: int | None = None
    lies: dict[str, bytes] = field(default_factory=dict)
    ignores_ranges: bool = False
    url: str = ""

    def downloads(self) -> list[tuple[str, str]]:
        return [(path, part) for path, part in self.asked if "/resolve/" in path]

    def answer(self, path: str) -> object:
        base = f"/api/models/{self.repository}"
        if path.startswith(f"{base}/tree/{self.commit}"):
            return [self._entry(name, content) for name, content in self.files.items()]
        if path in {base, f"{base}/revision/main", f"{base}/revision/{self.commit[:12]}"}:
            return {
                "id": self.repository,
                "sha": self.commit,
                "siblings": [{"rfilename": name} for name in self.files],
                "cardData": {"license": "apache-2.0"},
                "tags": [],
            }
        return None

    def _entry(self, name: str, content: bytes) -> dict[str, object]:
        oid = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        told: dict[str, object] = {"type": "file", "path": name, "size": len(content), "oid": oid}
        if len(content) >= LARGE_BYTES:
            sha256 = hashlib.sha256(content).hexdigest()
            told["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
        return told


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path, part = unquote(urlsplit(self.path).path), self.headers.get("Range", "")
            hub.asked.append((path, part))
            resolve = f"/{hub.repository}/resolve/{hub.commit}/"
            name = path.removeprefix(resolve)
            if path.startswith(resolve) and name in hub.files:
                self._file(hub.lies.get(name, hub.files[name]), part)
            elif (answer := hub.answer(path)) is not None:
                self._send(200, json.dumps(answer).encode())
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _file(self, content: bytes, part: str) -> None:
            if not part or hub.ignores_ranges:
                self._send(200, content)
                return
            start = int(part.removeprefix("bytes=").rstrip("-"))
            self._send(206, content[start:])

        def _send(self, code: int, content: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Repo-Commit", hub.commit)
            self.end_headers()
            if hub.cut_at is not None and len(content) > hub.cut_at:
                self.wfile.write(content[: hub.cut_at])
                hub.cut_at = None
                self.close_connection = True
                return
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
