"""An answer for which the model may call tools: generate, call, read the result, go on.

Where a call begins, the grammar holds it to the schemas of the allowed tools. What came of it
stands in a turn of its own, as text that can be no order, and the model goes on from there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.api import Context, Engine, GrammarError, RoomError, StopReason, Turn
from mm1cli.answering.generation import Generation, Generator
from mm1cli.settings import Settings
from mm1cli.tools.formats import Call, ToolFormat
from mm1cli.tools.toolbox import Toolbox, ToolUse

CALL_TOKENS = 256  # of one call


@dataclass(slots=True)
class ToolLoop:
    """`generator_of` makes a generator that stops at a text, or at none; `on_use` is told of each
    call."""

    engine: Engine
    settings: Settings
    toolbox: Toolbox
    generator_of: Callable[[tuple[str, ...]], Generator]
    on_use: Callable[[ToolUse], None]
    uses: list[ToolUse] = field(default_factory=list)

    @property
    def format(self) -> ToolFormat:
        return ToolFormat.of(self.engine.tokenizer)

    def run(self, context: Context) -> Generation:
        """The last reply, which is the answer. `context` itself stays as it is."""
        context = context.fork()
        num_tokens = 0
        while True:
            stops = (self.format.markers.begin,) if self.toolbox.is_open else ()
            generation = self.generator_of(stops).generate(context.fork(), is_silent=True)
            is_call = bool(stops) and generation.stop_reason == str(StopReason.STOP_TEXT)
            call = self._call(context, generation.text) if is_call else None
            if call is None:
                return generation
            num_tokens += generation.num_tokens
            use = self.toolbox.use(call)
            self.uses.append(use)
            self.on_use(use)
            self._read_result(context, generation.text, use)

    def _call(self, context: Context, said: str) -> Call | None:
        """The call that the model has begun behind `said`; None if none comes of it."""
        tokenizer = self.engine.tokenizer
        begun = context.fork()
        begun.extend(
            [*tokenizer.encode(said), *tokenizer.encode_markup(f"{self.format.markers.begin}\n")]
        )
        try:
            grammar = self.engine.grammar(self.toolbox.schema)
            decoding = self.engine.decode(
                begun,
                max_tokens=CALL_TOKENS,
                max_positions=self.settings.context_tokens,
                constraint=grammar,
            )
            told = json.loads("".join(decoding))
            return Call(told["name"], told["arguments"])
        except (GrammarError, RoomError, ValueError, KeyError, TypeError):
            return None

    def _read_result(self, context: Context, said: str, use: ToolUse) -> None:
        """What was said and called, then the result as the user's turn, up to the next reply."""
        tokenizer, format = self.engine.tokenizer, self.format
        if said:
            context.extend(tokenizer.encode(said))
        context.extend(tokenizer.encode_markup(f"{format.markers.begin}\n"))
        context.extend(tokenizer.encode(use.call.as_json()))
        if format.markers.end:
            context.extend(tokenizer.encode_markup(f"\n{format.markers.end}"))
        turns = [
            Turn("user", ("q",)),
            Turn("assistant", ("a",)),
            Turn("user", (format.result(use.result),)),
        ]
        pieces = tokenizer.chat(turns)
        places = [number for number, piece in enumerate(pieces) if not piece.is_markup]
        for piece in pieces[places[-2] + 1 :]:
            context.extend(tokenizer.encode_piece(piece))
