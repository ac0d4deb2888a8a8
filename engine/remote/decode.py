"""An answer that a server writes: the same stop rules as of those written here."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from engine.errors import ServerError
from engine.protocols import StopReason
from engine.remote.context import RemoteContext
from engine.remote.dialect import Delta, Request
from engine.stopping import StopTexts, in_loop


class TextStream(Protocol):
    def push(self, token_id: int) -> str: ...


class RemoteDecoding:
    """Implements `Decoding`. Closing it closes the socket.

    `stream` makes text of ids; None where the server's text is all there is. `encode` makes ids of
    text that the server told no ids of. `check` is asked about the whole answer at its end.
    """

    num_drafted = num_accepted = 0

    def __init__(
        self,
        context: RemoteContext,
        request: Request,
        *,
        stream: Callable[[], TextStream] | None,
        encode: Callable[[str], list[int]],
        vocab_size: int,
        end_ids: frozenset[int],
        stop_ids: frozenset[int],
        stop_texts: Sequence[str] = (),
        check: Callable[[str, StopReason], None] | None = None,
        is_full: bool = False,
    ) -> None:
        """The server ends by itself at `end_ids`, but not at `stop_ids`. `is_full`: the context has
        less room than tokens were asked for."""
        self._context, self._request, self._is_full = context, request, is_full
        self._new_stream, self._encode, self._vocab_size = stream, encode, vocab_size
        self._end_ids, self._stop_ids = end_ids, stop_ids
        self._stop_texts, self._check = StopTexts(stop_texts), check
        self.token_ids: list[int] = []
        self.stop_reason: StopReason | None = None

    def __iter__(self) -> Generator[str, None, None]:
        if self._request.max_tokens < 1:
            self.stop_reason = StopReason.CONTEXT_FULL if self._is_full else StopReason.MAX_TOKENS
            return
        request = replace(self._request, token_ids=self._context.token_ids)
        deltas = self._context.dialect.generate(request)
        try:
            with closing(deltas):
                yield from self._pieces(deltas)
        finally:
            self._context.append(self.token_ids)

    def _pieces(self, deltas: Iterator[Delta]) -> Iterator[str]:
        pending, whole = "", ""
        reason: StopReason | None = None
        for text, reason in self._texts(deltas):
            pending += text
            whole += text
            if (cut := self._stop_texts.find(pending)) is not None:
                pending, reason = pending[:cut], StopReason.STOP_TEXT
                break
            ready = len(pending) - self._stop_texts.held_back(pending)
            if ready and self._check is None:  # what must be checked is told when it is
                yield pending[:ready]
                pending = pending[ready:]
            if reason is not None:
                break
        if reason is None:
            raise ServerError("the server's answer has no end; run the same command again")
        if self._check is not None:
            self._check(whole, reason)
        if pending:
            yield pending
        self.stop_reason = reason

    def _texts(self, deltas: Iterator[Delta]) -> Iterator[tuple[str, StopReason | None]]:
        """Each with the reason for its being the last."""
        stream = None if self._new_stream is None else self._new_stream()
        is_over = False
        for delta in deltas:
            self._context.note_reused(delta.reused)
            ids, text, stop = delta.token_ids, delta.text, delta.stop
            if any(not 0 <= one < self._vocab_size for one in ids):
                raise ServerError("the server wrote a token that its model does not have")
            if is_over and stop is None and (ids or text):
                stop = StopReason.END  # the server does not end where its model does
            if is_over:
                ids, text = (), ""
            ends = [at for at, one in enumerate(ids) if one in self._end_ids | self._stop_ids]
            if ends:
                # What a server tells of the whole comes behind the model's own end.
                is_over = True
                stop = StopReason.END if ids[ends[0]] in self._stop_ids else stop
                ids, text = ids[: ends[0]], ""
            if stream is not None and ids:
                told = "".join(map(stream.push, ids))
                if self._context.dialect.tells_all_ids:
                    text = told
                elif told != text and not ends:
                    # A character of several tokens comes with the last of them alone.
                    ids, stream = (), None if self._new_stream is None else self._new_stream()
            self.token_ids += ids or (self._encode(text) if text else [])
            if stop is StopReason.MAX_TOKENS and self._is_full:
                stop = StopReason.CONTEXT_FULL
            if stop is None and self._request.temperature == 0 and in_loop(self.token_ids):
                stop = StopReason.LOOP
            yield text, stop
            if stop is not None:
                return
