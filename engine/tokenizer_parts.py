"""What a tokenizer is made of, wherever it was read from: a model folder here, a GGUF file in
`engine.gguf.tokenizer`."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tokenizers
from tokenizers import AddedToken

from engine.constraints.vocabulary import SPACES
from engine.errors import TokenizerError
from engine.files import read_json
from engine.tokenizer_bounds import MAX_BYTES, check_components, check_file


@dataclass(frozen=True)
class TokenizerParts:
    """`markup` knows every added token. `raw` gives what a tokenizer.json of it holds; few need
    it, and it is large. `place` is what to call it in errors."""

    markup: tokenizers.Tokenizer
    raw: Callable[[], dict[str, Any]]
    place: str
    chat_template: str | None = None
    named_tokens: Mapping[str, str] = field(default_factory=dict)  # bos_token, eos_token, ...
    end_ids: tuple[int, ...] = ()
    digest: bytes = b""  # the sha256 of tokenizer.json, if that is what it was read from

    @property
    def added(self) -> dict[int, AddedToken]:
        return self.markup.get_added_tokens_decoder()


def text_encoder(parts: TokenizerParts) -> tokenizers.Tokenizer:
    """Shares the vocabulary of `parts.markup` and knows no added token but white space, which
    stands for nothing but itself."""
    markup = parts.markup
    text = tokenizers.Tokenizer(markup.model)
    if markup.normalizer is not None:
        text.normalizer = markup.normalizer
    if markup.pre_tokenizer is not None:
        text.pre_tokenizer = markup.pre_tokenizer
    if spaces := [token for token in parts.added.values() if is_space(token)]:
        text.add_tokens(spaces)
    return text


def strict_text_encoder(parts: TokenizerParts) -> tokenizers.Tokenizer:
    """As `text_encoder`, with a vocabulary that has no added token, not even as a word."""
    raw = parts.raw()
    model = raw["model"]
    unknown = model.get("unk_token")
    # Merges need their parts and results; no control token is one in a sound file.
    merged = {"".join(m) if isinstance(m, list) else m.replace(" ", "") for m in model["merges"]}
    spaces = [token for token in parts.added.values() if is_space(token)]
    kept = {unknown, *merged, *(token.content for token in spaces)}
    names = {token.content for token in parts.added.values()} - kept
    vocab = {word: i for word, i in model["vocab"].items() if word not in names}
    bare = raw | {"added_tokens": [], "model": model | {"vocab": vocab}}
    text = tokenizers.Tokenizer.from_str(json.dumps(bare))
    if spaces:
        text.add_tokens(spaces)
    return text


def is_space(token: AddedToken) -> bool:
    """Whether it is white space that some vocabularies have in runs, matched before merging."""
    return not token.special and not token.content.strip(SPACES)


def read_folder(directory: Path) -> TokenizerParts:
    """From tokenizer.json and what stands beside it. Raises CheckpointError if a file is missing,
    TokenizerError if one is not usable."""
    path = directory / "tokenizer.json"
    markup, digest = _read_library(path)
    settings_path = directory / "tokenizer_config.json"
    settings = read_json(settings_path) if settings_path.exists() else {}
    named = {key: value for key in _NAMED if (value := _content(settings.get(key))) is not None}
    return TokenizerParts(
        markup,
        lambda: read_json(path),
        str(path),
        _chat_template(directory, settings),
        named,
        _end_ids(directory, markup, named.get("eos_token")),
        digest,
    )


_NAMED: Final = ("bos_token", "eos_token", "pad_token", "unk_token")


def _read_library(path: Path) -> tuple[tokenizers.Tokenizer, bytes]:
    """And the file's sha256. Parsed once, by the library; only where that fails is it parsed again,
    to say why."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError:
        read_json(path)  # says why
        raise
    try:
        check_file(data)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None
    try:
        found = tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises bare Exception
        raise _diagnosis(path, error) from None
    if not isinstance(found.model, tokenizers.models.BPE):
        kind = type(found.model).__name__
        raise TokenizerError(f"{path}: {kind} model; only BPE is supported")
    if found.get_vocab_size() == 0:
        raise TokenizerError(f"{path}: not usable (no tokens)")
    try:
        check_components(found)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: not usable ({error})") from None
    return found, hashlib.sha256(data).digest()


def _diagnosis(path: Path, error: Exception) -> TokenizerError:
    raw = read_json(path)
    model = raw.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        return TokenizerError(f"{path}: {kind!s:.80} model; only BPE is supported")
    added = raw.get("added_tokens") or []
    try:
        for token in added:
            int(token["id"])
    except (TypeError, KeyError, ValueError):
        return TokenizerError(f"{path}: malformed added_tokens")
    return TokenizerError(f"{path}: not usable ({error!s:.300})")


def _end_ids(
    directory: Path, markup: tokenizers.Tokenizer, eos_token: str | None
) -> tuple[int, ...]:
    """Of the end of a turn that the settings name, then those that generation_config.json adds."""
    named = None if eos_token is None else markup.token_to_id(eos_token)
    ids = [] if named is None else [int(named)]
    path = directory / "generation_config.json"
    if path.exists():
        told = read_json(path).get("eos_token_id")
        more = told if isinstance(told, list) else [] if told is None else [told]
        if not all(type(each) is int and 0 <= each < 2**31 for each in more):
            raise TokenizerError(f"{path}: eos_token_id is {told!r:.80}, not ids of tokens")
        ids += more
    return tuple(dict.fromkeys(ids))


def _content(value: object) -> str | None:
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _chat_template(directory: Path, settings: Mapping[str, Any]) -> str | None:
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
