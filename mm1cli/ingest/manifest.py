"""The account of a run's input: every file seen, its tokens or the reason it was left out.

The totals add up by construction: they are sums over `entries`, and `build` makes exactly one
entry for every document and every omission of the corpus.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from mm1cli.ingest.corpus import Corpus, Reason, Unread


class ReadingPlan(StrEnum):
    WHOLE = "whole"  # every token of the corpus is in the context
    RETRIEVAL = "retrieval"  # passages chosen for the question are in the context


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. Either `reason` is None and `tokens` counts it, or it was left out for `reason`."""

    path: str
    kind: str | None
    num_bytes: int | None
    sha256: str | None
    reader: str | None
    num_blocks: int
    num_pages: int
    tokens: int
    encoding: str = ""
    reason: Reason | None = None
    detail: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """`budget_tokens` is what the model's context leaves for documents; with `is_searched` only
    passages of them are read in any case. `is_saved`: they were read before, into a context."""

    entries: tuple[Entry, ...]
    budget_tokens: int
    policy: str = "focus"  # for what does not fit
    is_searched: bool = False
    is_saved: bool = False

    @property
    def unread(self) -> tuple[tuple[str, str], ...]:
        """Path and warning of each file that was read, but not all of it."""
        return tuple(
            (entry.path, warning)
            for entry in self.read
            for warning in entry.warnings
            if isinstance(warning, Unread)
        )

    @property
    def read(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.reason is None)

    @property
    def left_out(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.reason is not None)

    @property
    def largest(self) -> tuple[Entry, ...]:
        """What was read, the largest first."""
        return tuple(sorted(self.read, key=lambda entry: -entry.tokens))

    @property
    def tokens(self) -> int:
        return sum(entry.tokens for entry in self.entries)

    @property
    def fits(self) -> bool:
        return self.tokens <= self.budget_tokens

    @property
    def plan(self) -> ReadingPlan:
        """How the corpus is read: all of it where it fits, else passages found by the question."""
        is_whole = self.fits and not self.is_searched
        return ReadingPlan.WHOLE if is_whole else ReadingPlan.RETRIEVAL

    def as_json(self) -> dict[str, object]:
        return {
            "files": [asdict(entry) for entry in self.entries],
            "totals": {
                "seen": len(self.entries),
                "read": len(self.read),
                "left_out": len(self.left_out),
                "tokens": self.tokens,
            },
            "budget_tokens": self.budget_tokens,
            "fits": self.fits,
            "fit": self.policy,
            "plan": self.plan,
        }


def build(
    corpus: Corpus, tokens: Sequence[int], budget_tokens: int, policy: str = "focus"
) -> Manifest:
    """The manifest of `corpus`; `tokens[i]` is the exact token count of document i as packed."""
    read = [
        Entry(
            path=document.path,
            kind=document.kind,
            num_bytes=document.num_bytes,
            sha256=document.sha256,
            reader=document.reader,
            num_blocks=len(document.blocks),
            num_pages=document.count("page"),
            tokens=count,
            encoding=document.encoding,
            warnings=document.warnings,
        )
        for document, count in zip(corpus.documents, tokens, strict=True)
    ]
    left_out = [
        Entry(
            path=omission.path,
            kind=None,
            num_bytes=omission.num_bytes,
            sha256=None,
            reader=None,
            num_blocks=0,
            num_pages=0,
            tokens=0,
            reason=omission.reason,
            detail=omission.detail,
        )
        for omission in corpus.omissions
    ]
    entries = tuple(sorted(read + left_out, key=lambda entry: entry.path))
    return Manifest(entries, budget_tokens, policy)
