"""One line of a `.gitignore`, matched as git's own dir.c and wildmatch.c match it: bytewise.

Libraries differ from git in corners (a `**` after literal text, classes, escapes, bytes that are
not UTF-8), and their regular expressions can take exponential time on a hostile line. Here a line
becomes a few tokens; matching steps through the text with the set of tokens that may come next.
"""

import re
from dataclasses import dataclass

_SPECIAL = frozenset(b"*?[\\")
_SLASH = ord("/")
_ANY_NAME = "*"  # any bytes but "/"
_ANY_PATH = "**"  # any bytes
_ANY_FOLDERS = "**/"  # nothing, or any bytes up to and with a "/"
_Token = str | frozenset[int]
_NOT_SLASH = frozenset(range(256)) - {_SLASH}
_MOST_STARS_IN_REGEX = 1  # with more a regular expression is no longer linear
_MOST_BYTES = 1024  # of a line with wildcards: hardly a path has as many


def _class(text: bytes) -> frozenset[int]:
    return frozenset(text)


_DIGITS, _LOWER = _class(b"0123456789"), _class(b"abcdefghijklmnopqrstuvwxyz")
_UPPER = frozenset(code - 32 for code in _LOWER)
_GRAPH = frozenset(range(0x21, 0x7F))
_CLASSES = {
    b"alnum": _DIGITS | _LOWER | _UPPER,
    b"alpha": _LOWER | _UPPER,
    b"blank": _class(b" \t"),
    b"cntrl": frozenset((*range(0x20), 0x7F)),
    b"digit": _DIGITS,
    b"graph": _GRAPH,
    b"lower": _LOWER,
    b"print": _GRAPH | {0x20},
    b"punct": _GRAPH - _DIGITS - _LOWER - _UPPER,
    b"space": _class(b" \t\n\v\f\r"),
    b"upper": _UPPER,
    b"xdigit": _DIGITS | _class(b"abcdefABCDEF"),
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """`literal` is what a path starts with before the first wildcard; `tokens` match the rest,
    None if the line can match nothing."""

    is_negated: bool
    folders_only: bool
    name_only: bool
    literal: bytes
    tokens: tuple[_Token, ...] | None
    regex: "re.Pattern[bytes] | None"

    def matches(self, path: bytes, *, is_folder: bool) -> bool:
        """`path` is below the folder of the line's file: b"src/a.py"."""
        if self.folders_only and not is_folder:
            return False
        text = path.rpartition(b"/")[2] if self.name_only else path
        if self.tokens is None or not text.startswith(self.literal):
            return False
        rest = text[len(self.literal) :]
        if not self.tokens:
            return not rest
        if self.regex is not None:
            return self.regex.fullmatch(rest) is not None
        return _step_through(self.tokens, rest)


def num_wildcards(line: bytes) -> int:
    """What each path may have to be held against."""
    return sum(map(line.count, (b"*", b"?", b"[")))


def parse(line: bytes) -> Pattern | None:
    """The pattern of a line without its end; None for blank lines, comments and what is too long
    to be meant."""
    line = line.partition(b"\0")[0]
    if line.startswith(b"#") or (len(line) > _MOST_BYTES and num_wildcards(line)):
        return None
    line = _without_trailing_spaces(line)
    if not line:
        return None
    is_negated = line.startswith(b"!")
    line = line[is_negated:]
    folders_only = line.endswith(b"/")
    line = line[:-1] if folders_only else line
    name_only = b"/" not in line
    length = next((at for at, code in enumerate(line) if code in _SPECIAL), len(line))
    literal, rest = line[:length], line[length:]
    if literal.startswith(b"/"):
        literal = literal[1:]
    tokens = _tokens(rest)
    if not literal and not rest:
        tokens = None
    return Pattern(is_negated, folders_only, name_only, literal, tokens, _regex(tokens))


def _without_trailing_spaces(line: bytes) -> bytes:
    end, at = None, 0
    while at < len(line):
        if line[at : at + 1] == b" ":
            end = at if end is None else end
        else:
            if line[at : at + 1] == b"\\":
                at += 1
                if at >= len(line):
                    return line
            end = None
        at += 1
    return line if end is None else line[:end]


def _tokens(text: bytes) -> tuple[_Token, ...] | None:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        code = text[at : at + 1]
        if code == b"\\":
            if at + 1 >= len(text):
                return None
            tokens.append(frozenset((text[at + 1],)))
            at += 2
        elif code == b"?":
            tokens.append(_NOT_SLASH)
            at += 1
        elif code == b"*":
            end = at
            while text[end : end + 1] == b"*":
                end += 1
            after = text[end:]
            is_deep = end - at > 1 and (at == 0 or text[at - 1] == _SLASH)
            if is_deep and after.startswith(b"/"):
                tokens.append(_ANY_FOLDERS)
                end += 1
            elif is_deep and (not after or after.startswith(b"\\/")):
                tokens.append(_ANY_PATH)
            else:
                tokens.append(_ANY_NAME)
            at = end
        elif code == b"[":
            found = _bracket(text, at + 1)
            if found is None:
                return None
            allowed, at = found
            tokens.append(allowed)
        else:
            tokens.append(frozenset(code))
            at += 1
    return tuple(tokens)


def _bracket(text: bytes, at: int) -> tuple[frozenset[int], int] | None:
    """What a "[...]" whose "[" is before `at` allows, and where it ends; None if it does not."""
    is_negated = text[at : at + 1] in {b"!", b"^"}
    at += is_negated
    allowed: set[int] = set()
    before = 0
    is_first = True
    while is_first or text[at : at + 1] != b"]":
        is_first = False
        if at >= len(text):
            return None
        code, following = text[at], text[at + 1 : at + 2]
        if code == ord("-") and before and following and following != b"]":
            at += 1
            if following == b"\\":
                at += 1
                if at >= len(text):
                    return None
            allowed.update(range(before, text[at] + 1))
            code = 0
        elif code == ord("[") and following == b":":
            end = text.find(b"]", at + 2)
            if end < 0:
                return None
            if end - 1 < at + 2 or text[end - 1 : end] != b":":
                allowed.add(code)
            else:
                name = text[at + 2 : end - 1]
                if name not in _CLASSES:
                    return None
                allowed |= _CLASSES[name]
                at, code = end, 0
        else:
            if code == ord("\\"):
                at += 1
                if at >= len(text):
                    return None
                code = text[at]
            allowed.add(code)
        before = code
        at += 1
    return _NOT_SLASH & (_NOT_SLASH - allowed if is_negated else frozenset(allowed)), at + 1


def _regex(tokens: tuple[_Token, ...] | None) -> "re.Pattern[bytes] | None":
    """For lines with so few stars that backtracking stays cheap."""
    if not tokens or sum(isinstance(token, str) for token in tokens) > _MOST_STARS_IN_REGEX:
        return None
    stars = {_ANY_NAME: b"[^/]*", _ANY_PATH: b".*", _ANY_FOLDERS: b"(?:.*/)?"}
    pieces = []
    for token in tokens:
        if isinstance(token, str):
            pieces.append(stars[token])
        elif not token:
            pieces.append(b"(?!)")
        elif token == _NOT_SLASH:
            pieces.append(b"[^/]")
        else:
            pieces.append(b"[" + b"".join(b"\\x%02x" % code for code in sorted(token)) + b"]")
    return re.compile(b"".join(pieces), re.DOTALL)


def _step_through(tokens: tuple[_Token, ...], text: bytes) -> bool:
    """In time len(tokens) * len(text) at most."""
    states = _reached(tokens, {0})
    for code in text:
        after: set[int] = set()
        for state in states:
            if state < 0 or state == len(tokens):
                continue
            token = tokens[state]
            if isinstance(token, frozenset):
                if code in token:
                    after.add(state + 1)
            elif token == _ANY_NAME:
                if code != _SLASH:
                    after.add(state)
            elif token == _ANY_PATH:
                after.add(state)
            else:  # inside "**/": it is left only behind a slash
                after.add(-state - 1)
                if code == _SLASH:
                    after.add(state + 1)
        for state in [state for state in states if state < 0]:
            after.add(state)
            if code == _SLASH:
                after.add(-state)
        states = _reached(tokens, after)
        if not states:
            return False
    return len(tokens) in states


def _reached(tokens: tuple[_Token, ...], states: set[int]) -> set[int]:
    """With the states that are reached without a byte. State -s-1 is inside the "**/" at s."""
    reached = set(states)
    todo = [state for state in states if state >= 0]
    while todo:
        state = todo.pop()
        if state < len(tokens) and isinstance(tokens[state], str) and state + 1 not in reached:
            reached.add(state + 1)
            todo.append(state + 1)
    return reached
