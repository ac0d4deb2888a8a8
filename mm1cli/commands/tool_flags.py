"""From --tool, --tool-approve and --max-tool-calls to what a run may use."""

import json
import sys
from collections.abc import Sequence

from mm1cli.errors import UsageError
from mm1cli.output.text import safe_line
from mm1cli.tools.formats import Call
from mm1cli.tools.toolbox import NAMES, NONE, ToolOptions

MOST_CALLS = 8


def tool_options(
    names: Sequence[str] | None, *, is_asked: bool, most_calls: int | None
) -> ToolOptions | None:
    """None where no --tool was given. Raises UsageError for a name that is none, and where calls
    are to be approved and nobody can be asked."""
    if most_calls is not None and most_calls < 1:
        raise UsageError("--max-tool-calls: 1 or more; --tool none allows no tools")
    if names is None:
        return None
    for name in names:
        if name not in (*NAMES, NONE):
            raise UsageError(f"--tool {name}: there is {', '.join(NAMES)}, and {NONE}")
    if is_asked and not sys.stdin.isatty():
        raise UsageError("--tool-approve asks on the terminal, and there is none")
    chosen = tuple(name for name in names if name != NONE)
    calls = MOST_CALLS if most_calls is None else most_calls
    return ToolOptions(chosen, calls, _approve) if is_asked else ToolOptions(chosen, calls)


def _approve(call: Call) -> bool:
    shown = safe_line(f"{call.name} {json.dumps(dict(call.arguments), ensure_ascii=False)}")
    sys.stderr.write(f"allow {shown}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
