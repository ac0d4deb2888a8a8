"""What a sentence states, one thing at a time, so that each may stand in a quote of its own.

"The landlord is Anna Berg and the notice period is three months" states two things. A sentence
that is parted wrongly would be carried by quotes that do not say it together, so conditions, times
at the beginning and sums are left whole.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mm1cli.grounding.facts import facts
from mm1cli.grounding.polarity import DIMENSIONS
from mm1cli.grounding.words import words

_VERBS: Final = """
is are was were has have had will shall must may can could should would does do did cannot
pays paid ends begins began starts costs cost lasts runs ran lies stands stood holds held keeps kept
gives gave gets got takes took makes made says said names shows needs owns lives works means meant
includes covers requires allows owes rents lets expires remains contains applies rises rose falls
fell grows grew sells sold buys bought goes went comes came leaves left wins won loses lost meets
met sits sat sends sent writes wrote builds built begun brings brought spends spent receives
"""
_VERB: Final = re.compile(
    rf"\b(?:{'|'.join(_VERBS.split())}|\w+n['’]t)\b"
    # "The signed form" does nothing.
    r"|(?<!\bthe\s)(?<!\ba\s)(?<!\ban\s)\b(?<!^)\w{2,}ed\b",
    re.IGNORECASE,
)
_GOES_ON: Final = re.compile(rf"(?:{'|'.join(_VERBS.split())}|\w{{2,}}ed)\b")
_JOINS: Final = re.compile(r"\W*(?:(?:and|or|but|yet|however|so|then)\b\W*)*", re.IGNORECASE)
_NO_SUBJECT: Final = re.compile(
    r"(?:it|they|he|she|this|that|these|those|there|which|who|whom|whose|where|not|in|on|at|by|from"
    r"|since|under|for|with|without|after|before|during|until|to|of|as)\b",
    re.IGNORECASE,
)
_BORDER: Final = re.compile(r";\s+(?:and\s+|but\s+)?|,?\s+(?:and|while|whereas|but)\s+", re.I)
_WHOLE: Final = re.compile(
    r"\b(?:if|unless|when|whenever|once|because|provided|except|until|either|neither|respectively"
    r"|together|combined|between|total|both)\b"
    r"|^\W*(?:in|on|at|by|from|since|under|for|with|without|after|before|during|of)\b",
    re.IGNORECASE,
)
_COMMA: Final = re.compile(r",\s+(?:and\s+)?|\s+and\s+")
_ARTICLE: Final = re.compile(r"(?:an?|the)\s")
_MOST_ITEM_WORDS: Final = 6
_DOCUMENT: Final = (
    r"(?:the|this|these|both|all|your)?\s*(?:\w+\s+)?(?:documents?|texts?|passages?|quotes?|sources?|"
    r"evidence|files?|lease|contract|agreement|report|letter|minutes|paper|article|e-?mail|clause|"
    r"section)(?:\s+\d+)?"
)
_TELLS: Final = (
    r"(?:says?|states?|shows?|mentions?|specif(?:y|ies)|notes?|tells?|indicates?|names?|gives?"
    r"|lists?)"
)
_REPORTS: Final = re.compile(
    rf"^\W*(?:(?:according\s+to|as\s+(?:stated|said|given|written)\s+in|as\s+per)\s+{_DOCUMENT}\s*,"
    rf"|{_DOCUMENT}\s+{_TELLS}\s+(?:us\s+)?that\b)\s*",
    re.IGNORECASE,
)
_MOST_HEADING_WORDS: Final = 10
_MOST_FRAGMENT_WORDS: Final = 12
_FEWEST_LISTED_WORDS: Final = 3
_AUXILIARY: Final = "is|are|was|were|do|does|did|has|have|had|will|would|can|could|may|must|shall"
_ASKS: Final = re.compile(
    r"\W*(?:(?:and|in|on|at|by|from|to|for|until|since|under|of|with)\s+)?"
    r"(?:(?P<amount>how\s+(?:much|many))|what|which|who|whom|(?P<adverb>how\s+\w+|when|where))\s+"
    rf"(?:(?P<noun>(?(adverb)|(?:(?!(?:{_AUXILIARY})\b)\w+\s+){{0,3}}))"
    rf"(?P<auxiliary>{_AUXILIARY})\b)?"
    r"(?P<rest>[^?]*)",
    re.IGNORECASE,
)
# "How long" asks for a time as well.
_SIZES: Final = frozenset().union(*DIMENSIONS) - {"long"}
_BE_OR_VERB: Final = re.compile(rf"\b(?:be|been)\b|{_VERB.pattern}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """`sentence[start:end]`; `text` is that with the subject that it shares with what precedes."""

    text: str
    start: int
    end: int


def statements(sentence: str) -> list[Statement]:
    """What `sentence` states, in its order; itself alone where it cannot be parted."""
    if _WHOLE.search(sentence):
        return [Statement(sentence, 0, len(sentence))]
    if len(listed := _listed(sentence)) > 1:
        return [Statement(sentence[start:end], start, end) for start, end in listed]
    found: list[Statement] = []
    for start, end in _predicates(sentence):
        text = sentence[start:end]
        if found and _GOES_ON.match(text):
            text = f"{_subject(sentence)} {text}"
        found += _items(text, start, end) or [Statement(text, start, end)]
    return found


def has_subject(clause: str) -> bool:
    """Whether it says by itself who does what: "and the county pays for the roads"."""
    text = _JOINS.sub("", clause, count=1)
    verb = _VERB.search(text)
    if verb is None or _GOES_ON.match(text) or _NO_SUBJECT.match(text):
        return False
    return any(word.is_content for word in words(text[: verb.start()]))


def is_fragment(sentence: str) -> bool:
    """Whether it has no verb, and so says nothing by itself."""
    return _VERB.search(sentence) is None and len(words(sentence)) <= _MOST_FRAGMENT_WORDS


def _listed(sentence: str) -> Sequence[tuple[int, int]]:
    """The stretches of a sentence without a verb that each have a number or date, and a word that
    says of what: "21 pupils in class A and 13 in class B"."""
    edges = [0, *(edge for border in _BORDER.finditer(sentence) for edge in border.span())]
    found = list(zip(edges[::2], [*edges[1::2], len(sentence)], strict=True))
    texts = [sentence[start:end] for start, end in found]
    has_all = all(facts(text) and len(words(text)) >= _FEWEST_LISTED_WORDS for text in texts)
    return found if has_all and _VERB.search(sentence) is None else [(0, len(sentence))]


def answering(question: str, sentence: str) -> str:
    """`sentence` with the subject that only `question` names: of "12 crowns." to "What did the hut
    cost?" that the hut cost 12 crowns. Itself where it has a verb, or the question does not ask for
    a thing."""
    asked = _ASKS.match(question)
    if asked is None or not is_fragment(sentence) or len(_listed(sentence)) > 1:
        return sentence
    told, rest = sentence.strip(" .!*"), asked["rest"].strip(" .")
    if asked["auxiliary"] is None and not asked["adverb"]:  # "Who built it?"
        first, _, others = rest.partition(" ")
        is_named = question.lstrip().casefold().startswith("which")
        is_named = is_named or told.casefold().endswith(first.casefold())
        return f"{told} {others if is_named else rest}"
    noun = asked["noun"].strip() if asked["amount"] else ""
    if (size := (asked["adverb"] or "").split()[-1:]) and size[0].lower() in _SIZES:
        noun = size[0]
    if noun.casefold() not in told.casefold():
        told = f"{told} {noun}"
    auxiliary = asked["auxiliary"] or "do"
    auxiliary = "" if auxiliary.lower() in {"do", "does", "did"} else auxiliary
    at = verb.start() if auxiliary and (verb := _BE_OR_VERB.search(rest)) else len(rest)
    return " ".join(filter(None, (rest[:at].strip(), auxiliary, rest[at:].strip(), told)))


def without_report(sentence: str) -> str:
    """`sentence` without "according to the lease," and the like: that a document says it, is what a
    quote of the document shows."""
    return sentence[found.end() :] if (found := _REPORTS.match(sentence)) else sentence


def is_report(text: str) -> bool:
    """Whether it says no more than that a document says something."""
    return re.fullmatch(rf"\W*{_DOCUMENT}\s+{_TELLS}\W*", text, re.IGNORECASE) is not None


def is_heading(sentence: str) -> bool:
    """Whether it names something and states nothing: "LEASE AGREEMENT 1"."""
    text = sentence.strip().lstrip("#* ").rstrip("* ")
    found = words(text)
    if not found or len(found) > _MOST_HEADING_WORDS or text[-1] in ".!?;" or ":" in text:
        return False
    if "|" in text or _VERB.search(text):
        return False
    return all(not word.is_content or not word.text[0].islower() for word in found)


def _predicates(sentence: str) -> Iterator[tuple[int, int]]:
    """Stretches with a verb each, which begin with a subject or with the verb itself."""
    start, borders = 0, list(_BORDER.finditer(sentence))
    for number, border in enumerate(borders):
        following = borders[number + 1].start() if number + 1 < len(borders) else len(sentence)
        left, right = sentence[start : border.start()], sentence[border.end() : following]
        if _VERB.search(left) and (_VERB.search(right) or _GOES_ON.match(right)):
            yield start, border.start()
            start = border.end()
    yield start, len(sentence)


def _subject(sentence: str) -> str:
    verb = _VERB.search(sentence)
    return "" if verb is None else sentence[: verb.start()].strip()


def _items(text: str, start: int, end: int) -> Sequence[Statement]:
    """Of "the tenants are Anna Berg, Tom Li and Mia Roy" one statement for each; none where what
    is listed are no names or numbers."""
    verb = _VERB.search(text)
    if verb is None:
        return ()
    head, listed = text[: verb.end()], text[verb.end() :].rstrip(" .")
    taken = [(fact.start, fact.start + len(fact.text)) for fact in facts(listed)]
    borders = [
        border.span()
        for border in _COMMA.finditer(listed)
        if not any(first < border.start() < last for first, last in taken)
    ]
    edges = [0, *(edge for border in borders for edge in border), len(listed)]
    items = [listed[a:b].strip() for a, b in zip(edges[::2], edges[1::2], strict=True)]
    if len(items) < 2 or not all(map(_is_item, items)):
        return ()
    return [Statement(f"{head} {item}", start, end) for item in items]


def _is_item(text: str) -> bool:
    found = words(f"x {text}")[1:]
    is_short = 0 < len(found) <= _MOST_ITEM_WORDS
    begins = text[:1].isupper() or text[:1].isdigit() or _ARTICLE.match(text)
    return bool(is_short and begins) and (any(word.is_name for word in found) or bool(facts(text)))
