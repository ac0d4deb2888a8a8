"""Text of any kind: prose, Markdown, source code, and whatever else decodes."""

import codecs
import re
from pathlib import PurePath

from mm1cli.ingest.corpus import Block, Reason
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading

# UTF-32 before UTF-16: the little-endian mark of one starts with that of the other.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What text files do hold: \a \b \t \n \v \f \r and the escape of terminal colours.
_CONTROLS = bytes(sorted(set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27}))
_MAX_CONTROL_SHARE = 0.01
_CRLF = re.compile(r"\r\n")
_MAX_LATIN_CONTROL_SHARE = 0.001


def _kinds(**extensions: str) -> dict[str, str]:
    return {f".{name}": kind for kind, names in extensions.items() for name in names.split()}


_KINDS = _kinds(
    text="txt text log",
    markdown="md markdown mdown mkd",
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


def decode(data: bytes) -> tuple[str, str, tuple[str, ...]]:
    """The text in `data`, its encoding, and a warning if that was guessed.

    Raises ReadError: BINARY.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                break
            _refuse_binary(text.encode(), _MAX_CONTROL_SHARE)
            return text, encoding, ()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _decode_latin(data)
    _refuse_binary(data, _MAX_CONTROL_SHARE)
    return text, "utf-8", ()


def normalise(text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """`text` with "\n" as only line end, and the map back to it, as `Block.source` has it."""
    points = [(0, 0)]
    for num_dropped, match in enumerate(_CRLF.finditer(text), 1):
        points.append((match.end() - num_dropped, match.end()))
    return normalise_newlines(text), tuple(points)


def normalise_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def looks_binary(data: bytes) -> bool:
    """Whether `data`, in an encoding that extends ASCII, is no text."""
    return _is_binary(data, _MAX_CONTROL_SHARE)


def _decode_latin(data: bytes) -> tuple[str, str, tuple[str, ...]]:
    # Every byte is a letter in these encodings, so controls are the only sign of binary data.
    _refuse_binary(data, _MAX_LATIN_CONTROL_SHARE)
    for encoding in ("cp1252", "latin-1"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        warning = f"not UTF-8; read as {encoding}, letters outside ASCII may be wrong"
        return text, encoding, (warning,)
    raise AssertionError("latin-1 decodes every byte")


def _refuse_binary(data: bytes, max_share: float) -> None:
    if _is_binary(data, max_share):
        raise ReadError(Reason.BINARY)


def _is_binary(data: bytes, max_share: float) -> bool:
    if b"\0" in data:
        return True
    num_controls = len(data) - len(data.translate(None, _CONTROLS))
    return num_controls > max_share * len(data)


TEXT = Reader(
    name="text",
    version=2,
    kinds=_KINDS,
    max_bytes=64 * MIB,
    sandboxed=False,
    read=read_text,
)
