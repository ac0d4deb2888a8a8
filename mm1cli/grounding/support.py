"""Whether a quote says a sentence, as far as words tell: names, numbers, dates, units, negations,
opposites and who does what. What words leave open is for a model (`claims`).

Each clause of the sentence is held against the clause of the quote that shares most with it.
Nothing here understands: a comparison that must be computed, or a synonym that no table has, is
open or not carried, never carried.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from mm1cli.grounding.facts import Fact, Facts, facts
from mm1cli.grounding.pairing import (
    are_numbers_turned,
    has_same_unit,
    is_listed_otherwise,
    is_paired_otherwise,
    is_year,
)
from mm1cli.grounding.parts import Part, normalize_lines, parts_of
from mm1cli.grounding.phrases import canonical, excepted
from mm1cli.grounding.polarity import (
    denies,
    is_comparative,
    is_converse,
    is_other_dimension,
    num_negations,
    opposed,
)
from mm1cli.grounding.statements import is_fragment
from mm1cli.grounding.words import Word, words
from mm1cli.result import Mark

_ABOUT_THE_SAME = 0.5  # of a sentence's words, in a quote that speaks of the same
_CARRIED_WEIGHT = 0.6  # beside 1 of a word of the clause itself
_HAS_ALL = 1.0  # beside that, for a clause that has all words of the sentence that the quote has
_LEADS_IN = re.compile(r"\s*(?:in|on|at|from|by|until|under|of|for|with|without|if|when)\b", re.I)
_PASSIVE = re.compile(
    r"\b(?:is|are|was|were|be|been|being)\s+(?:\w+\s+){0,2}?\w+(?:ed|en|nd|ht|wn|lt|ld|un|ne)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\s*\b(?:it|they|them|he|she|him|this|these|those|there)\b", re.IGNORECASE)
_REFERS = re.compile(r"\W*(?:and\s+)?(?:(?:in|on|at)\s+\w+\s+)?(?:it|they|there)\b", re.IGNORECASE)
_POSSESSIVE = re.compile(r"\b(?:its|their|her|his)\b", re.IGNORECASE)
_ALL = re.compile(r"\b(?:all|every|each|everyone|everybody|always)\b", re.IGNORECASE)
_PART_OF = re.compile(
    r"\b(?:some|most|many|several|few|half|part|two|three|four|five|six|seven|eight|nine|ten"
    r"|\d+(?:\s?%|\s+per\s?cent)?)\s+of\b",
    re.IGNORECASE,
)
_ONLY = re.compile(r"\bonly\b", re.IGNORECASE)
_THAN = re.compile(r"\bthan\b", re.IGNORECASE)
_OF = re.compile(r"\s+of\s+(?:the\s+)?", re.IGNORECASE)
_SUPPOSES = re.compile(r"\b(?:if|unless|whether|in\s+case)\b", re.IGNORECASE)
_NO_NOUN = re.compile(
    r"\w+ed|in|on|at|of|to|for|from|by|with|and|or|is|are|was|were|an?|the|got|had|has|have"
)
# Verbs that add nothing to their objects: "makes four crossings" where there are four.
_LIGHT = frozenset(
    {
        *("makes", "made", "takes", "took", "taken", "lasts", "lasted", "gets", "got", "gives"),
        *("has", "had", "happens", "happened", "occurs", "occurred", "involves"),
        *("approximately", "roughly", "around", "nearly", "almost", "currently", "altogether"),
    }
)
_DAY = re.compile(r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?", re.IGNORECASE)  # acts on nothing
_BY = re.compile(r"\bby\b", re.IGNORECASE)
_COMPARED = (
    frozenset({"old", "new"}),
    frozenset({"one", "other"}),
    frozenset({"treat", "placebo"}),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`mark` None: open. `coverage` is the share of the sentence's words that the quote has.
    `is_firm`: no model is asked, for a number, date or name decides, or the sentence stands there.
    """

    mark: Mark | None
    coverage: float
    reason: str = ""
    is_firm: bool = False


def judge(sentence: str, quote: str) -> Verdict:
    """What the words of `quote` say about `sentence`: the worst of its clauses decides."""
    sentence, quote = canonical(sentence), canonical(quote)
    quoted = parts_of(normalize_lines(quote))
    known = Facts.of([quote])
    verdicts = [_judge_part(part, quote, quoted, known) for part in parts_of(sentence)]
    coverage = min((verdict.coverage for verdict in verdicts), default=0.0)
    for mark in (Mark.CONTRADICTED, Mark.NOT_CARRIED, None):
        for verdict in verdicts:
            if verdict.mark is mark:
                return replace(verdict, coverage=coverage)
    return Verdict(Mark.CARRIED if verdicts else None, coverage)


def _judge_part(part: Part, quote: str, quoted: Sequence[Part], known: Facts) -> Verdict:
    asked = facts(part.text)
    content = _content(part, asked)
    said = {word.stem for one in quoted for word in one.words}
    missing = [w for w in content if w.stem not in said and not _is_initials(w.text, quote)]
    coverage = 1 - len(missing) / len(content) if content else 0.0
    is_about = coverage >= _ABOUT_THE_SAME
    if not content or not quoted:
        return Verdict(None, coverage)
    near = _nearest(part, content, quoted)

    def against(reason: str, *, is_firm: bool = False) -> Verdict:
        mark = Mark.CONTRADICTED if is_about else Mark.NOT_CARRIED
        return Verdict(mark, coverage, reason, is_firm)

    for fact in asked:
        if not known.states(fact):
            if any(_is_comparable(fact, other) for other in facts(_around(near, quoted, content))):
                return against(f"“{fact.text}” is another there", is_firm=True)
            return Verdict(Mark.NOT_CARRIED, coverage, f"“{fact.text}” is not there", True)
    for fact in asked:
        if _is_elsewhere(fact, near, quoted) or _counts_another(fact, quote):
            return against(f"“{fact.text}” is of something else", is_firm=True)
    if is_paired_otherwise(asked, near.text) or is_listed_otherwise(
        asked, {word.stem for word in content}, near.text
    ):
        return against("numbers and dates are paired otherwise", is_firm=True)
    if names := [word.text for word in missing if word.is_name]:
        return Verdict(Mark.NOT_CARRIED, coverage, f"“{names[0]}” is not named", True)
    displaced = [
        w for w in content if w.stem in said and w.stem not in near.stems_about(content[0].stem)
    ]
    if _is_row(near):  # it says what the names of its columns, above it, ask
        above = quoted[: quoted.index(near)]
        heads = {stem for one in above if not facts(one.text) for stem in one.stems}
        displaced = [word for word in displaced if word.stem not in heads]
    beside = [one for one in quoted if one is not near and {w.stem for w in displaced} & one.stems]
    pairs = opposed(part.words, near.words)
    if not pairs and beside:
        elsewhere = [word for word in part.words if word.stem not in near.stems]
        if other := opposed(elsewhere, beside[0].words):
            near, pairs, displaced = beside[0], other, []
    if displaced and any(_REFERS.match(one.text) for one in beside):
        return Verdict(None, coverage, f"“{displaced[0].text}” is in what goes on about it")
    if displaced and not _PRONOUN.search(near.text):
        is_subject = displaced[0] is content[0] and not _LEADS_IN.match(part.text)
        if is_subject or not _POSSESSIVE.search(near.text):
            reason = f"“{displaced[0].text}” is elsewhere"
            return Verdict(Mark.NOT_CARRIED, coverage, reason)
    are_compared = bool(_THAN.search(part.text) and _THAN.search(near.text))
    converse = [pair for pair in pairs if is_converse(*pair, are_compared=are_compared)]
    pairs = [pair for pair in pairs if pair not in converse]
    is_turned = _is_turned(part, asked, near)
    if converse and len([word for word in content if word.is_name or word is content[0]]) < 2:
        return Verdict(None, coverage)
    if is_turned != (len(converse) % 2 == 1):
        return against("the other way round")
    if _is_done_by_another(part, near):
        return Verdict(Mark.NOT_CARRIED, coverage, "who does it is not said there")
    missing = [word for word in missing if word.text not in {mine for mine, _ in converse}]
    if _is_excepted(content, part.text, quote):
        return against("it is excepted there")
    if pairs:
        # A word whose opposite stands there is spoken of.
        turned = {word for word, _ in pairs}
        coverage += sum(word.text in turned for word in missing) / len(content)
        is_about = coverage >= _ABOUT_THE_SAME
    num_turns = (
        num_negations(part.text, said)
        + num_negations(near.text, {word.stem for word in part.words})
        + len(pairs)
    )
    if num_turns % 2 and _is_denial_unclear(part.text, near.text, len(pairs)):
        # A model's gain knows no denials, so it is not asked.
        return Verdict(Mark.NOT_CARRIED, coverage, "what is denied there is not clear")
    if num_turns % 2:
        reason = f"“{pairs[0][1]}”, not “{pairs[0][0]}”" if pairs else "one of them is negated"
        return against(reason)
    if _ALL.search(part.text) and _PART_OF.search(near.text) and not _ALL.search(near.text):
        return against("said of some, not of all")
    if _ALL.search(part.text) and _ONLY.search(near.text) and not _ONLY.search(part.text):
        return against("said of some only, not of all")
    if any(_is_whole(fact, quote) and not _is_whole(fact, part.text) for fact in asked):
        return Verdict(None, coverage, "a part of so many is spoken of there")
    if is_comparative(part.text) and not is_comparative(quote):
        return Verdict(Mark.NOT_CARRIED, coverage, "nothing is compared there")
    if is_other_dimension(part.words, near.words):
        return Verdict(Mark.NOT_CARRIED, coverage, "another dimension is given there")
    turned = {word for word, _ in pairs}
    left = [word for word in missing if word.text not in turned and word.text.lower() not in _LIGHT]
    return Verdict(None if left else Mark.CARRIED, coverage)


def _around(near: Part, quoted: Sequence[Part], content: Sequence[Word]) -> str:
    """The clause at hand, and others that have words of the sentence which it has not."""
    left = {word.stem for word in content} - near.stems
    return "\n".join(one.text for one in quoted if one is near or one.stems & left)


def _content(part: Part, asked: Sequence[Fact]) -> list[Word]:
    """The words that carry meaning and are no part of a number or date."""
    taken = [(fact.start, fact.start + len(fact.text)) for fact in asked]
    return [
        word
        for word in part.words
        if word.is_content
        and not any(start <= word.start - part.start < end for start, end in taken)
        and not any(character.isdigit() for character in word.text)
    ]


def _is_denial_unclear(text: str, quote: str, num_opposites: int) -> bool:
    """Whether both deny something, though not the same word, or the quote only supposes it."""
    if _SUPPOSES.search(quote) and not _SUPPOSES.search(text) and not denies(text):
        return True
    return not num_opposites and denies(text) and denies(quote)


def _is_excepted(content: Sequence[Word], text: str, quote: str) -> bool:
    """Whether `text` says of what the quote excepts what the quote says of the rest."""
    scopes = excepted(quote)
    if not scopes or excepted(text) or num_negations(text, {word.stem for word in content}):
        return False
    outside = quote
    for scope in scopes:
        outside = outside.replace(scope, " ")
    only = {word.stem for scope in scopes for word in words(scope) if word.is_content}
    only -= {word.stem for word in words(outside)}
    said = {word.stem for word in words(outside)}
    stems = [word.stem for word in content]
    return any(stem in only for stem in stems) and any(stem in said for stem in stems)


def _is_initials(word: str, quote: str) -> bool:
    """MSA of a Master Services Agreement."""
    if not (word.isupper() and len(word) > 1):
        return False
    initials = "".join(found[0] for found in re.findall(r"\b[A-Z]\w*", quote))
    return word in initials


def _nearest(part: Part, content: Sequence[Word], quoted: Sequence[Part]) -> Part:
    """The clause that shares most with `part`, rare words and its subject above all; what a clause
    merely goes on about counts less."""
    subject = content[0].stem
    wanted = {word.stem for word in content}
    num_holding = {stem: sum(stem in one.stems for one in quoted) or 1 for stem in wanted}
    numbers = {value for fact in facts(part.text) for value in _values(fact)}
    said = {word.stem for one in quoted for word in one.words}

    def shared(one: Part) -> float:
        stems = one.stems_about(subject)
        held = {value for fact in facts(one.text) for value in _values(fact)}
        weight = sum(
            (1 if s in one.stems else _CARRIED_WEIGHT) / num_holding[s] for s in wanted & stems
        )
        weight += _HAS_ALL * (wanted & said <= stems)
        return weight + 0.25 * len(numbers & held) + 0.5 * (subject in stems)

    return max(quoted, key=shared)


def _values(fact: Fact) -> set[object]:
    if fact.quantity is not None:
        return set(fact.quantity.values)
    return set(fact.date) or {fact.word}


def _is_comparable(fact: Fact, other: Fact) -> bool:
    """Whether `other` could stand where `fact` does: of its kind and unit."""
    if fact.quantity is not None and other.quantity is not None:
        mine, its = fact.quantity, other.quantity
        return (
            bool(mine.values & its.values) or mine.unit == its.unit or not (mine.unit and its.unit)
        )
    return fact.kind == other.kind or (is_year(fact) and is_year(other))


def _is_elsewhere(fact: Fact, near: Part, quoted: Sequence[Part]) -> bool:
    """Whether another clause has `fact`, and the one at hand is a row without it, or has another of
    its kind and unit."""
    if Facts.of([near.text]).states(fact):
        return False
    holding = [one for one in quoted if Facts.of([one.text]).states(fact)]
    if _is_row(near) and any(_is_row(one) and facts(one.text) for one in holding):
        return fact.kind != "rate"  # which the head of a column says of all
    if fact.kind == "identifier" or not holding:
        return False
    return any(
        _is_comparable(fact, other)
        and (fact.quantity is None or other.quantity is None or has_same_unit(fact, other))
        for other in facts(near.text)
    )


def _counts_another(fact: Fact, quote: str) -> bool:
    """Whether the quote counts what `fact` counts, and counts something else with its number."""
    if fact.quantity is None or not fact.quantity.noun:
        return False
    noun = _noun(fact.quantity.noun)
    counted = [one.quantity for one in facts(quote) if one.quantity is not None]
    same = [one for one in counted if one.noun and _noun(one.noun) == noun]
    # "Of 214 patients 107 received" leaves the noun out.
    is_left_out = any(
        fact.quantity.values & one.values and (not one.noun or _NO_NOUN.fullmatch(one.noun))
        for one in counted
    )
    return bool(same) and not is_left_out and not any(fact.quantity.equals(one) for one in same)


def _is_whole(fact: Fact, text: str) -> bool:
    """Whether it is the 310 of "64 of 310" in `text`."""
    if fact.quantity is None:
        return False
    found = [one.quantity for one in facts(text) if one.quantity is not None]
    return any(
        _OF.fullmatch(text[part.end : whole.start]) and whole.values & fact.quantity.values
        for part, whole in pairwise(found)
    )


def _is_row(part: Part) -> bool:
    """Whether it is one of a table as `parts_of` gives it."""
    return part.text.count("|") > 1


def _noun(word: str) -> str:
    return words(word)[0].stem if words(word) else word


def _is_done_by_another(part: Part, near: Part) -> bool:
    """Whether `part` says that somebody did what, as the quote has it, was done to somebody or by
    somebody else: "Orr rejected the tender", where "the tender of Orr was rejected"."""
    passive = _PASSIVE.search(near.text)
    if passive is None or _PASSIVE.search(part.text):
        return False
    done = words(passive.group())[-1].stem
    verb = next((n for n, word in enumerate(part.words) if word.stem == done), None)
    if verb is None or not any(word.is_content for word in part.words[verb + 1 :]):
        return False
    doer = [word.stem for word in part.words[:verb] if word.is_content]
    done_to = {word.stem for word in words(near.text[: passive.start()])}
    by = _BY.search(near.text, passive.end())
    doing = {word.stem for word in words(near.text[by.end() :])} if by is not None else set()
    return bool(doer) and set(doer) <= done_to and not set(doer) & doing


def _is_turned(part: Part, asked: Sequence[Fact], near: Part) -> bool:
    """Whether names, or numbers of a kind, or two things compared, stand in the other order, in the
    same voice."""
    if bool(_PASSIVE.search(part.text)) != bool(_PASSIVE.search(near.text)):
        return False
    # Cells have the order of their columns.
    if _LEADS_IN.match(part.text) or _is_row(near) or is_fragment(part.text):
        return False
    mine = [
        word.stem for word in _content(part, asked) if word.is_name and not _DAY.match(word.text)
    ]
    its = [word.stem for word in near.words if word.is_content]
    mine = [name for name in dict.fromkeys(mine) if its.count(name) == 1]
    first = next((word for word in part.words if word.is_content), None)
    if first is not None and its.count(first.stem) == 1 and mine:
        mine = list(dict.fromkeys([first.stem, *mine]))
    for pair in _COMPARED:
        ours = [word.stem for word in part.words if word.stem in pair]
        theirs = [word.stem for word in near.words if word.stem in pair]
        if set(ours) == pair and set(theirs) == pair and ours != theirs:
            return True
    if len(mine) > 1 and its.index(mine[0]) > its.index(mine[-1]):
        return True
    return are_numbers_turned(part.text, near.text)
