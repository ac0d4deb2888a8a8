"""The noun `Answer`: text, citations with verified locators, usage, and what was not read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mm1cli.ingest.corpus import Locator
from mm1cli.ingest.manifest import ReadingPlan


class CitationStatus(StrEnum):
    """How the program (never the model) found the quoted text in the source."""

    EXACT = "exact"
    NORMALISED = "normalised"  # equal after NFKC, case kept, runs of white space as one space
    NOT_FOUND = "not found"


class CitationKind(StrEnum):
    EVIDENCE = "evidence"  # a passage of the documents that carries the answer
    TOOL = "tool"  # what a tool told the model
    QUOTE = "quote"  # what the answer itself puts in quotation marks


@dataclass(frozen=True, slots=True)
class Citation:
    """A verbatim piece of a document that carries the answer.

    `text` is `block.text[start:end]` of block number `block` (from 0) of the document. `score` is
    the model's mean log-likelihood (nats per token) of the question given the passage, `gain` how
    much likelier the passage makes the answer (nats per token of the answer), `attention` the share
    of the answer's attention that went to it; None where it was not measured. `caption` is what it
    needs to be understood: the names of a table's columns, separated by tabs as its cells are, who
    sent a message and when, the class and function of code; "" for most texts.
    """

    number: int
    path: str
    locator: Locator
    text: str
    status: CitationStatus
    score: float
    kind: CitationKind = CitationKind.EVIDENCE
    block: int | None = None
    start: int | None = None
    end: int | None = None
    gain: float | None = None
    attention: float | None = None
    caption: str = ""


class Mark(StrEnum):
    """What the citations say of a sentence of the answer."""

    CARRIED = "carried"
    CONTRADICTED = "contradicted"
    NOT_CARRIED = "not carried"


@dataclass(frozen=True, slots=True)
class Claim:
    """`text[start:end]` of the answer, a sentence, and the numbers of the citations that carry it.

    `against` are those that say otherwise: then it is contradicted, whatever else carries it.
    """

    start: int
    end: int
    citations: tuple[int, ...]
    against: tuple[int, ...] = ()
    mark: Mark = field(init=False)

    def __post_init__(self) -> None:
        mark = Mark.CARRIED if self.citations else Mark.NOT_CARRIED
        object.__setattr__(self, "mark", Mark.CONTRADICTED if self.against else mark)


class Form(StrEnum):
    """What leads in an answer."""

    WRITTEN = "written"  # the model's sentence
    EXTRACT = "extract"  # the best piece of evidence, word for word


class WarningKind(StrEnum):
    MAY_BE_UNANSWERED = "may be unanswered"  # answered, but perhaps no document says it
    MAY_BE_ANSWERED = "may be answered"  # refused, but perhaps a document says it
    DISAGREE = "disagree"  # documents give different values


@dataclass(frozen=True, slots=True)
class AnswerWarning:
    """`text` is for people; `citations` are the numbers of those it is about."""

    kind: WarningKind
    text: str
    citations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What the answer cost. Tokens are the model's own; seconds are wall clock.

    Of `drafted_tokens`, guessed from the context and read ahead, `accepted_tokens` were written.
    Where weights are streamed, `weights_read_bytes` came from disk and `weights_hit_rate` is the
    share of uses that waited for none, of everything that was answered at the same time.
    """

    corpus_tokens: int
    read_tokens: int  # corpus tokens that were in the context
    context_tokens: int  # everything the model had before it: prompt, documents, question
    reused_tokens: int  # of these, not computed again
    output_tokens: int
    prefill_s: float
    decode_s: float
    total_s: float
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    weights_read_bytes: int | None = None
    weights_hit_rate: float | None = None
    unread_tokens: int = 0  # of passages that were found, not read, and would have fitted


@dataclass(frozen=True, slots=True)
class PassageRead:
    """A part of the corpus that was in the context. `locator` None is the whole document."""

    path: str
    locator: Locator | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`unverified` are the quotations of `text` that stand nowhere, and the numbers and dates that
    do not stand in what was read for it. `computed` are those that two numbers of the citations
    give, each with how: "34 = 21 + 13, from [1]".

    `is_found` False: the documents do not answer the question, and `text` says so. `value` is what
    `text` parses to under a schema. `thinking` is what the model wrote before its answer. `words`
    are the model's own where `text` is not: where the evidence says that nothing was found, and
    where `text` is an extract that carries them.
    """

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
    claims: tuple[Claim, ...] = ()
    is_found: bool = True
    value: object = None
    thinking: str = ""
    words: str = ""
    form: Form = Form.WRITTEN
    warnings: tuple[AnswerWarning, ...] = ()
    computed: tuple[str, ...] = ()

    @property
    def is_json(self) -> bool:
        """Whether `text` is for a program; a table that mm1 filled has a `value`, and is not."""
        return self.value is not None and self.text.lstrip()[:1] in {"{", "["}


def in_quotes(words: Sequence[str]) -> str:
    return ", ".join(f"“{one}”" for one in words)


def warning_texts(answer: Answer) -> list[str]:
    """All that a reader of `answer` must be warned of, in words."""
    texts = [warning.text for warning in answer.warnings]
    if answer.unverified:
        texts.append(_unverified(answer.unverified))
    return texts + [_contradicted(answer.text, one) for one in answer.claims if one.against]


def _unverified(unverified: Sequence[str]) -> str:
    return f"the answer says, but nothing that was read does: {in_quotes(unverified)}"


def _contradicted(text: str, claim: Claim) -> str:
    numbers = "".join(f"[{number}]" for number in claim.against)
    says = "say" if len(claim.against) > 1 else "says"
    words = " ".join(text[claim.start : claim.end].split())
    return f"{numbers} {says} otherwise: {in_quotes([words])}"
