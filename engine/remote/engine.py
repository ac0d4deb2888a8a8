"""A model behind an address, as an engine: what `engine.api.open_server` opens."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine import protocols
from engine.errors import EngineError, RoomError, ServerError, TooLongError
from engine.protocols import (
    Capabilities,
    ContextPlan,
    IoStats,
    OnProgress,
    Quotes,
    StopReason,
)
from engine.remote import quotes
from engine.remote.context import RemoteContext
from engine.remote.decode import RemoteDecoding, TextStream
from engine.remote.dialect import UNKNOWN_CONTEXT, Dialect, Request, ServerInfo
from engine.remote.token_check import differing

if TYPE_CHECKING:
    from engine.constraints.grammar import Grammar
    from engine.remote.saved import BuildResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemoteGrammar:
    """A schema that a server is asked to follow; `check` holds its answer against it."""

    schema: Mapping[str, Any]
    grammar: "Grammar"

    def check_room(self, max_tokens: int) -> None:
        """Nobody here knows how many tokens of the server's an answer takes."""

    def check(self, text: str, reason: StopReason) -> None:
        """Raises RoomError for an answer that was cut, ServerError for one of another form."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            if reason in {StopReason.MAX_TOKENS, StopReason.CONTEXT_FULL}:
                raise RoomError(
                    "the answer was cut before its JSON was whole; raise --max-tokens"
                ) from None
            raise ServerError("the server's answer is no JSON, though a schema was asked") from None
        value = in_order(value, self.schema)  # the grammar here has one, JSON has none
        written = json.dumps(value, ensure_ascii=False, separators=(", ", ": ")).encode()
        matcher = self.grammar.matcher()
        if matcher.try_consume_tokens([*written]) != len(written) or not matcher.is_accepting():
            raise ServerError("the server's answer does not follow the schema; ask another server")


def in_order(value: object, schema: object) -> object:
    """`value` with the names of objects in the order in which `schema` has them."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, list):
        return [in_order(one, schema.get("items")) for one in value]
    properties = schema.get("properties")
    if not isinstance(value, dict) or not isinstance(properties, Mapping):
        return value
    names = [name for name in properties if name in value]
    names += [name for name in value if name not in properties]
    return {name: in_order(value[name], properties.get(name)) for name in names}


class RemoteEngine:
    """Contexts are token ids here; what the server has read of them it keeps, or not, by itself.

    `new_stream` makes text of ids as they come, where they are the server's; `rank` is what the
    server has for `relevance`. `fingerprint` is of the served file, where it is known which that
    is.
    """

    io_stats: IoStats | None = None
    token_flops = 0  # not known

    def __init__(
        self,
        info: ServerInfo,
        dialect: Dialect,
        tokenizer: protocols.Tokenizer,
        *,
        fingerprint: str,
        end_ids: Collection[int] = (),
        new_stream: Callable[[], TextStream] | None = None,
        rank: Callable[[str, Sequence[str]], list[float]] | None = None,
    ) -> None:
        self.info, self._dialect, self.tokenizer = info, dialect, tokenizer
        self.fingerprint = fingerprint
        self._end_ids, self._new_stream = frozenset(end_ids), new_stream
        self._rank = rank

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            has_logprobs=self.info.has_logprobs,
            has_token_scores=False,
            has_grammars=self.info.has_schemas,
            ends_grammars=False,
            has_quotes=self.info.has_quotes,
            has_attention=False,
            can_save=self.info.has_ids,
            prefers_batches=False,
            saves_states=False,
            has_relevance=self._rank is not None,
        )

    @property
    def max_positions(self) -> int:
        """The longest context that the server takes."""
        return self.info.max_context or UNKNOWN_CONTEXT

    @property
    def max_tokens(self) -> int:
        return self.max_positions

    def differing(self, texts: Sequence[str]) -> str:
        """See `engine.remote.token_check.differing`."""
        return differing(self.tokenizer, self._dialect, texts)

    def check_memory(self, num_tokens: int) -> None:
        """The server's own affair."""

    def new_context(self, *, is_saved_kind: bool = False) -> RemoteContext:
        del is_saved_kind
        return RemoteContext(self._dialect)

    def decode(
        self,
        context: protocols.Context,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        max_positions: int | None = None,
        stop_texts: Sequence[str] = (),
        stop_ids: Sequence[int] = (),
        constraint: protocols.Constraint | None = None,
    ) -> RemoteDecoding:
        if not isinstance(context, RemoteContext):
            raise TypeError(f"{type(context).__name__} of another engine, not RemoteContext")
        room = min(max_positions or self.max_positions, self.max_positions) - len(context)
        request = Request((), min(max_tokens, room), temperature, top_p, seed)
        check = None
        if isinstance(constraint, Quotes):
            request = replace(request, grammar=self._quoting(constraint))
        elif isinstance(constraint, RemoteGrammar):
            request = replace(request, schema=constraint.schema)
            check = constraint.check
        elif constraint is not None:
            raise TypeError(f"{type(constraint).__name__} of another engine, not RemoteGrammar")
        return RemoteDecoding(
            context,
            request,
            stream=self._new_stream,
            encode=self.tokenizer.encode,
            vocab_size=self.tokenizer.vocab_size,
            end_ids=self._end_ids,
            stop_ids=frozenset(stop_ids),
            stop_texts=stop_texts,
            check=check,
            is_full=room < max_tokens,
        )

    def relevance(self, question: str, texts: Sequence[str]) -> list[float]:
        if self._rank is None:
            raise EngineError(f"{self.info.host}: no model there orders texts")
        return self._rank(question, texts)

    def _quoting(self, constraint: Quotes) -> str | None:
        """None where the server has no such grammar, or what may be quoted is too much for it."""
        if not self.info.has_quotes or constraint.begun or not constraint.evidence:
            return None
        return quotes.grammar(constraint.evidence)

    def grammar(self, schema: Mapping[str, Any]) -> RemoteGrammar:
        """Raises GrammarError, EngineError where the server follows no schema."""
        from engine.constraints.grammar import Grammar, TokenBytes

        if not self.info.has_schemas:
            raise EngineError(f"{self.info.host}: the server follows no schema; leave out --schema")
        return RemoteGrammar(schema, Grammar(schema, TokenBytes.of_bytes()))

    def run_shared(
        self,
        works: Sequence[Callable[[], T]],
        num_tokens: int,
        shared: protocols.Context | None = None,
    ) -> list[T]:
        """One after another."""
        del num_tokens, shared
        return [work() for work in works]

    def map_requests(self, works: Sequence[Callable[[], T]], num_tokens: int) -> list[T]:
        return self.run_shared(works, num_tokens)

    def context_name(self, token_ids: Sequence[int]) -> str:
        from engine.store.tokens_only import chain

        return chain(self.fingerprint, token_ids)

    def context_bytes(self, num_tokens: int) -> int:
        """On this machine's disk."""
        return 4 * num_tokens

    def build_context(
        self,
        folder: Path,
        plan: ContextPlan,
        *,
        others: Sequence[Path] = (),
        on_progress: OnProgress | None = None,
        on_wait: Callable[[], None] | None = None,
        on_unsaved: Callable[[str], None] | None = None,
    ) -> "BuildResult":
        """See `engine.remote.saved.build`. Raises ServerError where tokens are not the server's."""
        from engine.remote.saved import QUESTION, build

        del others, on_unsaved
        self._require_ids(len(plan.token_ids))
        given = (plan, self.fingerprint, self._dialect, self.tokenizer.encode(QUESTION))
        return build(folder, *given, on_progress=on_progress, on_wait=on_wait)

    def open_context(
        self,
        folder: Path,
        *,
        on_progress: OnProgress | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> RemoteContext:
        """See `engine.remote.saved.open_saved`. Raises ServerError as `build_context` does."""
        from engine.remote.saved import open_saved
        from engine.store.manifest import OpenedContext

        self._require_ids(OpenedContext.read(folder).manifest.num_tokens)
        given = (folder, self.fingerprint, self._dialect, self.tokenizer.vocab_size)
        return open_saved(*given, on_progress=on_progress, on_note=on_note)

    def _require_ids(self, num_tokens: int) -> None:
        if not self.info.has_ids:
            raise ServerError(
                f"{self.info.host}: takes text and no tokens (level C), and a saved context is its "
                "tokens; use llama-server, vLLM or SGLang, or name --tokenizer"
            )
        if num_tokens >= self.max_positions:
            raise TooLongError(
                f"{self.info.host}: {num_tokens:,} tokens are more than the server's context of "
                f"{self.max_positions:,}; start it with a longer one"
            )
