"""An answer for which the model may call tools: generate, call, read the result, go on.

Where a call begins, the grammar holds it to the schemas of the allowed tools. What came of it
stands in a turn of its own, as text that can be no order, and the model goes on from there. A sum
that the model writes down instead ("84,971 - 84,917 =") is worked out where it stands: small models
seldom call, and compute wrongly.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from engine.api import Context, Engine, GrammarError, RoomError, StopReason, Turn
from mm1cli.answering.generation import Generation, thinking_tokens
from mm1cli.settings import Settings
from mm1cli.tools import calculator
from mm1cli.tools.formats import Call, ToolFormat
from mm1cli.tools.toolbox import CALC, Toolbox, ToolUse

CALL_TOKENS = 256  # of one call
MOST_REFUSED = 2  # calls in turn; then the model is asked no more
_EQUALS = "="


@dataclass(slots=True)
class ToolLoop:
    """`generate` goes on behind a context whose answer has begun with a text, up to one of some
    texts, and may quote what some uses were told; `on_use` is told of each call."""

    engine: Engine
    settings: Settings
    toolbox: Toolbox
    generate: Callable[[Context, str, Sequence[str], Sequence[ToolUse]], Generation]
    on_use: Callable[[ToolUse], None]
    uses: list[ToolUse] = field(default_factory=list)

    @property
    def format(self) -> ToolFormat:
        return ToolFormat.of(self.engine.tokenizer)

    @property
    def told(self) -> list[ToolUse]:
        """The calls that came to something."""
        return [use for use in self.uses if not use.is_error and use.result.strip()]

    def run(self, context: Context) -> Generation:
        """The last reply, which is the answer; calls count among its tokens. Where the model does
        nothing but call, it is what the last call told. `context` itself stays as it is."""
        context = context.fork()
        begins = self.format.begins(self.toolbox.names)
        num_tokens = num_refused = 0
        begun = ""  # of the answer, and read
        while True:
            works_out = CALC in self.toolbox.names and len(begun) < self.settings.max_tokens
            stops = (*begins, _EQUALS) if works_out else begins
            generation = self.generate(context.fork(), begun, stops, self.told)
            num_tokens += generation.num_tokens
            if generation.stop_reason != str(StopReason.STOP_TEXT):
                return self._ended(generation, begun + generation.text, num_tokens)
            if self._stopped_at(generation).startswith(_EQUALS):
                going_on = generation.text + self._worked_out(generation.text)
                context.extend(self.engine.tokenizer.encode(going_on))
                begun += going_on
                continue
            said = self.format.before_call(generation.text)
            call, num_written = (None, 0)
            if num_refused < MOST_REFUSED:
                call, num_written = self._call(context, said)
            num_tokens += num_written
            if call is None:
                told = [use.result for use in self.told] or [""]
                return self._ended(generation, (begun + said).strip() or told[-1], num_tokens)
            use = self._read(context, said, self.toolbox.use(call))
            begun = ""
            num_refused = num_refused + 1 if use.is_error else 0
            self._note(use)

    def _note(self, use: ToolUse) -> None:
        self.uses.append(use)
        self.on_use(use)

    def _ended(self, generation: Generation, text: str, num_tokens: int) -> Generation:
        num_thinking = generation.num_thinking_tokens + num_tokens - generation.num_tokens
        return replace(generation, text=text, num_thinking_tokens=num_thinking)

    def _stopped_at(self, generation: Generation) -> str:
        """The stop text and what the last token has behind it."""
        written = self.engine.tokenizer.decode(generation.token_ids)
        at = written.find(generation.text)
        return written[at + len(generation.text) :] if at >= 0 else ""

    def _worked_out(self, text: str) -> str:
        """What goes on behind a sum that `text` ends with; the mark alone where there is none."""
        expression = calculator.written_at_end(text)
        if not expression:
            return _EQUALS
        call = Call(CALC, {"expression": expression})
        use = next((one for one in self.told if one.call == call), None)
        if use is None:
            use = self.toolbox.use(call)
            self._note(use)
        if use.is_error:
            return _EQUALS
        return use.result.removeprefix(f"{expression} ")

    def _call(self, context: Context, said: str) -> tuple[Call | None, int]:
        """The call that the model has begun behind `said`, and how many tokens it wrote for it;
        None if none comes of it."""
        tokenizer = self.engine.tokenizer
        begun = context.fork()
        begun.extend(
            [*tokenizer.encode(said), *tokenizer.encode_markup(f"{self.format.markers.begin}\n")]
        )
        try:
            decoding = self.engine.decode(
                begun,
                max_tokens=CALL_TOKENS,
                max_positions=self.settings.context_tokens,
                constraint=self.engine.grammar(self.toolbox.schema),
            )
            told = json.loads("".join(decoding))
            return Call(told["name"], told["arguments"]), len(decoding.token_ids)
        except (GrammarError, RoomError, ValueError, KeyError, TypeError):
            return None, 0

    def _read(self, context: Context, said: str, use: ToolUse) -> ToolUse:
        """Reads what was said and called, then as much of the result as there is room for; returns
        the use with just that."""
        tokenizer, settings = self.engine.tokenizer, self.settings
        limit = settings.context_tokens or self.engine.max_tokens
        room = limit - len(context) - settings.max_tokens - thinking_tokens(tokenizer, settings)
        while len(ids := self._turn_ids(said, use)) > room and len(use.result) > 1:
            use = replace(use, result=use.result[: len(use.result) // 2])
        context.extend(ids)
        return use

    def _turn_ids(self, said: str, use: ToolUse) -> list[int]:
        """What was said and called, then the result as the user's turn, up to the next reply."""
        tokenizer, format = self.engine.tokenizer, self.format
        ids = [
            *tokenizer.encode(said),
            *tokenizer.encode_markup(f"{format.markers.begin}\n"),
            *tokenizer.encode(use.call.as_json()),
        ]
        if format.markers.end:
            ids += tokenizer.encode_markup(f"\n{format.markers.end}")
        turns = [
            Turn("user", ("q",)),
            Turn("assistant", ("a",)),
            Turn("user", (format.result(use.result),)),
        ]
        pieces = tokenizer.chat(turns)
        places = [number for number, piece in enumerate(pieces) if not piece.is_markup]
        for piece in pieces[places[-2] + 1 :]:
            ids += tokenizer.encode_piece(piece)
        return ids
