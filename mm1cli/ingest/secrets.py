"""Keys, tokens and passwords in text: well-known formats, each with a name, and nothing by chance.

Why no library: detect-secrets reads files from disk by name, with settings that are global to the
process; most of its finds in prose come from measures of entropy, and a document would be left out
for a hash or a base64 picture. The formats are in `secret_formats`; here is what of their matches
is meant.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from mm1cli.ingest.corpus import Block
from mm1cli.ingest.secret_formats import FORMATS

_PLACEHOLDER = re.compile(
    r"example|changeme|change_me|placeholder|your|dummy|redacted|secret|passw|test|todo|insert"
    r"|xxxx|\*\*\*|\.\.\.|\$\{|\$\(|%\(|\{\{|<|env|None|null|123456|sample|fake|foobar|hunter2$"
    r"|replace|default|undefined",
    re.IGNORECASE,
)
# Of lines `password: word` in manuals and schemas; a password that is one of these is no secret.
_WORDS = frozenset(
    {
        "required", "optional", "username", "disabled", "enabled", "otherwise", "anything",
        "something", "nothing", "boolean", "anonymous", "plaintext", "localhost", "postgres",
        "unchanged", "incorrect", "mandatory", "encrypted", "forgotten", "integer", "character",
        "characters", "authentication", "credentials", "basestring", "ansible", "function",
        "contextual", "whatever", "forbidden", "supported", "unsupported", "variable",
        "property", "attribute",
    }
)  # fmt: skip
# What the issuers' own manuals use, which opens nothing.
_DOCUMENTED = ("EXAMPLE", "SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c", "QWxhZGRpbjpvcGVu")
_ENV_FILE = re.compile(r"(?:.*\.)?env(?:\.[\w-]+)?", re.IGNORECASE)
_ASSIGNED = re.compile(r"[ \t]*(?:export[ \t]+)?[A-Za-z_][\w.-]*[ \t]*=")
_LEFT_OUT = "[left out]"


@dataclass(frozen=True, slots=True)
class Secret:
    """`where` is as a locator says it."""

    name: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.name}"


def find_secrets(blocks: tuple[Block, ...]) -> Iterator[Secret]:
    """What looks like a secret, in the order of the text; one for each place and format."""
    for block in blocks:
        lowered = block.text.lower()
        found = [
            (match.start(), match.end(), form.name)
            for form in FORMATS
            if any(hint in (lowered if hint.islower() else block.text) for hint in form.hints)
            for match in form.pattern.finditer(block.text)
            if _is_meant(match)
        ]
        told: set[tuple[str, str]] = set()
        for start, end, name in sorted(found):
            where = str(block.locate(start, end))
            if (where, name) not in told:
                told.add((where, name))
                yield Secret(name, where)


def is_env_file(path: str) -> bool:
    """Whether a file of that name holds settings whose names alone are worth reading."""
    return _ENV_FILE.fullmatch(PurePosixPath(path).name) is not None


def without_values(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """The blocks of a .env file, every line with its name but no value."""
    return tuple(
        replace(block, text="\n".join(map(_without_value, block.text.split("\n"))), source=())
        for block in blocks
    )


def _without_value(line: str) -> str:
    if not line.strip() or line.lstrip().startswith("#"):
        return line if not line.strip() else "#"
    assigned = _ASSIGNED.match(line)
    return f"{assigned[0] if assigned else ''}{_LEFT_OUT}"


def _is_meant(match: re.Match[str]) -> bool:
    if any(known in match[0] for known in _DOCUMENTED):
        return False
    groups = {name: value for name, value in match.groupdict().items() if value is not None}
    if not groups:
        return True
    ((kind, value),) = groups.items()
    return not _is_placeholder(kind, value) and _fits(kind, value, match[0])


def _is_placeholder(kind: str, value: str) -> bool:
    if kind in {"key", "bearer", "basic"}:  # chance puts "test" into what is long and random
        return "xxxx" in value.lower() or len(set(value)) < 8
    return _PLACEHOLDER.search(value) is not None or len(set(value)) < 4


def _fits(kind: str, value: str, whole: str) -> bool:
    """Whether `value` could be one, of the kind that its group in the pattern names."""
    has_digit = any(map(str.isdigit, value))
    if kind in {"plain", "set", "set_quoted"}:
        return not value.isdigit()
    if kind in {"key", "bearer"}:
        return has_digit and any(map(str.isalpha, value)) and _num_kinds(value) >= 2
    if kind == "basic":
        return _is_user_and_password(value)
    if kind == "value":
        return _num_kinds(value) >= 2
    if kind == "url":
        return _num_kinds(value) >= 2 or len(value) >= 8
    if kind == "word":
        return value not in _WORDS
    # A bare word may be a variable's name or a type: password: SecretStr1.
    if kind == "bare":
        return has_digit and _num_kinds(value) >= 3
    is_word = re.fullmatch("[a-z]{8,}", value) is not None and value not in _WORDS
    is_password = re.search(r"(?i)passw|pwd|passphrase", whole.partition(value)[0]) is not None
    return (has_digit and _num_kinds(value) >= 2) or (is_word and is_password)


def _num_kinds(value: str) -> int:
    """Of small and capital letters, digits, and the rest."""
    kinds = (str.islower, str.isupper, str.isdigit)
    return sum(any(map(kind, value)) for kind in kinds) + (not value.isalnum())


def _is_user_and_password(value: str) -> bool:
    try:
        text = base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return False
    user, colon, password = text.partition(b":")
    return bool(user and colon and len(password) >= 6 and text.isascii())
