"""`--files-from`: paths listed in a file or on standard input, a line or a NUL after each."""

import os
from pathlib import Path
from typing import BinaryIO

from mm1cli.errors import InputError, UsageError
from mm1cli.ingest.display_names import shown_path

_MAX_BYTES = 64 << 20


def listed_paths(source: str, *, stdin: BinaryIO | None, ends_with_nul: bool) -> list[str]:
    """The paths in the file `source`, "-" being `stdin`, in their order; blank ones are dropped.

    Raises InputError if it cannot be read, UsageError if it holds NULs and was not said to.
    """
    try:
        if source == "-":
            if stdin is None:
                raise InputError("--files-from -: there is no standard input; name a file")
            content = stdin.read(_MAX_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"--files-from {shown_path(source)}: {error.strerror}; name a file that lists paths"
        ) from None
    if len(content) > _MAX_BYTES:
        raise InputError(f"--files-from {shown_path(source)}: more than {_MAX_BYTES >> 20} MiB")
    if not ends_with_nul and b"\0" in content:
        raise UsageError(f"--files-from {shown_path(source)}: holds NUL characters; add -0")
    ends = content.split(b"\0") if ends_with_nul else content.splitlines()
    return [os.fsdecode(path) for path in ends if path]
