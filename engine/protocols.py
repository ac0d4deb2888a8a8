"""What an engine is to those who use one, wherever it runs. Stands below all of this room.

Token ids in, token ids out. `engine.engine` computes here; another may ask a server. Who uses one
asks `Engine.capabilities` for what not every engine can do, never which class it is.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

FAST = "-fast"  # ends a fingerprint where matmuls take activations in eight bits
NO_KV = "none"  # of a saved context: no layer has keys and values
ON_SERVER = "server"  # of a saved context: a server keeps what was read, the folder the tokens

OnProgress = Callable[[int, int], None]
T = TypeVar("T")


class Numbers(Protocol):
    """A vector as any library has it: a tensor, an array of numpy's, `array.array`."""

    def tolist(self) -> list[float]: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a chat. Its text is `parts` joined; each part stays a `TensorPiece` of its
    own."""

    role: str  # "system", "user" or "assistant"
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a rendered chat: markup of the template, or one part of a turn."""

    text: str
    is_markup: bool


class Tokenizer(Protocol):
    """Text as text can never become a control id; only the markup of a chat template can."""

    @property
    def control_ids(self) -> frozenset[int]: ...

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each id of `encode(text)` begins and ends in `text`, in characters."""

    def encode_markup(self, text: str) -> list[int]: ...

    def encode_piece(self, piece: Piece) -> list[int]: ...

    def encode_chat(self, turns: Sequence[Turn]) -> list[int]: ...

    def chat(self, turns: Sequence[Turn]) -> list[Piece]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def opens_with(self, tag: str) -> bool: ...

    def knows(self, tag: str) -> bool: ...


class TokenScores(Protocol):
    """In nats, of the tokens of one chunk; NaN for a token that nothing stands before."""

    @property
    def log_p(self) -> Numbers: ...

    @property
    def entropy(self) -> Numbers: ...

    @property
    def best_log_p(self) -> Numbers: ...


OnScores = Callable[[TokenScores], None]


@dataclass(frozen=True, slots=True)
class SelectedBlock:
    """Tokens `start` .. `end` - 1 of a context, and the share of the scan that fell on them."""

    start: int
    end: int
    mass: float


@dataclass(frozen=True, slots=True)
class Needle:
    """Stands from token `start` of the documents on; `answer_ids` continue `question_ids`, and of
    them the last `num_scored` are what only the needle says."""

    start: int
    question_ids: Sequence[int]
    answer_ids: Sequence[int]
    num_scored: int


@dataclass(frozen=True, slots=True)
class RetrievalHead:
    """A KV head whose queries look for what a question asks: keys are scored as if they stood
    `distance` tokens before the question (retrieval heads: arXiv 2404.15574)."""

    layer: int
    kv_head: int
    distance: int


@dataclass(frozen=True, slots=True)
class Judged:
    """`log_p` of each token of a question, and the share of a retrieval head's attention that it
    gives each token it was read behind."""

    log_p: Numbers
    shares: Numbers


@dataclass(frozen=True, slots=True)
class Probe:
    """Documents begin at token `first` of `document_ids`."""

    document_ids: Sequence[int]
    needles: Sequence[Needle]
    first: int = 0


class Context(Protocol):
    """Tokens that a model has read. Append-only; a fork costs little and grows apart."""

    @property
    def token_ids(self) -> Sequence[int]: ...

    @property
    def reused_tokens(self) -> int | None:
        """How many the engine had in its cache when it was last asked to go on from here. None
        where whoever forks contexts knows it exactly, or nobody does."""

    def __len__(self) -> int: ...

    def extend(
        self,
        token_ids: Sequence[int],
        on_progress: OnProgress | None = None,
        on_scores: OnScores | None = None,
    ) -> None:
        """Reads more tokens. `on_scores` needs `Capabilities.has_token_scores`."""

    def fork(self) -> "Context": ...

    def end_of_documents(self) -> None:
        """Here the documents end: what is read next sees all of them, in every layer."""

    def select(self, token_ids: Sequence[int], first: int = 0) -> Sequence[SelectedBlock]:
        """Here the documents end, which began at `first`, and `token_ids`, a question to come next,
        selects what is seen of them: these blocks, best first; none where everything is seen."""

    def search(self, token_ids: Sequence[int], first: int = 0) -> Numbers | None:
        """The share of a retrieval head's attention that `token_ids`, a question to come next,
        give each token of the documents, which began at `first`. None where no such head is known.
        """

    def score(self, token_ids: Sequence[int], given: Sequence[int] = ()) -> Numbers:
        """log p of each of `token_ids`, were they to come next, after `given`; changes nothing.
        Needs `Capabilities.has_logprobs`."""

    def judge(self, token_ids: Sequence[int], given: Sequence[int], head: RetrievalHead) -> Judged:
        """`score`, and where in `given` `head` looks for what `token_ids` ask. Needs
        `Capabilities.has_attention`."""

    def attention(self, token_ids: Sequence[int]) -> Numbers | None:
        """The share of attention that `token_ids`, were they to come next, would give each token
        there is. None where that is not known."""


class StopReason(StrEnum):
    END = "end"  # the model ended its turn
    STOP_TEXT = "stop text"
    MAX_TOKENS = "max tokens"
    CONTEXT_FULL = "context full"
    LOOP = "repeats itself"  # greedy decoding that has come into a loop does not come out of it


class Decoding(Protocol):
    """An answer being generated: iterate for its text. Closing the iterator ends it.

    The context has grown by the tokens written, perhaps without the last one, when it has ended.
    """

    @property
    def token_ids(self) -> list[int]: ...

    @property
    def stop_reason(self) -> StopReason | None: ...

    @property
    def num_drafted(self) -> int: ...

    @property
    def num_accepted(self) -> int: ...

    def __iter__(self) -> Generator[str, None, None]: ...


class Grammar(Protocol):
    """A JSON Schema made ready for one engine; a constraint for as many answers as one likes."""

    def check_room(self, max_tokens: int) -> None:
        """Raises RoomError if no whole answer is known to be that short."""


class SuffixArray(Protocol):
    """Texts to quote from, and where a quotation stands in them."""

    @property
    def text(self) -> bytes: ...

    def find_all(self, wanted: bytes, most: int) -> list[int]:
        """At most `most` places in `text` where `wanted` may be quoted, ascending."""

    def dump(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Quotes:
    """The constraint that what an answer quotes stands in a text, which is asked for when the first
    quotation is opened. `begun` is what the answer begins with already.

    Held as far as the engine can (`Capabilities.has_quotes`): look up what was written too. An
    engine that cannot hold all of a long text holds to `evidence`, the parts most likely quoted.
    """

    suffixes: Callable[[], SuffixArray]
    begun: str = ""
    evidence: Sequence[str] = ()


Constraint: TypeAlias = Grammar | Quotes


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """What to build: the tokens, where documents end, and files to keep beside them by name."""

    token_ids: Sequence[int]
    document_ends: Collection[int] = ()
    attachments: Mapping[str, bytes] = field(default_factory=dict)


class BuildResult(Protocol):
    """`reused_tokens` of the context were on disk already, and what the first `reused_layers` of
    `num_layers` make of the rest; `why` says why not more was."""

    @property
    def context(self) -> Context: ...

    @property
    def reused_tokens(self) -> int: ...

    @property
    def reused_layers(self) -> int: ...

    @property
    def num_layers(self) -> int: ...

    @property
    def why(self) -> str: ...

    @property
    def is_saved(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class SavedContext:
    """What a finished context in a folder is, by its manifest alone."""

    folder: Path
    num_tokens: int
    fingerprint: str
    chunk_tokens: int
    kv: str
    selection: str
    token_ids: Callable[[], list[int]] = field(compare=False)  # these two raise StoreError
    attachment: Callable[[str], bytes] = field(compare=False)  # a file saved with it, by its name

    @property
    def kv_dtype(self) -> str | None:
        """What `open_engine` takes as `kv` to open it."""
        return None if self.kv in {NO_KV, ON_SERVER} else self.kv

    @property
    def is_on_server(self) -> bool:
        return self.kv == ON_SERVER

    @property
    def is_fast(self) -> bool:
        """What `open_engine` takes as `fast` to open it."""
        return self.fingerprint.endswith(FAST)


@dataclass(slots=True)
class IoStats:
    """What was read of weights that are streamed, so far."""

    num_uses: int = 0
    num_hits: int = 0  # uses of parts that were there already, read ahead or kept
    num_reads: int = 0
    read_bytes: int = 0  # from disk
    waited_s: float = 0.0  # by uses of parts that were not there

    @property
    def hit_rate(self) -> float:
        """The share of uses that waited for nothing."""
        return self.num_hits / self.num_uses if self.num_uses else 1.0

    def since(self, before: "IoStats") -> "IoStats":
        """What was done after `before`."""
        return IoStats(
            self.num_uses - before.num_uses,
            self.num_hits - before.num_hits,
            self.num_reads - before.num_reads,
            self.read_bytes - before.read_bytes,
            self.waited_s - before.waited_s,
        )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What not every engine can do. What is False raises EngineError where it is asked for, unless
    its own words say what happens instead."""

    has_logprobs: bool  # Context.score
    has_token_scores: bool  # extend(on_scores=...): entropy and the likeliest token, too
    has_grammars: bool  # Engine.grammar
    ends_grammars: bool  # and an answer that follows one is whole within max_tokens
    has_quotes: bool  # Quotes are held while an answer is written; else they are not
    has_attention: bool  # Context.attention; else it is None
    can_save: bool  # build_context and open_context
    prefers_batches: bool  # works cost less in `run_shared` than one after another
    selects: bool = (
        False  # of contexts that are saved or read whole a question sees what it selects
    )
    window_tokens: int | None = None  # by which such contexts, and questions in them, are read
    saves_states: bool = True  # build_context saves what was read; else a server keeps that
    has_relevance: bool = False  # Engine.relevance


class Engine(Protocol):
    """A model, ready to read and write."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def fingerprint(self) -> str:
        """Engines with the same one read and write alike."""

    @property
    def max_positions(self) -> int:
        """The longest context the model was trained for, or its server takes."""

    @property
    def max_tokens(self) -> int:
        """The longest context that is saved or read whole: more, where questions select from it."""

    @property
    def token_flops(self) -> int:
        """Floating-point operations to read one more token, attention apart."""

    @property
    def io_stats(self) -> IoStats | None: ...

    def check_memory(self, num_tokens: int) -> None:
        """Raises PlacementError if a context of so many tokens does not fit."""

    def new_context(self, *, is_saved_kind: bool = False) -> Context:
        """`is_saved_kind`: as `build_context` makes them, to be selected from if those are."""

    def decode(
        self,
        context: Context,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_positions: int | None = None,
        stop_texts: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        constraint: Constraint | None = None,
    ) -> Decoding:
        """An answer that continues `context`, which is one of this engine."""

    def relevance(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each of `texts` answers `question`, by another model made for that: higher is
        better, and nothing else is known of the numbers. Needs `Capabilities.has_relevance`."""

    def grammar(self, schema: Mapping[str, Any]) -> Grammar:
        """`schema` made ready for `decode`. Raises GrammarError."""

    def run_shared(
        self,
        works: Sequence[Callable[[], T]],
        num_tokens: int,
        shared: Context | None = None,
    ) -> list[T]:
        """The results of `works`, in their order; the error of the first that fails.

        One of them runs at a time, while the others wait for what they asked of this engine, so
        what they share needs no locks. Each reads and writes at most `num_tokens`, in a context of
        its own or in forks of `shared`.
        """

    def map_requests(self, works: Sequence[Callable[[], T]], num_tokens: int) -> list[T]:
        """`run_shared` where that is preferred, else one after another."""

    def context_name(self, token_ids: Sequence[int]) -> str:
        """A file name that only these tokens and this engine have."""

    def context_bytes(self, num_tokens: int) -> int:
        """What a saved context of so many tokens takes on disk, to a few per cent."""

    def build_context(
        self,
        folder: Path,
        plan: ContextPlan,
        *,
        others: Sequence[Path] = (),
        on_progress: OnProgress | None = None,
        on_wait: Callable[[], None] | None = None,
        on_unsaved: Callable[[str], None] | None = None,
    ) -> BuildResult:
        """A context that is saved in `folder` while it is read. Needs `Capabilities.can_save`."""

    def open_context(
        self,
        folder: Path,
        *,
        on_progress: OnProgress | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> Context:
        """The context saved in `folder`. Needs `Capabilities.can_save`. `on_progress` and `on_note`
        are told where a server has to read tokens again, and why."""
