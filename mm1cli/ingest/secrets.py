"""Keys, tokens and passwords in text: well-known formats, each with a name, and nothing by chance.

Why no library: detect-secrets reads files from disk by name, with settings that are global to the
process; most of its finds in prose come from measures of entropy, and a document would be left out
for a hash or a base64 picture. Every format here begins with something its issuer put there to be
found, or is a literal assigned to a name that says it is a password.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mm1cli.ingest.corpus import Block


@dataclass(frozen=True, slots=True)
class _Format:
    """`hints`: one of them, in lower case, stands in any text that has such a secret."""

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def _format(name: str, hints: str, pattern: str, flags: re.RegexFlag = re.NOFLAG) -> _Format:
    return _Format(name, tuple(hints.split()), re.compile(pattern, flags))


_FORMATS = (
    _format(
        "private key",
        "private",
        r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?=[^-]{0,40}\n[ \t>|]*[A-Za-z0-9+/=:]{16})",
    ),
    _format("AWS access key", "akia asia", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    _format(
        "GitHub token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{60,255})\b",
    ),
    _format("GitLab token", "glpat-", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    _format("Slack token", "xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    _format("Slack webhook", "hooks.slack", r"hooks\.slack\.com/services/T\w{6,}/B\w{6,}/\w{16,}"),
    _format("Google API key", "aiza", r"\bAIza[A-Za-z0-9_-]{35}(?![\w-])"),
    _format("Stripe key", "k_live_", r"\b[sr]k_live_[A-Za-z0-9]{20,}\b"),
    _format("OpenAI key", "sk-", r"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{40,}"),
    _format("Anthropic key", "sk-ant-", r"\bsk-ant-[A-Za-z0-9_-]{32,}"),
    _format("Hugging Face token", "hf_", r"\bhf_[A-Za-z0-9]{34,}\b"),
    _format("npm token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    _format("PyPI token", "pypi-", r"\bpypi-AgE[A-Za-z0-9_-]{50,}"),
    _format("SendGrid key", "sg.", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b"),
    _format("age key", "age-secret", r"\bAGE-SECRET-KEY-1[A-Z0-9]{58}\b"),
    _format("Azure storage key", "accountkey=", r"(?i)\bAccountKey=[A-Za-z0-9+/]{86}=="),
    _format(
        "password in a URL",
        "://",
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'<>{}$]{1,64}:(?P<value>[^\s:/@\"'<>]{6,64})@[\w.-]+",
    ),
    _format(
        "password",
        "password passwd passphrase secret api_key apikey api-key auth_token access_token",
        r"\b[\w.-]{0,40}(?:password|passwd|passphrase|secret|secret_?key|api[_-]?key|auth_token"
        r"|access_token)[\"']?[ \t]{0,4}(?:=|:|:=|=>)[ \t]{0,4}"
        r"(?:[\"'](?P<quoted>[^\s\"']{8,128})[\"']|(?P<bare>[^\s\"'`<>(){}\[\],;]{8,128})[ \t]*$)",
        re.IGNORECASE | re.MULTILINE,
    ),
)
_PLACEHOLDER = re.compile(
    r"example|changeme|change_me|placeholder|your|dummy|redacted|secret|passw|test|todo|insert"
    r"|xxxx|\*\*\*|\.\.\.|\$\{|\$\(|%\(|\{\{|<|env|None|null|123456",
    re.IGNORECASE,
)
_DOCUMENTED = "EXAMPLE"  # how the issuers' own manuals mark keys that open nothing


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
            for form in _FORMATS
            if any(hint in lowered for hint in form.hints)
            for match in form.pattern.finditer(block.text)
            if _is_meant(match)
        ]
        told: set[tuple[str, str]] = set()
        for start, end, name in sorted(found):
            where = str(block.locate(start, end))
            if (where, name) not in told:
                told.add((where, name))
                yield Secret(name, where)


def _is_meant(match: re.Match[str]) -> bool:
    groups = match.groupdict()
    value = groups.get("value") or groups.get("quoted") or groups.get("bare")
    if value is None:
        return _DOCUMENTED not in match[0]
    if _PLACEHOLDER.search(value):
        return False
    kinds = (str.islower, str.isupper, str.isdigit)
    num_kinds = sum(any(map(kind, value)) for kind in kinds) + (not value.isalnum())
    # A bare word may be a variable's name or a type: password: SecretStr1.
    needed = 2 if groups.get("bare") is None else 3
    return num_kinds >= needed and any(map(str.isdigit, value))
