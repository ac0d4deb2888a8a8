"""The figures of one model over one set, from what was measured of each question.

What the product would lead with, warn of and refuse is decided here from the same measurements, by
the product's own rules, so that a threshold can be chosen on the dev half and tried on the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from statistics import median
from typing import Any

from benchmarks.answers.sets import Item
from benchmarks.evidence.report import best_threshold
from benchmarks.quality.stats import Estimate, bootstrap_auroc, wilson
from benchmarks.quality.table import Table
from benchmarks.quality.work import Result
from mm1cli.answering import doubts
from mm1cli.answering.check import check, claims_of, is_carried
from mm1cli.answering.sources import sources
from mm1cli.answering.unknown_terms import unknown_terms
from mm1cli.grounding import conflicts
from mm1cli.grounding.attribution import Attributed, LogProbGain
from mm1cli.grounding.conflicts import Conflict
from mm1cli.grounding.facts import Facts
from mm1cli.grounding.judgement import Judgement, judgement
from mm1cli.models.ability import Ability
from mm1cli.result import Citation, Claim, Mark
from mm1cli.retrieval.passages import Passage, Ranked

AT = (1, 5)
_HALVES = (("dev", True), ("held out", False))
NOT_CARRIED_MARGIN = inf  # of a sentence that something carries: no doubt about it

Judgements = Mapping[tuple[str, str], bool]


@dataclass(frozen=True)
class Outcome:
    """A question and what was measured of it. `judged` is by hand, where a string cannot tell."""

    item: Item
    result: Result
    judged: bool | None = None
    model: str = ""

    @cached_property
    def pieces(self) -> list[Ranked]:
        return [self._piece(*place) for place in self.result["pieces"]]

    def _piece(self, score: float, document: int, block: int, start: int, end: int) -> Ranked:
        found = self.item.collection.corpus.documents[document]
        return Ranked(Passage(found, found.blocks[block], start, end), score)

    @property
    def margin(self) -> float:
        margin: float = self.result["margin"]
        return margin

    @property
    def is_written(self) -> bool:
        return bool(self.result["is_found"])

    @property
    def is_right(self) -> bool:
        """Of the sentence."""
        if self.judged is not None:
            return self.judged
        return self.is_written and self.item.is_right(self.result["text"])

    @property
    def is_extract_right(self) -> bool:
        pieces = self.pieces
        return bool(pieces) and self.item.is_right(pieces[0].passage.text)

    def finds(self, k: int) -> bool:
        return any(
            self.item.is_gold(one.passage.document.path, one.passage.text)
            for one in self.pieces[:k]
        )

    @property
    def judgement(self) -> Judgement:
        """The model's; what it was not asked then, it does not say."""
        said = {(sentence, text): odds for sentence, text, odds in self.result["said"]}
        return judgement(self.model, lambda one, texts: [said.get((one, t), -inf) for t in texts])

    @cached_property
    def _evidence(self) -> list[Attributed]:
        """What the product shows now: pieces, and where else the sentence stands."""
        evidence = [
            Attributed(one.passage, one.score, gain and LogProbGain(*map(tuple, gain)), None)
            for one, gain in zip(self.pieces, self.result["gains"], strict=False)
        ]
        claims, text = self._claims(evidence), self.result["text"]
        search = self.item.collection.index.search
        return evidence + sources(self.item.text, text, claims, evidence, search)

    def _cited(self, evidence: Sequence[Attributed]) -> list[Citation]:
        return check(self.result["text"], evidence, self.item.collection.quotable, Facts)[0]

    def _claims(self, evidence: Sequence[Attributed]) -> tuple[Claim, ...]:
        given = (self._cited(evidence), evidence, self.judgement)
        return claims_of(self.item.text, self.result["text"], *given)

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """Of the sentence, by the product's rules as they are now."""
        return self._claims(self._evidence)

    @property
    def is_carried(self) -> bool:
        cited = self._cited(self._evidence)
        return is_carried(self.item.text, self.claims, cited, self._evidence)

    def is_warned(self, ability: Ability | None) -> bool:
        """Whether a mark or a warning stands beside the sentence."""
        is_doubtful = doubts.is_doubtful(self.margin, ability, is_carried=self.is_carried)
        are_carried = all(claim.mark is Mark.CARRIED for claim in self.claims)
        told = self.names_unknown or self.conflict is not None
        return told or is_doubtful or not (self.claims and are_carried)

    @property
    def doubt(self) -> float:
        """The margin, which is compared with a threshold, of a sentence that nothing carries."""
        return NOT_CARRIED_MARGIN if self.is_carried else self.margin

    @property
    def names_unknown(self) -> bool:
        return bool(unknown_terms(self.item.text, self.item.collection.corpus))

    @property
    def conflict(self) -> Conflict | None:
        return conflicts.find(self.item.text, self.pieces)


def report(
    table: Table, name: str, column: str, outcomes: Sequence[Outcome], ability: Ability | None
) -> None:
    def put(measure: str, cell: Estimate | str) -> None:
        table.put({"set": name}, measure, column, cell)

    answerable = [one for one in outcomes if one.item.is_answerable]
    nowhere = [one for one in outcomes if not one.item.is_answerable]
    if answerable:
        _put_answers(put, answerable)
    if outcomes:
        put("median seconds", f"{median(one.result['seconds'] for one in outcomes):.1f}")
        _put_checks(put, outcomes, ability)
    if answerable and nowhere:
        _put_abstention(table, put, column, outcomes, ability)
    for kind in dict.fromkeys(one.item.kind for one in outcomes):
        own = [one for one in outcomes if one.item.kind == kind]
        put(f"names what no document does, {kind}", _share(own, lambda one: one.names_unknown))
    superseding = [one for one in answerable if one.item.superseded]
    if superseding:
        _put_conflicts(put, superseding)
    if plain := [one for one in outcomes if not one.item.superseded]:
        put("warned of documents that agree", _share(plain, lambda one: one.conflict is not None))


_Put = Callable[[str, Estimate | str], None]


def _share(outcomes: Sequence[Outcome], holds: Callable[[Outcome], object]) -> Estimate | str:
    if not outcomes:
        return "-"
    return wilson(sum(bool(holds(one)) for one in outcomes), len(outcomes))


def _put_answers(put: _Put, answerable: Sequence[Outcome]) -> None:
    for k in AT:
        put(f"evidence@{k}", _share(answerable, lambda one, k=k: one.finds(k)))  # type: ignore[misc]
    put("sentence right", _share(answerable, lambda one: one.is_right))
    put("extract right", _share(answerable, lambda one: one.is_extract_right))
    put("sentence wrong", _share(answerable, lambda one: one.is_written and not one.is_right))
    put("refused although answered", _share(answerable, lambda one: not one.is_written))


def _put_checks(put: _Put, outcomes: Sequence[Outcome], ability: Ability | None) -> None:
    """Quotes that stand nowhere; and the mark "no evidence": of wrong sentences, does it mark all,
    and of what it marks, is it wrong? Without mark and warning a wrong sentence is believed."""
    written = [one for one in outcomes if one.is_written]
    false = [text for one in written for text in one.result["unverified"] if len(text.split()) > 2]
    quotes = sum(one.result["num_quotes"] for one in written) + len(false)
    put("false quotes", wilson(len(false), quotes) if quotes else "no quotes")
    marked = [one for one in written if not one.is_carried]
    wrong = [one for one in written if not one.is_right]
    put("marked sentences that are wrong", _share(marked, lambda one: not one.is_right))
    put("wrong sentences that are marked", _share(wrong, lambda one: not one.is_carried))
    put("wrong, without mark or warning", _share(wrong, lambda one: not one.is_warned(ability)))
    right = [one for one in written if one.is_right]
    put("right, with mark or warning", _share(right, lambda one: one.is_warned(ability)))


def _put_abstention(
    table: Table, put: _Put, column: str, outcomes: Sequence[Outcome], ability: Ability | None
) -> None:
    there = [one.margin for one in outcomes if one.item.is_answerable]
    nowhere = [one.margin for one in outcomes if not one.item.is_answerable]
    put("margin tells answerable, AUROC", bootstrap_auroc(there, nowhere, seed=0))
    twins = [one.margin for one in outcomes if one.item.kind == "near twin"]
    if twins:
        put("the same, near twins only, AUROC", bootstrap_auroc(there, twins, seed=0))
    unanswered = [one for one in outcomes if not one.item.is_answerable]
    put("refused, unanswerable", _share(unanswered, lambda one: not one.is_written))
    dev = [one for one in outcomes if one.item.is_dev]
    if not any(one.item.is_answerable for one in dev) or all(o.item.is_answerable for o in dev):
        return
    threshold = best_threshold([(one.margin, one.item.is_answerable) for one in dev])
    kept = None if ability is None else ability.min_margin
    table.note(
        f"{column}: dev's best threshold of the margin is {threshold:.2f} nats per token; the "
        f"catalogue has {'none' if kept is None else format(kept, '.2f')}."
    )
    used = threshold if kept is None else kept
    for half, is_dev in _HALVES:
        own = [one for one in outcomes if one.item.is_dev == is_dev]
        answered = [one for one in own if one.is_written]
        for rule, value, asked in (
            ("margin", _margin, own),
            ("margin, not carried", _doubt, answered),
        ):
            for is_answerable, what in ((True, "warned although answerable"), (False, "found")):
                values = [value(one) for one in asked if one.item.is_answerable == is_answerable]
                if values:
                    warned = wilson(sum(one < used for one in values), len(values))
                    put(f"{what}, by {rule}, {half}", warned)


def _margin(one: Outcome) -> float:
    return one.margin


def _doubt(one: Outcome) -> float:
    return one.doubt


def _put_conflicts(put: _Put, superseding: Sequence[Outcome]) -> None:
    def is_latest_first(one: Outcome) -> bool:
        found = one.conflict
        if found is None or not found.known_by:
            return False
        return one.item.is_right(found.sides[0].piece.passage.text)

    for half, is_dev in _HALVES:
        own = [one for one in superseding if one.item.is_dev == is_dev]
        put(f"disagreement told, {half}", _share(own, lambda one: one.conflict is not None))
        put(f"later first, {half}", _share(own, is_latest_first))
        put(f"later first without it, {half}", _share(own, lambda one: one.is_extract_right))


def to_judge(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Sentences that the string test fails and nobody has judged, to be read."""
    return [
        {"question": one.item.text, "gold": list(one.item.gold), "answer": one.result["text"]}
        for one in outcomes
        if one.item.is_answerable and one.is_written and one.judged is None and not one.is_right
    ]
