"""Links from a terminal to the files that are cited (OSC 8), where it is certain which they are."""

import socket
from functools import cache
from pathlib import Path
from urllib.parse import quote

from mm1cli.ingest.corpus import Locator
from mm1cli.ingest.manifest import Manifest

_PAGED = frozenset({".pdf"})


class Links:
    """`file:` URLs of the files in a manifest.

    A path as it is shown may no longer be the file that was read: one inside an archive, one whose
    name had bytes that are not text, one seen from another folder. So only a file of the size that
    was read is linked to.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._sizes = {entry.path: entry.num_bytes for entry in manifest.read}

    def url(self, path: str, locator: Locator) -> str | None:
        """Printable ASCII, with this host's name; a PDF opens at the page."""
        try:
            file = Path(path).absolute()
            if not file.is_file() or file.stat().st_size != self._sizes.get(path):
                return None
            where = quote(file.as_posix(), safe="/")
        except (OSError, ValueError):
            return None
        place = locator.place
        is_paged = file.suffix.lower() in _PAGED and place is not None and place.kind == "page"
        page = f"#page={place.index + 1}" if is_paged and place is not None else ""
        return f"file://{_host()}{where if where.startswith('/') else f'/{where}'}{page}"


@cache
def _host() -> str:
    return quote(socket.gethostname(), safe="")
