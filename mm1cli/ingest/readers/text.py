"""Text of any kind: prose, Markdown, source code, and whatever else decodes."""

import re
from pathlib import PurePath

from mm1cli.ingest.corpus import Block, Reason
from mm1cli.ingest.readers.encoding import decode
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading

_CRLF = re.compile(r"\r\n")
_MAX_LATIN_CONTROL_SHARE = 0.001


def _kinds(**extensions: str) -> dict[str, str]:
    return {f".{name}": kind for kind, names in extensions.items() for name in names.split()}


_KINDS = _kinds(
    text="txt text log",
    restructuredtext="rst",
    asciidoc="adoc asciidoc",
    latex="tex sty cls bib",
    python="py pyi pyw",
    javascript="js mjs cjs jsx",
    typescript="ts mts cts tsx",
    c="c h",
    cpp="cc cpp cxx hh hpp hxx",
    cuda="cu cuh",
    csharp="cs",
    java="java",
    kotlin="kt kts",
    scala="scala",
    swift="swift",
    go="go",
    rust="rs",
    ruby="rb",
    php="php",
    perl="pl pm",
    lua="lua",
    r="r",
    julia="jl",
    haskell="hs",
    elixir="ex exs",
    erlang="erl hrl",
    clojure="clj cljs",
    ocaml="ml mli",
    zig="zig",
    nim="nim",
    dart="dart",
    fortran="f f90 f95",
    assembly="s asm",
    shell="sh bash zsh fish",
    powershell="ps1 psm1",
    batch="bat cmd",
    sql="sql",
    css="css scss sass less",
    xml="xml xsd xsl svg",
    json="json jsonl ndjson",
    yaml="yaml yml",
    toml="toml",
    ini="ini cfg conf properties",
    diff="diff patch",
    protobuf="proto",
    cmake="cmake",
    nix="nix",
    terraform="tf hcl",
    vue="vue",
    svelte="svelte",
    subtitles="srt vtt",
)
_NAMES = {"makefile": "makefile", "dockerfile": "dockerfile", "cmakelists.txt": "cmake"}


def kind_of(name: str) -> str:
    """The kind of text a file called `name` holds; "text" when the name does not tell."""
    path = PurePath(name.lower())
    return _NAMES.get(path.name) or _KINDS.get(path.suffix, "text")


def read_text(data: bytes) -> Reading:
    """One block, its first line is line 1. Raises ReadError: BINARY or EMPTY."""
    text, encoding, warnings = decode(data)
    if not text or text.isspace():
        raise ReadError(Reason.EMPTY)
    normalised, source = normalise(text)
    return Reading((Block(normalised, source=source),), warnings, encoding=encoding)


def normalise(text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """`text` with "\n" as only line end, and the map back to it, as `Block.source` has it."""
    points = [(0, 0)]
    for num_dropped, match in enumerate(_CRLF.finditer(text), 1):
        points.append((match.end() - num_dropped, match.end()))
    return normalise_newlines(text), tuple(points)


def normalise_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


TEXT = Reader(
    name="text",
    version=3,
    kinds=_KINDS,
    max_bytes=64 * MIB,
    sandboxed=False,
    read=read_text,
)
