"""What kind of thing each stretch of program text is: enough to compare like with like.

A few regular expressions for each family of languages. Anything that keeps the promise of `Lexer`
can stand in, such as the leaves of a syntax tree.
"""

import keyword
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache


class Kind(StrEnum):
    IDENTIFIER = "identifier"
    FIRST_MENTION = "first mention"  # of an identifier in its file: no `Lexer` need tell it apart
    KEYWORD = "keyword"
    OPERATOR = "operator"  # brackets and punctuation among them
    NUMBER = "number"
    STRING = "string"
    COMMENT = "comment"  # and documentation strings
    SPACE = "white space"


@dataclass(frozen=True, slots=True)
class Lexeme:
    """`text[start:end]` is of `kind`."""

    start: int
    end: int
    kind: Kind


Lexer = Callable[[str, str], list[Lexeme]]
"""(text, language) -> lexemes in order, none overlapping; what lies between them is white space.

`language` is a document's kind, one of `LANGUAGES`. Must take any text without an error.
"""


_C_WORDS = """
abstract as async await bool boolean break byte case catch char class const continue debugger def
default defer delete do double else enum export extends extern false final finally float fn for
foreach from func function go goto if impl implements import in inline instanceof int interface let
long loop match mod mut namespace new nil null nullptr of operator override package private
protected pub public ref register return self short signed sizeof static struct super switch
template this throw throws trait true try type typedef typeof union unsafe unsigned use using val
var virtual void volatile when where while with yield
"""
_SCRIPT_WORDS = """
alias and begin break case class def defined do done echo elif else elsif end ensure esac exit
export false fi for foreach function if in include local loop module my next nil not null or our
print private public puts raise redo require rescue retry return select self set sub super then
true undef unless until use when while yield
"""
_QUERY_WORDS = """
all alter and as asc begin between by case create cross data delete desc distinct do drop else elif
elseif end exists false for forall from function group having if in index infix inner insert
instance into is join key left let like limit local module nil not null of on or order outer
primary repeat return right select set table then true type union unique until update values view
when where while with
"""


@dataclass(frozen=True, slots=True)
class _Family:
    comment: str
    string: str
    words: frozenset[str]


# What is not closed ends with its line or with the text: each character is looked at once.
_LINE_STRING = r'"(?:\\.|[^"\\\n])*+"?'
_EITHER = rf"{_LINE_STRING}|'(?:\\.|[^'\\\n])*+'?"
_CHAR = r"'(?:\\[^\n']{1,10}|\\'|[^'\\\n])'"  # so that 'a in Rust opens no string
_BACKTICK = r"`(?:\\.|[^`\\])*+`?"
_TRIPLE = "|".join(rf"{q}(?:\\.?|[^\\])*?(?:{q}|\Z)" for q in ('"""', "'''"))
_SLASH = r"//[^\n]*|/\*.*?(?:\*/|\Z)"

_LIKE_C = "c cpp cuda csharp java kotlin scala swift rust zig protobuf"
_FAMILIES = {
    "python": _Family(
        r"\#[^\n]*",
        rf"(?:\b[A-Za-z]{{1,2}})?(?:{_TRIPLE}|{_EITHER})",
        frozenset(keyword.kwlist),
    ),
    "javascript typescript go dart php": _Family(
        _SLASH, f"{_EITHER}|{_BACKTICK}", frozenset(_C_WORDS.split())
    ),
    _LIKE_C: _Family(_SLASH, f"{_LINE_STRING}|{_CHAR}", frozenset(_C_WORDS.split())),
    "shell ruby perl r julia elixir powershell nim": _Family(
        r"\#[^\n]*", f"{_TRIPLE}|{_EITHER}", frozenset(_SCRIPT_WORDS.split())
    ),
    "sql lua": _Family(
        r"--[^\n]*|/\*.*?(?:\*/|\Z)", f"{_LINE_STRING}|'[^'\n]*'?", frozenset(_QUERY_WORDS.split())
    ),
    "haskell": _Family(
        r"--[^\n]*|\{-.*?(?:-\}|\Z)", f"{_LINE_STRING}|{_CHAR}", frozenset(_QUERY_WORDS.split())
    ),
}
LANGUAGES = frozenset(name for names in _FAMILIES for name in names.split())


def lex(text: str, language: str) -> list[Lexeme]:
    """A `Lexer`. An unknown language is read like C."""
    name = next((names for names in _FAMILIES if language in names.split()), _LIKE_C)
    found = list(_lexemes(text, _FAMILIES[name]))
    return list(_without_documentation(text, found)) if language == "python" else found


@cache
def _pattern(family: _Family) -> re.Pattern[str]:
    groups = {
        "comment": family.comment,
        "string": family.string,
        "number": r"\d\w*(?:\.\d\w*)?",
        "word": r"[^\W\d]\w*",
        "operator": r"[^\w\s]",
    }
    joined = "|".join(f"(?P<{name}>{pattern})" for name, pattern in groups.items())
    return re.compile(joined, re.DOTALL)


def _lexemes(text: str, family: _Family) -> Iterator[Lexeme]:
    for match in _pattern(family).finditer(text):
        group = match.lastgroup
        if group == "word":
            kind = Kind.KEYWORD if match.group() in family.words else Kind.IDENTIFIER
        else:
            kind = Kind(str(group))
        yield Lexeme(match.start(), match.end(), kind)


def _without_documentation(text: str, lexemes: list[Lexeme]) -> Iterator[Lexeme]:
    """Strings that stand as a statement are comments."""
    before: Lexeme | None = None
    for lexeme in lexemes:
        if lexeme.kind is Kind.STRING and _is_statement(text, before, lexeme):
            yield Lexeme(lexeme.start, lexeme.end, Kind.COMMENT)
            continue
        yield lexeme
        if lexeme.kind is not Kind.COMMENT:
            before = lexeme


def _is_statement(text: str, before: Lexeme | None, string: Lexeme) -> bool:
    if before is None:
        return True
    on_own_line = "\n" in text[before.end : string.start]
    goes_on = before.kind is Kind.STRING or text[before.end - 1] in "=([{,+%\\"
    return on_own_line and not goes_on
