"""A server that replies what a table says: recorded replies of servers that do not run in tests."""

import http.server
import json
import threading
from contextlib import contextmanager


class Recorded:
    """`replies` maps "GET /path" to (status, body): a dict for JSON, a list of events for a stream,
    bytes for what is sent as it is, a function of the request's body for any of these. What came is
    in `requests`: (path, body, headers)."""

    def __init__(self, replies):
        self.replies, self.requests, self.url = replies, [], ""

    def bodies(self, path):
        return [body for asked, body, _ in self.requests if asked == path]


@contextmanager
def recorded(replies):
    record = Recorded(replies)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            record.requests.append((self.path, body, dict(self.headers)))
            status, told = record.replies.get(f"{self.command} {self.path}", (404, {}))
            told = told(body) if callable(told) else told
            self.send_response(status)
            if status in range(300, 400):
                self.send_header("Location", told["to"])
            if isinstance(told, list):
                events = (
                    one if isinstance(one, bytes) else json.dumps(one).encode() for one in told
                )
                told = b"".join(b"data: " + event + b"\n\n" for event in events)
            content = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        record.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield record
        finally:
            server.shutdown()
            thread.join()
