"""What `serve` and `mcp --port` share: a port taken at once, and a server that ends well."""

import socket
from typing import TYPE_CHECKING

from mm1cli import interrupts
from mm1cli.errors import UsageError
from mm1cli.sink import Sink

if TYPE_CHECKING:
    from starlette.applications import Starlette

_MOST = 65_535


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UsageError for a port that cannot be had.

    Taken before models are loaded, so that it is known in the first second.
    """
    if not 1 <= port <= _MOST:
        raise UsageError(f"--port {port}: a port is a number from 1 to {_MOST:,}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # localhost is both; clients that know one of the two know IPv4
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        return socket.create_server((str(address[0]), port), family=family)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise UsageError(f"--port {port} on {host}: {said}; name another with --port") from None


def serve(app: "Starlette", taken: socket.socket, sink: Sink) -> None:
    """Until it is stopped; Ctrl-C is how a server ends."""
    import uvicorn

    config = uvicorn.Config(app, log_level="error", access_log=False)
    try:
        uvicorn.Server(config).run(sockets=[taken])
    except KeyboardInterrupt:
        interrupts.begin_again()
        sink.note("stopped")
