"""Files that no person wrote: lock files and minified code, which eat a context; LFS pointers."""

from pathlib import PurePath

_LOCK_NAMES = frozenset(
    (
        "bun.lock",
        "cargo.lock",
        "composer.lock",
        "flake.lock",
        "gemfile.lock",
        "go.sum",
        "gradle.lockfile",
        "mix.lock",
        "npm-shrinkwrap.json",
        "package-lock.json",
        "packages.lock.json",
        "pdm.lock",
        "pipfile.lock",
        "pnpm-lock.yaml",
        "podfile.lock",
        "poetry.lock",
        "uv.lock",
        "yarn.lock",
    )
)
_MINIFIED_ENDS = (".min.js", ".min.css", ".min.mjs", ".bundle.js", ".js.map", ".css.map")
_MINIFIED_KINDS = frozenset({"javascript", "css", "json", "xml"})
_MINIFIED_LINE_CHARS = 1_000  # on average
_LFS_START = b"version https://git-lfs.github.com/spec/"
_LFS_LONGEST_BYTES = 1024


def generated_kind(name: str, kind: str, text: str) -> str:
    """`kind`, or what the file is better called: "lock file", "minified javascript"."""
    base = PurePath(name.lower()).name
    if base in _LOCK_NAMES:
        return "lock file"
    is_minified = base.endswith(_MINIFIED_ENDS)
    if kind in _MINIFIED_KINDS and not is_minified:
        is_minified = len(text) > _MINIFIED_LINE_CHARS * (text.count("\n", 0, len(text) - 1) + 1)
    return f"minified {kind}" if is_minified else kind


def lfs_size(data: bytes) -> int | None:
    """The size of the file that `data` stands for, if it is a Git LFS pointer; else None."""
    if len(data) > _LFS_LONGEST_BYTES or not data.startswith(_LFS_START):
        return None
    for line in data.split(b"\n"):
        word, _, value = line.partition(b" ")
        if word == b"size" and value.strip().isdigit():
            return int(value)
    return None
