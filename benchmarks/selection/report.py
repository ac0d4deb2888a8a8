"""What was found and answered, as tables in Markdown, and whether it passes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.quality.stats import bootstrap_auroc
from benchmarks.quality.table import NOTHING, markdown_grid
from benchmarks.quality.work import Result
from benchmarks.selection.questions import Hidden, Kind

SCORES = ("mass", "lift", "bm25")
# Of needles, the least share that must be right up to so many tokens; of facts, what of those that
# are answered from their passage alone may be lost.
_GATES = ((128_000, 0.95), (1_000_000, 0.9))
_MOST_LOST = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one question: asked of the context, and of the passage alone."""

    hidden: Hidden
    asked: Result
    alone: Result


@dataclass(slots=True)
class Length:
    """Of one context that was to have about `num_tokens`. `left_out` questions were not asked."""

    num_tokens: int
    facts: Result
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: int = 0

    @property
    def tokens(self) -> str:
        return f"{self.facts['tokens']:,}"

    def of(self, kind: Kind) -> list[Outcome]:
        return [one for one in self.outcomes if one.hidden.kind is kind]


def as_markdown(lengths: Sequence[Length], seed: int = 0) -> str:
    parts = [markdown_grid(list(_kinds(lengths))), markdown_grid(list(_contexts(lengths, seed)))]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in gates(lengths))])


def as_rows(lengths: Sequence[Length]) -> list[dict[str, object]]:
    """The same for a program."""
    return [
        {**length.facts, "kind": kind, "asked": len(found), **_counts(found)}
        for length in lengths
        for kind in Kind
        if (found := length.of(kind))
    ]


def gates(lengths: Sequence[Length]) -> Iterator[str]:
    """A line each: what was to be reached, what was, passed or failed."""
    for length in lengths:
        least = next(share for most, share in _GATES if length.num_tokens <= most)
        if found := length.of(Kind.NEEDLE):
            counts = _counts(found)
            for how in ("right", "again"):
                passed = counts[how] >= least * len(found)
                yield (
                    f"needles at {length.tokens} tokens, {how}: {counts[how]} of {len(found)}, at "
                    f"least {least:.0%}: {_passed(passed)}"
                )
        if found := length.of(Kind.NATURAL):
            counts = _counts(found)
            for how in ("right", "again"):
                passed = counts[how] >= counts["alone"] - _MOST_LOST * len(found)
                yield (
                    f"natural facts at {length.tokens} tokens, {how}: {counts[how]} of "
                    f"{len(found)}, {counts['alone']} from the passage alone, at most "
                    f"{_MOST_LOST:.0%} of them lost: {_passed(passed)}"
                )
        if length.left_out:
            yield f"{length.tokens} tokens: {length.left_out} not asked, the time was over"


def _passed(passed: bool) -> str:
    return "passed" if passed else "FAILED"


def _counts(found: Sequence[Outcome]) -> dict[str, int]:
    return {
        "found": sum(one.asked["found"] for one in found),
        "right": sum(one.asked["right"] for one in found),
        "again": sum(one.asked["again"] for one in found),
        "alone": sum(one.alone["right"] for one in found),
        "bm25": sum(one.asked["bm25"][0] for one in found),
        "bm25_3": sum(one.asked["bm25"][1] for one in found),
    }


def _kinds(lengths: Sequence[Length]) -> Iterator[list[str]]:
    yield ["tokens", "asked for", "number", "found", "right", "again", "alone", "bm25 @1", "@3"]
    for length in lengths:
        for kind in Kind:
            if found := length.of(kind):
                counts = map(str, _counts(found).values())
                yield [length.tokens, kind.value, str(len(found)), *counts]


def _contexts(lengths: Sequence[Length], seed: int) -> Iterator[list[str]]:
    areas = [f"AUROC {score}" for score in SCORES]
    yield ["tokens", "a scan, s", "read tok/s", "B a token", "twins", *areas]
    for length in lengths:
        facts = length.facts
        speed = facts["tokens_per_s"]
        shown = [
            length.tokens,
            f"{median(one.asked['scan_s'] for one in length.outcomes):.2f}"
            if length.outcomes
            else NOTHING,
            NOTHING if speed is None else f"{speed:.0f}",
            f"{facts['bytes_per_token']:,.0f}",
        ]
        for name, kinds in (
            ("numbers", [kind for kind in Kind if kind is not Kind.NATURAL]),
            ("natural facts", [Kind.NATURAL]),
        ):
            both = [
                (one.asked["scores"], one.asked["twin_scores"])
                for kind in kinds
                for one in length.of(kind)
                if one.hidden.twin
            ]
            if both:
                found = [
                    bootstrap_auroc([a[score] for a, _ in both], [b[score] for _, b in both], seed)
                    for score in SCORES
                ]
                yield [*shown, f"{len(both)} of {name}", *map(str, found)]
                shown = [length.tokens, *[""] * (len(shown) - 1)]
