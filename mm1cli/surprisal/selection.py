"""Which documents have lines worth ranking: program text that a person wrote and keeps here."""

import re
from pathlib import PurePath

from mm1cli.ingest.corpus import Document
from mm1cli.surprisal.lexer import LANGUAGES

_VENDORED = frozenset(
    (
        ".yarn",
        "bower_components",
        "carthage",
        "dist-packages",
        "extern",
        "external",
        "node_modules",
        "pods",
        "site-packages",
        "third-party",
        "third_party",
        "thirdparty",
        "vendor",
        "vendored",
        "vendors",
        "_vendor",
    )
)
_GENERATED_ENDS = ("_pb2.py", "_pb2_grpc.py", ".pb.go", ".g.dart", ".generated.cs", ".designer.cs")
_SAYS_SO = (
    r"@generated\b|\bdo not (?:edit|modify)\b|\bauto-?generated\b"
    r"|\bgenerated (?:by|from|automatically)\b"
)
_GENERATED = re.compile(
    rf"^[ \t]*(?:\#|//|/?\*|--|;|%|<!--)[^\n]*?(?:{_SAYS_SO})", re.IGNORECASE | re.MULTILINE
)
_HEAD_CHARS = 600
_LONG_LINES_CHARS = 300  # on average: data, or code that was squeezed


def why_not(document: Document) -> str:
    """Why the lines of `document` are not ranked; "" where they are."""
    if document.kind.startswith("minified"):
        return "minified"
    if document.kind not in LANGUAGES or len(document.blocks) != 1:
        return "not program text"
    path = PurePath(document.path)
    if not _VENDORED.isdisjoint(part.lower() for part in path.parts[:-1]):
        return "vendored"
    text = document.blocks[0].text
    if path.name.lower().endswith(_GENERATED_ENDS) or _GENERATED.search(text, 0, _HEAD_CHARS):
        return "generated"
    if len(text) > _LONG_LINES_CHARS * (text.count("\n") + 1):
        return "minified"
    return ""
