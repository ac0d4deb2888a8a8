"""The child of the sandbox that parses source code: one task for each grammar and declaration."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from mm1cli.code.grammars import NAMES
from mm1cli.code.manifests import DECLARED
from mm1cli.code.parse import parse
from mm1cli.code.parsed import Parsed
from mm1cli.ingest.sandbox_child import serve_tasks


def _answer(read: Callable[[bytes], Parsed], data: bytes) -> tuple[dict[str, Any], bytes]:
    return asdict(read(data)), b""


TASKS = {
    **{name: partial(_answer, partial(parse, name)) for name in NAMES},
    **{name: partial(_answer, read) for name, read in DECLARED.items()},
}

if __name__ == "__main__":
    serve_tasks(TASKS)
