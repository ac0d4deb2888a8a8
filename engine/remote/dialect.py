"""What a server is asked for, whatever it is called there, and what is known of one."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Protocol

from engine.protocols import OnProgress, StopReason

UNKNOWN_CONTEXT: Final = 4096  # of a server that does not tell; Ollama's own default


class Kind(StrEnum):
    LLAMA = "llama"
    VLLM = "vllm"
    SGLANG = "sglang"
    OPENAI = "openai"  # chat alone: Ollama, LM Studio, mlx-lm, anything else


class Level(StrEnum):
    """What of mm1 holds over a server."""

    A = "A"  # token ids, likelihood, constrained quotes, reuse reported
    B = "B"  # token ids; of the rest not all
    C = "C"  # text of a chat


@dataclass(frozen=True, slots=True)
class RankingModel:
    """A model of a server's that orders texts by how well they answer a question: a reranker, or
    one whose embeddings do."""

    name: str
    is_reranker: bool


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says of itself. `max_context` is of one request, 0 if nobody knows it;
    `model_path` is a file on its machine; `num_slots` requests are worked on at once."""

    host: str
    kind: Kind
    version: str = ""
    model: str = ""
    models: tuple[str, ...] = ()
    max_context: int = 0
    model_path: str = ""
    num_parameters: int = 0
    num_bytes: int = 0  # of its weights
    num_slots: int = 1
    has_ids: bool = False
    has_logprobs: bool = False
    has_schemas: bool = False
    has_quotes: bool = False  # llguidance: texts that answers may be held to
    reports_reuse: bool = False
    ranking: RankingModel | None = None
    is_local: bool = False

    @property
    def level(self) -> Level:
        if not self.has_ids:
            return Level.C
        is_whole = self.has_logprobs and self.has_quotes and self.reports_reuse
        return Level.A if is_whole else Level.B

    @property
    def loses(self) -> str:
        """What does not hold, in words for people; "" where everything does."""
        order = "words alone" if self.ranking is None else f"words and {self.ranking.name}"
        is_chat = self.level is Level.C
        missing = {
            "token counts are estimates": is_chat,
            f"evidence is ordered by {order}": not self.has_logprobs,
            "control strings in documents are broken up": is_chat,
            "quotes are checked and not constrained": not self.has_quotes,
            "what was reused is not told": not (self.reports_reuse or is_chat),
        }
        return ", ".join(words for words, is_missing in missing.items() if is_missing)


@dataclass(frozen=True, slots=True)
class Request:
    """An answer to be written behind `token_ids`. Of `schema` (JSON Schema) and `grammar` (in
    llguidance's Lark) there is one at most."""

    token_ids: Sequence[int]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    schema: Mapping[str, Any] | None = None
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """What came next of an answer. `token_ids` are empty where a server does not tell them;
    `reused` is how much of the prompt it need not read. The last one says why it is the last."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    reused: int | None = None
    stop: StopReason | None = None


class Dialect(Protocol):
    """One kind of server. All raise ServerError; what a server has not is never asked of it."""

    @property
    def tells_all_ids(self) -> bool:
        """Whether the ids of an answer are told without gaps, so that its text is theirs."""

    def tokenize(self, text: str, *, is_markup: bool) -> list[int] | None:
        """As the server does it, `is_markup` with control tokens. None where it tells nothing."""

    def warm(self, token_ids: Sequence[int], on_progress: OnProgress) -> int | None:
        """Has the server read `token_ids`, and no more; returns how many it need not read."""

    def holds(self, token_ids: Sequence[int]) -> bool:
        """Whether the server has read them already, and has that at hand, as far as it tells."""

    def save(self, name: str) -> int:
        """Keeps what `warm` had read, on the server's disk under `name`; returns how many tokens
        that are, 0 where the server does no such thing."""

    def restore(self, name: str) -> int:
        """Takes that up again, and returns how many tokens it is of; 0 where it is not there. Which
        model it is of, the server does not ask: what comes of it must be proved, or `forget`."""

    def forget(self) -> None:
        """What was restored."""

    def score(self, token_ids: Sequence[int], tail: Sequence[int]) -> list[float]:
        """log p of each of `tail`, were they to come behind `token_ids`."""

    def generate(self, request: Request) -> Generator[Delta, None, None]:
        """Closing the iterator stops the server's work."""


class WithoutSlots:
    """Of a dialect whose servers keep nothing on disk."""

    def holds(self, token_ids: Sequence[int]) -> bool:
        """Nobody knows."""
        del token_ids
        return False

    def save(self, name: str) -> int:
        """Nothing: what they keep, they keep in memory."""
        del name
        return 0

    def restore(self, name: str) -> int:
        del name
        return 0

    def forget(self) -> None:
        """Nothing was restored."""
