"""From --tool, --mcp, --tool-approve and --max-tool-calls to what a run may use."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from mm1cli.errors import UsageError
from mm1cli.output.text import safe_line
from mm1cli.tools.formats import Call
from mm1cli.tools.toolbox import NAMES, NONE, Tool, ToolOptions


@contextmanager
def tool_options(
    names: Sequence[str] | None,
    *,
    is_asked: bool,
    most_calls: int | None,
    mcp_file: Path | None = None,
) -> Iterator[ToolOptions]:
    """Without names where no --tool was given. Servers of `mcp_file` run as long as this is open.

    Raises UsageError for a name that is none, and where calls are to be approved and nobody can be
    asked.
    """
    if most_calls is not None and most_calls < 1:
        raise UsageError("--max-tool-calls: 1 or more; --tool none allows no tools")
    if is_asked and not sys.stdin.isatty():
        raise UsageError("--tool-approve asks on the terminal, and there is none")
    rules = ToolOptions(approve=_approve) if is_asked else ToolOptions()
    rules = rules if most_calls is None else replace(rules, most_calls=most_calls)
    if names is None:
        if mcp_file is not None:
            raise UsageError(
                "--mcp allows nothing by itself: name what may be called, --tool NAME.TOOL"
            )
        yield rules
        return
    outside = [name for name in names if "." in name]
    ours = tuple(name for name in names if "." not in name)
    for name in ours:
        if name not in (*NAMES, NONE):
            raise UsageError(f"--tool {name}: there is {', '.join(NAMES)}, and {NONE}")
    if outside and mcp_file is None:
        raise UsageError(f"--tool {outside[0]}: --mcp FILE says what server that is")
    with ExitStack() as stack:
        tools: list[Tool] = []
        if outside and mcp_file is not None:
            from mm1cli.mcp.client import outside_tools

            tools = stack.enter_context(outside_tools(mcp_file, outside))
        chosen = tuple(name for name in ours if name != NONE)
        yield replace(rules, names=chosen, outside=tuple(tools))


def _approve(call: Call) -> bool:
    shown = safe_line(f"{call.name} {json.dumps(dict(call.arguments), ensure_ascii=False)}")
    sys.stderr.write(f"allow {shown}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
