"""What full-text search is told of a text and of a question, where the words between spaces are not
the words people look for: identifiers as their parts too, Chinese, Japanese and Korean as bigrams.
"""

import re
from collections.abc import Iterator, Sequence

# Han, kana and hangul. Pairs of neighbouring characters find words without a dictionary.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_CJK_RUN = re.compile(f"[{_CJK}]+")
_WORD = re.compile(f"[{_CJK}]+|[^\\W{_CJK}]+")
# httpServer, HTTPServer
_CAPITAL = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_HAS_CAPITAL = re.compile(r"[A-Za-z\d]*(?:[a-z\d][A-Z]|[A-Z][A-Z][a-z])[A-Za-z\d]*")

# In code they stand in comments and as keywords, where rarity would make them weigh more than any
# name. Prose keeps them: "up to what amount" and "between which hours" say what is looked for.
_STOP_WORDS = (
    "a about after all also am an and any are as at be been before being between both but by can "
    "could did do does doing down during each few for from further had has have having he her "
    "here hers him his how i if in into is it its itself just me more most my no nor not of off on "
    "once only or other our ours out over own s same she should so some such t than that the their "
    "theirs them then there these they this those through to too under until up very was we were "
    "what when where which while who whom whose why will with would you your yours"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())


def index_text(text: str) -> str:
    """`text` as it is indexed: FTS5 cuts at what is no letter or digit, so at `_`, but neither at
    capitals nor between characters that are written without spaces."""
    with_parts = _HAS_CAPITAL.sub(lambda match: f"{match[0]} {_split(match[0])}", text)
    return _CJK_RUN.sub(lambda match: f" {' '.join(_bigrams(match[0]))} ", with_parts)


def query_terms(question: str) -> list[str]:
    """What to look for, each once: words, and the parts of those that are identifiers."""
    return list(dict.fromkeys(term.lower() for term in _terms(question)))


def without_stop_words(terms: Sequence[str]) -> list[str]:
    """As they are where there is nothing else."""
    return [term for term in terms if term not in STOP_WORDS] or list(terms)


def _terms(question: str) -> Iterator[str]:
    for match in _WORD.finditer(question):
        word = match[0]
        if _CJK_RUN.fullmatch(word):
            yield from _bigrams(word)
            continue
        yield word
        parts = [part for name in word.split("_") for part in _split(name).split()]
        if len(parts) > 1:
            yield from parts


def _split(name: str) -> str:
    return _CAPITAL.sub(" ", name)


def _bigrams(run: str) -> list[str]:
    return [run[at : at + 2] for at in range(len(run) - 1)] or [run]
