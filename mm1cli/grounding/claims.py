"""Which sentence of an answer is carried by which evidence, and which evidence says otherwise.

Words decide first (`support`): a name, number, date or unit that a quote does not bear out is
nothing that a model could outweigh. Where they leave it open, the model does (`judgement`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mm1cli.grounding import citations, replies
from mm1cli.grounding.attribution import LogProbGain
from mm1cli.grounding.facts import Facts, facts
from mm1cli.grounding.judgement import UNMEASURED, Held, Judgement
from mm1cli.grounding.normalize import normalize
from mm1cli.grounding.statements import (
    Statement,
    answering,
    is_heading,
    is_report,
    statements,
    without_report,
)
from mm1cli.grounding.support import Verdict, judge
from mm1cli.result import Claim, Mark
from mm1cli.retrieval.passages import sentences

_FEWEST_WORDS = 3
_ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)])\s+")
_FOLLOWS = re.compile(r"\b(?:(?:as|the)\s+follow(?:s|ing)|listed\s+below|these)\b", re.IGNORECASE)
_SPEAKS_OF_IT = 0.6  # of a sentence's words, in a quote that says otherwise


@dataclass(frozen=True, slots=True)
class Candidate:
    """A citation by its number, its text with what it stands under, its gain if it was measured."""

    number: int
    text: str
    gain: LogProbGain | None = None

    def gain_over(self, start: int, end: int) -> float | None:
        return None if self.gain is None else self.gain.over(start, end)


def contains_verbatim(text: str, sentence: str) -> bool:
    """Whether `text` has the words of `sentence`, all of them and in one run, whatever their
    case. Two words are too few to say anything."""
    words = normalize(sentence).casefold().strip(" .!?")
    if len(words.split()) < _FEWEST_WORDS:
        return False
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", normalize(text).casefold()) is not None


def claims(
    answer: str,
    candidates: Sequence[Candidate],
    judgement: Judgement = UNMEASURED,
    question: str = "",
) -> tuple[Claim, ...]:
    """The sentences of `answer`, each with the numbers of the candidates that carry it and of those
    that say otherwise. What only leads in to a list says nothing without its items, which are
    judged with it. An answer that is no sentence is judged with the subject of `question`."""
    found, lead = [], ""
    spans = sentences(answer)
    if len(spans) == 1 and question:
        return (_reply(question, answer, *spans[0], candidates, judgement),)
    following = [start for start, _ in spans[1:]]
    for (start, end), after in zip(spans, [*following, len(answer)], strict=False):
        sentence = answer[start:end]
        is_item = _ITEM.match(sentence) is not None
        lead = lead if is_item else ""
        if sentence.rstrip(" *").endswith(":") and _ITEM.match(answer[after:]):
            lead = sentence
        else:
            said = f"{_lead_in(lead)} {_ITEM.sub('', sentence)}".strip() if lead else sentence
            found.append(_claim(Statement(said, start, end), candidates, judgement))
    return tuple(found)


def _reply(
    question: str,
    answer: str,
    start: int,
    end: int,
    candidates: Sequence[Candidate],
    judgement: Judgement,
) -> Claim:
    """Of an answer of one sentence."""
    sentence = answer[start:end]
    if replies.says_nothing(question, sentence):
        return Claim(start, end, (), ())
    said = answering(question, sentence)
    if said != sentence and (asked := facts(sentence)):
        # The words are those of the question: what has another number may be about another thing.
        stating = [one for one in candidates if all(map(Facts.of([one.text]).states, asked))]
        candidates = stating or candidates
    return _claim(Statement(said, start, end), candidates, judgement)


def _lead_in(sentence: str) -> str:
    """Without what says no more than that something follows."""
    said = _FOLLOWS.sub("", without_report(sentence)).rstrip(" :*")
    return "" if is_report(said) else said


def _claim(sentence: Statement, candidates: Sequence[Candidate], judgement: Judgement) -> Claim:
    """As a whole, else by quotes that each carry a part of it."""
    start, end = sentence.start, sentence.end
    carrying, against = _judged(sentence, candidates, judgement)
    parts = statements(sentence.text)
    if not carrying and len(parts) > 1:
        is_verbatim = len(sentence.text) == end - start  # spans are those of the answer
        judged = [
            _judged(
                Statement(one.text, start + one.start, start + one.end)
                if is_verbatim
                else Statement(one.text, start, end),
                candidates,
                judgement,
            )
            for one in parts
        ]
        against = sorted({number for _, those in judged for number in those})
        if all(those for those, _ in judged):
            carrying = sorted({number for those, _ in judged for number in those})
    if is_heading(sentence.text):
        against = []
    return Claim(start, end, tuple(carrying), tuple(against))


def _judged(
    sentence: Statement, candidates: Sequence[Candidate], judgement: Judgement
) -> tuple[list[int], list[int]]:
    """The numbers of the candidates that carry it, and of those that say otherwise."""
    held = [
        Held(
            sentence.text,
            one.text,
            words_say(sentence.text, one.text),
            one.gain_over(sentence.start, sentence.end),
        )
        for one in candidates
    ]
    verdicts = judgement.settle(held)
    carrying = [
        one.number
        for one, verdict in zip(candidates, verdicts, strict=True)
        if verdict.mark is Mark.CARRIED
    ]
    # Beside one that carries it, a quote that has all its words speaks of the same; one that lacks
    # some may speak of something else, such as the lease of another flat.
    least = 1.0 if carrying else _SPEAKS_OF_IT
    against = [
        one.number
        for one, verdict in zip(candidates, verdicts, strict=True)
        if verdict.mark is Mark.CONTRADICTED and verdict.coverage >= least
    ]
    return carrying, against


def words_say(sentence: str, text: str) -> Verdict:
    """What the words of `text` alone say of `sentence`."""
    quotes = citations.quotations(sentence)
    if contains_verbatim(text, sentence) or (
        quotes and all(citations.contains(text, quote) for quote in quotes)
    ):
        return Verdict(Mark.CARRIED, 1.0, is_firm=True)
    return judge(without_report(sentence), text)
