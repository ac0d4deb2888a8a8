"""One reply of a model: its thinking, if it thinks, then its answer; never the one in the other.

A chat template can open `<think>` itself (or what the model has for it: `engine.chat_markers`), the
tag can be a control token, or the model writes it as text, cut anywhere between tokens. The end is
forced where the model does not come to it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engine.api import (
    Constraint,
    Context,
    Decoding,
    Engine,
    Grammar,
    Quotes,
    StopReason,
    SuffixArray,
    Tokenizer,
    thinking_markers,
    thinks,
)
from mm1cli.settings import Settings

_LIKELY = 0.5

OnText = Callable[[str], None]
OnProgress = Callable[[str, int, int, str], None]


@dataclass(slots=True)
class Generation:
    """`token_ids` are those of the answer; `num_thinking_tokens` came before. Of `num_drafted`
    tokens guessed from the context `num_accepted` were accepted."""

    text: str = ""
    thinking: str = ""
    token_ids: list[int] = field(default_factory=list)
    num_thinking_tokens: int = 0
    stop_reason: str = "end"
    num_drafted: int = 0
    num_accepted: int = 0

    @property
    def num_tokens(self) -> int:
        return self.num_thinking_tokens + len(self.token_ids)


def thinking_tokens(tokenizer: Tokenizer, settings: Settings) -> int:
    """What to set aside for thinking: nothing for a model that does not say it thinks."""
    if not thinks(tokenizer):
        return 0
    end = thinking_markers(tokenizer).end
    return settings.max_thinking + len(tokenizer.encode_markup(end))


class Generator:
    """Decodes what follows a context. With `quotable`, quotations can only be text of it."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        on_token: OnText,
        on_thinking: OnText,
        on_progress: OnProgress,
        stop_texts: Sequence[str] = (),
        quotable: Callable[[], SuffixArray] | None = None,
    ) -> None:
        self._engine, self._settings, self._stop_texts = engine, settings, stop_texts
        self._markers = thinking_markers(engine.tokenizer)
        self._quotable = quotable
        self._on_token, self._on_thinking, self._on_progress = on_token, on_thinking, on_progress
        self._generation = Generation()
        self._has_thought = self._is_silent = False
        self._evidence: Sequence[str] = ()
        self._begun = ""  # of the answer, in the context
        self._rest = ""  # of the answer, that came in one piece with the end of the thinking

    def generate(
        self,
        context: Context,
        grammar: Grammar | None = None,
        *,
        is_silent: bool = False,
        evidence: Sequence[str] = (),
        begun: str = "",
    ) -> Generation:
        """With a grammar the answer follows it, from behind the thinking on. Raises RoomError.
        `evidence` is quoted from where an engine cannot hold quotations to all that may be quoted.
        `begun`, if anything, is what the answer begins with in the context, and ends the thinking.

        A silent answer is told to nobody but the caller; the thinking before it is.
        """
        self._generation, self._rest, self._has_thought = Generation(), "", False
        self._is_silent, self._evidence = is_silent, evidence
        self._begun = begun
        if begun:
            self._answer(context, grammar)
            return self._generation
        tokenizer = self._engine.tokenizer
        open_ids = tokenizer.encode_markup(self._markers.begin)
        is_control = not tokenizer.control_ids.isdisjoint(open_ids)
        if tokenizer.opens_with(self._markers.begin):
            self._think(context)
        elif grammar is not None or is_control:
            if self._will_think(context, open_ids):
                context.extend(open_ids)
                self._think(context)
        elif self._detect_thinking(context):
            return self._generation
        if self._settings.think != "only":
            self._answer(context, grammar)
        return self._generation

    def _will_think(self, context: Context, open_ids: list[int]) -> bool:
        if not self._engine.capabilities.has_logprobs:
            return self._engine.tokenizer.knows(self._markers.begin)
        return math.exp(sum(context.score(open_ids).tolist())) > _LIKELY

    def _detect_thinking(self, context: Context) -> bool:
        """Decodes until it is clear whether the model thinks. True if what came was the answer;
        else the context stands behind the thinking."""
        begin = len(context)
        decoding, opening = self._decode(context), self._markers.begin
        pieces, start = iter(decoding), ""
        is_answer = False
        for piece in pieces:
            if is_answer:
                self._emit(piece)
                continue
            start += piece
            head = start.lstrip()
            if head.startswith(opening):
                pieces.close()
                _feed_remaining(context, begin, decoding.token_ids)
                self._think(context, head.removeprefix(opening), len(decoding.token_ids))
                return False
            if not opening.startswith(head):
                is_answer = True
                self._emit(start)
                if self._settings.think == "only":
                    pieces.close()
                    break
        if not is_answer:
            self._emit(start)
        self._end(decoding)
        return True

    def _think(self, context: Context, begun: str = "", num_begun: int = 0) -> None:
        engine, settings, generation = self._engine, self._settings, self._generation
        self._has_thought = True
        closing = self._markers.end
        begun, is_over, self._rest = begun.partition(closing)
        self._emit_thinking(begun)
        if is_over:
            generation.num_thinking_tokens = num_begun
            return
        close_ids = engine.tokenizer.encode_markup(closing)
        limit = settings.context_tokens or engine.max_tokens
        limit -= settings.max_tokens + len(close_ids)
        room = min(settings.max_thinking - num_begun, limit - len(context))
        ids: list[int] = []
        start, reason = len(context), None
        if room > 0:
            decoding = engine.decode(
                context,
                max_tokens=room,
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=settings.seed,
                max_positions=limit,
                stop_texts=(closing,),
                stop_ids=close_ids if len(close_ids) == 1 else (),
            )
            for piece in decoding:
                self._emit_thinking(piece)
                if settings.think == "hide":
                    done = min(len(decoding.token_ids), room)
                    self._on_progress("thinking", done, room, "tokens")
            self._on_progress("thinking", room, room, "tokens")
            ids, reason = decoding.token_ids, decoding.stop_reason
        _feed_remaining(context, start, ids)
        if reason == StopReason.STOP_TEXT:
            self._rest = engine.tokenizer.decode(ids).rpartition(closing)[2]
        else:
            context.extend(close_ids)
        generation.num_thinking_tokens = num_begun + len(ids)

    def _emit_thinking(self, text: str) -> None:
        self._generation.thinking += text
        if self._settings.think != "hide":
            self._on_thinking(text)

    def _answer(self, context: Context, grammar: Grammar | None) -> None:
        decoding = self._decode(context, grammar)
        if grammar is None:
            self._emit(self._rest)
        for piece in decoding:
            self._emit(piece)
        self._end(decoding)

    def _decode(self, context: Context, grammar: Grammar | None = None) -> Decoding:
        engine, settings = self._engine, self._settings
        return engine.decode(
            context,
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=settings.seed,
            max_positions=settings.context_tokens,
            stop_texts=self._stop_texts,
            constraint=self._constraint(grammar),
        )

    def _constraint(self, grammar: Grammar | None) -> Constraint | None:
        if grammar is not None or self._quotable is None:
            return grammar
        return Quotes(self._quotable, self._begun + self._rest, self._evidence)

    def _emit(self, text: str) -> None:
        if self._settings.think == "only":
            return
        if self._has_thought and not self._generation.text:
            text = text.lstrip()  # the lines between the tag and the answer
        if text:
            self._generation.text += text
            if not self._is_silent:
                self._on_token(text)

    def _end(self, decoding: Decoding) -> None:
        self._generation.token_ids = list(decoding.token_ids)
        self._generation.stop_reason = str(decoding.stop_reason or "end")
        self._generation.num_drafted += decoding.num_drafted
        self._generation.num_accepted += decoding.num_accepted


def _feed_remaining(context: Context, start: int, token_ids: list[int]) -> None:
    """Reads what was decoded from `start` on: the last token has often not been read."""
    context.extend(token_ids[len(context) - start :])
