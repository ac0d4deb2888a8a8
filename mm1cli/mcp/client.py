"""Tools of other MCP servers, for a model that answers: those that a flag names, and no others.

The file is that of other clients: {"mcpServers": {NAME: {"command": ..., "args": [...]}}}. A server
is started when one of its tools is allowed, as `--tool NAME.TOOL`, and ends with the run.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mm1cli.errors import InputError, UsageError
from mm1cli.tools.toolbox import Tool

_CALL_S = 60.0
_MOST_BYTES = 1 << 20


@contextmanager
def outside_tools(file: Path, names: Sequence[str]) -> Iterator[list[Tool]]:
    """The tools of those names (NAME.TOOL). Raises UsageError for one that there is not, InputError
    for a server that does not start."""
    try:
        from anyio.from_thread import start_blocking_portal
        from mcp import Client, StdioServerParameters, stdio_client
    except ModuleNotFoundError:
        raise UsageError("--mcp needs the SDK: pip install 'mm1[mcp]'") from None
    servers = _servers(file)
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        clients: dict[str, Any] = {}
        listed: dict[str, Any] = {}
        for server in dict.fromkeys(name.partition(".")[0] for name in names):
            if server not in servers:
                raise UsageError(f"{file} has no server {server!r}: {', '.join(servers) or 'none'}")
            try:
                parameters = StdioServerParameters(**servers[server])
                client = Client(stdio_client(parameters), read_timeout_seconds=_CALL_S)
                opened = portal.wrap_async_context_manager(client)
                clients[server] = stack.enter_context(opened)
                tools = portal.call(clients[server].list_tools).tools
            except Exception as error:  # the SDK raises groups of what went wrong
                why = _first(error)
                raise InputError(f"{file}: server {server!r} does not start ({why})") from None
            listed |= {f"{server}.{tool.name}": tool for tool in tools}

        def run(name: str, arguments: Mapping[str, Any]) -> str:
            server, _, tool = name.partition(".")
            try:
                result = portal.call(clients[server].call_tool, tool, dict(arguments))
            except Exception as error:
                raise InputError(f"{name}: {_first(error)}") from None
            text = "\n".join(part.text for part in result.content if part.type == "text")
            if result.is_error:
                raise InputError(f"{name}: {text or 'failed'}")
            return text

        yield [_tool(name, listed, run) for name in names]


def _tool(name: str, listed: Mapping[str, Any], run: Any) -> Tool:  # noqa: ANN401
    if name not in listed:
        raise UsageError(f"--tool {name}: there is {', '.join(sorted(listed)) or 'none'}")
    found = listed[name]
    return Tool(
        name,
        (found.description or "")[:1_000],
        dict(found.input_schema),
        lambda **arguments: str(run(name, arguments)),
        is_outside=True,
    )


def _first(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return " ".join(str(error).split())[:200] or type(error).__name__


def _servers(file: Path) -> dict[str, dict[str, Any]]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        told = json.loads(file.read_text(encoding="utf-8"))["mcpServers"]
        return {
            name: {
                "command": str(one["command"]),
                "args": [str(argument) for argument in one.get("args", ())],
                "env": {str(key): str(value) for key, value in one.get("env", {}).items()} or None,
            }
            for name, one in told.items()
        }
    except OSError as error:
        raise UsageError(f"--mcp {file}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f'--mcp {file}: such as {{"mcpServers": {{"web": {{"command": "web-mcp"}}}}}}'
        ) from None
