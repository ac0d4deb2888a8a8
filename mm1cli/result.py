"""The noun `Answer`: text, citations with verified locators, usage, and what was not read."""

from dataclasses import dataclass
from enum import StrEnum

from mm1cli.ingest.corpus import Locator


class CitationStatus(StrEnum):
    """How the program (never the model) found the quoted text in the source."""

    EXACT = "exact"
    NORMALISED = "normalised"  # equal after NFKC, case kept, runs of white space as one space
    NOT_FOUND = "not found"


class ReadingPlan(StrEnum):
    WHOLE = "whole"  # every token of the corpus is in the context
    FOCUS = "focus"  # passages chosen for the question are in the context


@dataclass(frozen=True, slots=True)
class Citation:
    """A verbatim piece of a document that carries the answer.

    `score` is the model's mean log-likelihood (nats per token) of the question given the passage.
    """

    number: int
    path: str
    locator: Locator
    text: str
    status: CitationStatus
    score: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What the answer cost. Tokens are the model's own; seconds are wall clock."""

    corpus_tokens: int
    read_tokens: int  # corpus tokens that were in the context
    context_tokens: int  # everything the model had before it: prompt, documents, question
    reused_tokens: int  # of these, not computed again
    output_tokens: int
    prefill_s: float
    decode_s: float
    total_s: float


@dataclass(frozen=True, slots=True)
class PassageRead:
    """A part of the corpus that was in the context. `locator` None is the whole document."""

    path: str
    locator: Locator | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`unverified` are the quotes and numbers of `text` that stand nowhere in what was read."""

    question: str
    text: str
    citations: tuple[Citation, ...]
    usage: Usage
    plan: ReadingPlan
    stop_reason: str
    seed: int
    model_fingerprint: str = ""
    read: tuple[PassageRead, ...] = ()
    unverified: tuple[str, ...] = ()
