"""Text to token ids and back, so that text can never become a control token.

Two encoders share one vocabulary. The one for text (documents, questions) knows no added token at
all: `<|im_end|>` in a contract is a dozen ordinary pieces. The other is used only for what the
chat template itself writes. Documents never pass through the template: it is rendered with
placeholders, in a sandbox, and cut at them.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import tokenizers
from tokenizers.decoders import DecodeStream

from engine.chat_template import ChatTemplate, TemplateRefusalError
from engine.constraints.vocabulary import token_bytes
from engine.errors import TokenizerError
from engine.model_source import ModelSource
from engine.protocols import Piece, Turn
from engine.tokenizer_bounds import encode
from engine.tokenizer_parts import is_space, strict_text_encoder, text_encoder


class Tokenizer:
    """Opens the tokenizer and the chat template of a model: a folder or a GGUF file, any one of
    those of a split model.

    Raises CheckpointError if a file is missing, GgufError or TokenizerError if one is not usable.
    """

    def __init__(self, model: Path | ModelSource) -> None:
        self._parts = ModelSource.of(model).tokenizer_parts
        self._markup, self._text = self._parts.markup, text_encoder(self._parts)
        added = self._parts.added
        self.control_ids = frozenset(i for i, token in added.items() if not is_space(token))
        template = self._parts.chat_template
        self._template = (
            None if template is None else ChatTemplate(template, self._parts.named_tokens)
        )

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        count = self._markup.get_vocab_size()
        if all(self._markup.id_to_token(i) is not None for i in range(count)):
            return count  # as many names as ids, so that there is no other id
        return 1 + max(self._markup.get_vocab().values())

    @property
    def digest(self) -> bytes:
        """The sha256 of tokenizer.json; empty where it was read from something else."""
        return self._parts.digest

    @property
    def raw(self) -> dict[str, Any]:
        """What a tokenizer.json of it holds, made anew: few need it, and it is large."""
        return self._parts.raw()

    def token_bytes(self, size: int) -> list[bytes] | None:
        """See `engine.constraints.vocabulary.token_bytes`."""
        return token_bytes(self._markup, size)

    def opens_with(self, tag: str) -> bool:
        """Whether the chat template itself begins the assistant's answer with `tag`."""
        return self.chat([Turn("user", ("x",))])[-1].text.rstrip().endswith(tag)

    def knows(self, tag: str) -> bool:
        """Whether the chat template or a token of its own says that answers use `tag`."""
        template = self._parts.chat_template or ""
        return tag in template or self._markup.token_to_id(tag) is not None

    def eos_ids(self) -> tuple[int, ...]:
        """The ids that end an answer: of the configured end-of-turn token, if there is one, then of
        others that the model's files name."""
        return self._parts.end_ids

    def encode(self, text: str) -> list[int]:
        """Ids of text as text; never a control id. Raises TokenizerError on lone surrogates."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode`, on all cores."""
        rows = encode(self._text, list(texts))
        return [
            row if self.control_ids.isdisjoint(row) else self._encode_strictly(text)
            for row, text in zip(rows, texts, strict=True)
        ]

    def _encode_strictly(self, text: str) -> list[int]:
        """Where a word of the text is a control token's name and the vocabulary gives words of
        their own precedence over merges."""
        (row,) = encode(self._strict, [text])
        if not self.control_ids.isdisjoint(row):
            raise TokenizerError("text was encoded to a control token; refusing to go on")
        return row

    @cached_property
    def _strict(self) -> tokenizers.Tokenizer:
        return strict_text_encoder(self._parts)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each id of `encode(text)` begins and ends in `text`, in characters.

        Ids that share a character of several bytes all span it.
        """
        encoding = self._text.encode(text, add_special_tokens=False)
        if not self.control_ids.isdisjoint(encoding.ids):
            encoding = self._strict.encode(text, add_special_tokens=False)
        return [(start, end) for start, end in encoding.offsets]

    def encode_markup(self, text: str) -> list[int]:
        """Ids of template text, control tokens included."""
        (row,) = encode(self._markup, [text])
        return row

    def encode_piece(self, piece: Piece) -> list[int]:
        return self.encode_markup(piece.text) if piece.is_markup else self.encode(piece.text)

    def encode_chat(self, turns: Sequence[Turn]) -> list[int]:
        """Ids of a whole chat, up to where the assistant's answer begins."""
        return [i for piece in self.chat(turns) for i in self.encode_piece(piece)]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._markup.decode(list(ids), skip_special_tokens=True))

    def stream(self) -> "TextStream":
        return TextStream(self._markup)

    def chat(self, turns: Sequence[Turn], *, reply: bool = True) -> list[Piece]:
        """The chat as the model's template writes it, cut into markup and the turns' parts.

        Parts come in order, one piece each. With `reply` it ends where the assistant's answer
        begins. Without a template the parts stand in the order given, a blank line between turns.
        """
        if self._template is None:
            return _plain(turns)
        marks = [
            [f"\ue000{t}.{p}\ue001" for p in range(len(turn.parts))] for t, turn in enumerate(turns)
        ]
        rendered = self._render(self._template, turns, marks, reply)
        for turn, turn_marks in zip(turns, marks, strict=True):
            if any(rendered.count(mark) != 1 for mark in turn_marks):
                raise TokenizerError(f"the chat template does not show a {turn.role} turn once")
        pieces: list[Piece] = []
        for turn, turn_marks in zip(turns, marks, strict=True):
            for text, mark in zip(turn.parts, turn_marks, strict=True):
                markup, found, rendered = rendered.partition(mark)
                if not found:
                    raise TokenizerError(f"the chat template shows a {turn.role} turn out of order")
                pieces += [Piece(markup, True), Piece(text, False)]
        return [piece for piece in [*pieces, Piece(rendered, True)] if piece.text]

    def _render(
        self, template: ChatTemplate, turns: Sequence[Turn], marks: list[list[str]], reply: bool
    ) -> str:
        """Templates differ in how they take content, and some take no system turn: that is made
        the beginning of the user's turn behind it then."""
        contents = ["".join(turn_marks) for turn_marks in marks]
        plain = [(turn.role, text) for turn, text in zip(turns, contents, strict=True)]
        ways = [plain]
        if [turn.role for turn in turns[:2]] == ["system", "user"]:
            ways.append([("user", SYSTEM_END.join(contents[:2])), *plain[2:]])
        failure = "it leaves out the text"
        for number, way in enumerate(ways):
            is_refused = False
            for is_listed in (False, True):
                try:
                    rendered = template.render(_messages(way, is_listed), reply=reply)
                except TemplateRefusalError as error:
                    is_refused, failure = True, str(error)
                    continue
                except TokenizerError as error:
                    failure = str(error)
                    continue
                missing = [content not in rendered for content in contents]
                if not any(missing):
                    return rendered
                is_refused |= missing[0] and not any(missing[1:])
            if number == 0 and not is_refused:
                break
        raise TokenizerError(f"the chat template is not usable ({failure})")


SYSTEM_END: Final = "\n\n"  # between a system turn and the user's that it is folded into


def _messages(turns: Sequence[tuple[str, str]], is_listed: bool) -> list[dict[str, Any]]:
    if not is_listed:
        return [{"role": role, "content": text} for role, text in turns]
    return [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]


class TextStream:
    """Turns ids into text as they come, holding back bytes until they are whole characters."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token_id: int) -> str:
        return self._stream.step(self._tokenizer, token_id) or ""


def _plain(turns: Sequence[Turn]) -> list[Piece]:
    pieces: list[Piece] = []
    for turn in turns:
        pieces += [Piece(part, False) for part in turn.parts if part]
        pieces.append(Piece("\n\n", True))
    return pieces
