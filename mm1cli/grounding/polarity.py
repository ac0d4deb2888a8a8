"""Whether two texts about the same say it or its opposite: negations counted, opposites paired."""

import re
from collections.abc import Collection, Iterable, Set
from typing import Final

from mm1cli.grounding.words import Word, stem, words

_NEGATION = re.compile(
    r"\b(?:not|never|none|neither|nor|cannot|nobody|nothing|unable|lacks?|\w+n['’]t)\b"
    # What these deny is what comes next.
    r"|\b(?P<narrow>no|without)\b(?=(?P<denied>(?:\s+[\w-]+){1,4}))",
    re.IGNORECASE,
)
_OPPOSITES: Final = """
rise raise grow increase up | fall decline decrease drop reduce down cut lower
high higher highest | low lower lowest
more most | less fewer least few
large larger largest big bigger | small smaller smallest
above over | below under
open | close closed
enable | disable
add | remove
accept adopt approve grant | reject refuse deny decline
paid pay | unpaid
cover include insure | exclude
maximum most | minimum least
upper | lower
front | rear
man male | woman female
winter | summer
always whenever | never
inside | outside
equality equal | inequality unequal
long longer | short shorter
fast faster | slow slower
early earlier | late later
buy purchase bought | sell sold
lend lent | borrow
give gave given | receive get got
win | lose
afternoon | morning
first | last
allow permit | forbid prohibit
require mandatory | optional
support favour | oppose against
pass | fail
on | off
import | export
improve better | worsen worse
safe | unsafe
valid | invalid
true | false
hot warm warmer | cold cool colder
recently | least
clear | unclear
public | private
heavy heavier | light lighter
old older | young younger new newer
strong stronger | weak weaker
cheap cheaper | dear dearer expensive
"""
_CONVERSE: Final = (
    (frozenset({"buy", "purchase", "bought"}), frozenset({"sell", "sold"})),
    (frozenset({"lend", "lent"}), frozenset({"borrow"})),
    (frozenset({"give", "gave", "given"}), frozenset({"receive", "get", "got"})),
)
# Of two things that are compared by "than", one is the one where the other is the other.
_CONVERSE_THAN: Final = tuple(
    (frozenset({one}), frozenset({other}))
    for one, other in (
        ("heavier", "lighter"),
        ("older", "younger"),
        ("newer", "older"),
        ("longer", "shorter"),
        ("taller", "shorter"),
        ("larger", "smaller"),
        ("bigger", "smaller"),
        ("higher", "lower"),
        ("faster", "slower"),
        ("warmer", "colder"),
        ("earlier", "later"),
        ("better", "worse"),
        ("stronger", "weaker"),
        ("cheaper", "dearer"),
        ("more", "fewer"),
        ("more", "less"),
    )
)
_COMPARATIVE = re.compile(
    r"\b(?:more|fewer|less|most|least|(?:high|low|larg|small|bigg|fast|slow|old|young|long|short"
    r"|warm|cold|cheap|strong|weak|heavi|light|earli|lat|great)(?:er|est)|hardest|best|worst)\b",
    re.IGNORECASE,
)


# Of each line a thing is one: what is north of the canal is not south of it.
_EXCLUSIVE: Final = """
north south east west
northern southern eastern western
brother sister mother father son daughter husband wife uncle aunt
monday tuesday wednesday thursday friday saturday sunday
january february april june july august september october november december
spring summer autumn winter
red orange yellow green blue white black brown grey
left right
front back rear
first second third fourth fifth sixth
newest oldest
"""

# What is so high may be as wide; how wide it is, is not said by how high.
DIMENSIONS: Final = (
    frozenset({"wide", "width", "broad"}),
    frozenset({"high", "height", "tall"}),
    frozenset({"deep", "depth"}),
    frozenset({"long", "length"}),
    frozenset({"thick", "thickness"}),
    frozenset({"heavy", "weight", "weigh", "weighs"}),
)


def _pairs() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for line in _OPPOSITES.strip().splitlines():
        sides = [side.split() for side in line.split("|")]
        for own, other in (sides, sides[::-1]):
            for word in own:
                found.setdefault(word, set()).update(other)
    for line in _EXCLUSIVE.strip().splitlines():
        for word in line.split():
            found.setdefault(word, set()).update(set(line.split()) - {word})
    return {word: frozenset(others) for word, others in found.items()}


_OPPOSITE: Final = _pairs()


def num_negations(text: str, about: Set[str]) -> int:
    """Of what has one of the stems `about`: "with no roof" denies nothing of a meeting."""
    return sum(_denies(match, about) for match in _NEGATION.finditer(text))


def _denies(match: re.Match[str], about: Set[str]) -> bool:
    if not match["narrow"]:
        return True
    denied = words(match["denied"])
    content = [word.stem for word in denied if word.is_content]
    is_pronoun = denied[0].text.lower() in {"it", "them", "him", "her", "this"}
    return is_pronoun or bool(about & set(content))


def denies(text: str) -> bool:
    """Whether anything is denied in it."""
    return _NEGATION.search(text) is not None


def is_converse(word: str, other: str, *, are_compared: bool = False) -> bool:
    """Whether one says of the giver what the other says of the taker: buy and sell; of things that
    `are_compared` ("than"), lighter and heavier."""
    return any(
        _forms(word) & mine and _forms(other) & its
        for line in _CONVERSE + (_CONVERSE_THAN if are_compared else ())
        for mine, its in (line, line[::-1])
    )


def is_comparative(text: str) -> bool:
    return _COMPARATIVE.search(text) is not None


def opposed(claim: Iterable[Word], quote: Collection[Word]) -> list[tuple[str, str]]:
    """Each word of `claim` whose opposite stands in `quote` where it does not itself."""
    said = {form for word in quote for form in _forms(word.text)}
    pairs = []
    for word in claim:
        forms = _forms(word.text)
        if forms & said:
            continue
        against = {other for form in forms for other in _OPPOSITE.get(form, ())} & said
        if against:
            pairs.append((word.text, min(against)))
    return pairs


def is_other_dimension(claim: Iterable[Word], quote: Iterable[Word]) -> bool:
    """Whether the quote gives another of a thing's dimensions than the claim, and not that one."""
    asked, said = ({word.text.lower() for word in words} for words in (claim, quote))
    mine, its = ([one for one in DIMENSIONS if one & text] for text in (asked, said))
    return bool(mine and its) and not any(one in its for one in mine)


def _forms(word: str) -> frozenset[str]:
    """The word as the table may have it: as it is, without an ending, past tenses by hand."""
    low = word.lower()
    forms = {low, _IRREGULAR.get(low, low)}
    for ending in ("s", "es", "ed", "d", "ing", "ped", "n"):
        if low.endswith(ending):
            forms |= {low[: -len(ending)], f"{low[: -len(ending)]}e"}
    return frozenset(forms | {stem(word)} & _OPPOSITE.keys() | {low})


_IRREGULAR: Final = {
    "rose": "rise",
    "risen": "rise",
    "fell": "fall",
    "fallen": "fall",
    "grew": "grow",
    "grown": "grow",
    "bought": "buy",
    "sold": "sell",
    "won": "win",
    "lost": "lose",
    "went": "go",
    "women": "woman",
    "men": "man",
}
