"""Text to token ids and back, so that text can never become a control token.

Two encoders share one vocabulary. The one for text (documents, questions) knows no added token at
all: `<|im_end|>` in a contract is a dozen ordinary pieces. The other is used only for what the
chat template itself writes. Documents never pass through the template: it is rendered with
placeholders, in a sandbox, and cut at them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers.decoders import DecodeStream

from engine.errors import TokenizerError
from engine.files import read_json
from engine.protocols import Piece, Turn


class Tokenizer:
    """Opens `tokenizer.json` and the chat template of a model directory.

    Raises CheckpointError if a file is missing, TokenizerError if one is not usable.
    """

    def __init__(self, directory: Path) -> None:
        raw = read_json(directory / "tokenizer.json")
        settings_path = directory / "tokenizer_config.json"
        self._settings: dict[str, Any] = read_json(settings_path) if settings_path.exists() else {}
        self._template = _chat_template(directory, self._settings)
        self._path = directory / "tokenizer.json"
        self.control_ids = _control_ids(raw, directory)
        try:
            self._vocab_size: int = 1 + max([*raw["model"]["vocab"].values(), *self.control_ids])
            self._markup = tokenizers.Tokenizer.from_str(json.dumps(raw))
            self._text = tokenizers.Tokenizer.from_str(json.dumps(_without_control(raw)))
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"{directory / 'tokenizer.json'}: not usable ({error})") from None

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""
        return self._vocab_size

    @property
    def raw(self) -> dict[str, Any]:
        """The content of tokenizer.json, read again: few need it, and it is large."""
        return read_json(self._path)

    def opens_with(self, tag: str) -> bool:
        """Whether the chat template itself begins the assistant's answer with `tag`."""
        return self.chat([Turn("user", ("x",))])[-1].text.rstrip().endswith(tag)

    def knows(self, tag: str) -> bool:
        """Whether the chat template or a token of its own says that answers use `tag`."""
        return tag in (self._template or "") or self._markup.token_to_id(tag) is not None

    def eos_ids(self) -> tuple[int, ...]:
        """The id of the configured end-of-turn token, if there is one."""
        token_id = self._markup.token_to_id(self._special("eos_token") or "")
        return () if token_id is None else (int(token_id),)

    def encode(self, text: str) -> list[int]:
        """Ids of text as text; never a control id. Raises TokenizerError on lone surrogates."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode`, on all cores."""
        try:
            encodings = self._text.encode_batch_fast(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise TokenizerError(f"text is not valid Unicode ({error})") from None
        ids = [encoding.ids for encoding in encodings]
        for row in ids:
            if not self.control_ids.isdisjoint(row):
                raise TokenizerError("text was encoded to a control token; refusing to go on")
        return ids

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each id of `encode(text)` begins and ends in `text`, in characters.

        Ids that share a character of several bytes all span it.
        """
        encoding = self._text.encode(text, add_special_tokens=False)
        return [(start, end) for start, end in encoding.offsets]

    def encode_markup(self, text: str) -> list[int]:
        """Ids of template text, control tokens included."""
        try:
            return list(self._markup.encode(text, add_special_tokens=False).ids)
        except (UnicodeEncodeError, TypeError) as error:
            raise TokenizerError(f"text is not valid Unicode ({error})") from None

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
        rendered = self._render(turns, marks, reply)
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

    def _render(self, turns: Sequence[Turn], marks: list[list[str]], reply: bool) -> str:
        contents = ["".join(turn_marks) for turn_marks in marks]
        plain = [{"role": t.role, "content": c} for t, c in zip(turns, contents, strict=True)]
        listed = [
            {"role": t.role, "content": [{"type": "text", "text": c}]}
            for t, c in zip(turns, contents, strict=True)
        ]
        failure = "it leaves out the text"
        for messages in (plain, listed):  # templates differ in how they take content
            try:
                text = (
                    _environment()
                    .from_string(self._template or "")
                    .render(
                        messages=messages,
                        add_generation_prompt=reply,
                        bos_token=self._special("bos_token") or "",
                        eos_token=self._special("eos_token") or "",
                    )
                )
            except Exception as error:  # a template is a program: it can raise anything
                failure = str(error)
                continue
            if all(content in text for content in contents):
                return text
        raise TokenizerError(f"the chat template is not usable ({failure})")

    def _special(self, key: str) -> str | None:
        value = self._settings.get(key)
        value = value.get("content") if isinstance(value, dict) else value
        return value if isinstance(value, str) else None


class TextStream:
    """Turns ids into text as they come, holding back bytes until they are whole characters."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token_id: int) -> str:
        return self._stream.step(self._tokenizer, token_id) or ""


def _control_ids(raw: dict[str, Any], directory: Path) -> frozenset[int]:
    model = raw.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        raise TokenizerError(f"{directory / 'tokenizer.json'}: {kind} model; only BPE is supported")
    added = raw.get("added_tokens") or []
    try:
        return frozenset(int(token["id"]) for token in added)
    except (TypeError, KeyError, ValueError):
        raise TokenizerError(f"{directory / 'tokenizer.json'}: malformed added_tokens") from None


def _without_control(raw: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer with no added token, neither as such nor as a word of the vocabulary."""
    model = raw["model"]
    unknown = model.get("unk_token")
    # Merges need their parts and results; no control token is one in a sound file.
    merged = {"".join(m) if isinstance(m, list) else m.replace(" ", "") for m in model["merges"]}
    names = {t["content"] for t in raw.get("added_tokens") or []} - {unknown} - merged
    vocab = {word: i for word, i in model["vocab"].items() if word not in names}
    return raw | {"added_tokens": [], "model": model | {"vocab": vocab}}


def _chat_template(directory: Path, settings: dict[str, Any]) -> str | None:
    path = directory / "chat_template.jinja"
    if path.exists():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise TokenizerError(f"{path}: not readable ({error})") from None
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _plain(turns: Sequence[Turn]) -> list[Piece]:
    pieces: list[Piece] = []
    for turn in turns:
        pieces += [Piece(part, False) for part in turn.parts if part]
        pieces.append(Piece("\n\n", True))
    return pieces


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    return environment
