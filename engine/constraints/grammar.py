"""JSON that follows a schema, whatever the model would rather write, and always to its end.

llguidance says which tokens keep to the schema. Beside it, a constraint holds at every moment a
way to the end: tokens that complete the JSON and fit what is left of `max_tokens`. A token is
taken only if there is such a way behind it too, so no answer is ever cut short. Most tokens leave
the way as it was, which one call confirms; a new one is sought only where the structure changes.
"""

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.constraints.vocabulary import is_space_entry
from engine.errors import GrammarError, RoomError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions
    from torch import Tensor

Mask = np.ndarray[Any, np.dtype[np.bool_]]  # [vocab]

MAX_SCHEMA_CHARS = 256 * 1024
MAX_SCHEMA_DEPTH = 64
MAX_SHORTEST_CHARS = 20_000  # of the shortest JSON that follows a schema
_SEARCH_S = 5.0
_MOST_REFUSALS = 8  # at one place; then the way to the end is taken
_LARGEST_INTEGER = 2**53 - 1  # that every JSON reader keeps exact
_LARGEST_NUMBER = 10**15  # beyond, digits are no longer worth their tokens

# One way to write each JSON: without free white space, which a model can fill an answer with, and
# without \u escapes, half of which can be characters that do not exist.
_STYLE: "JsonCompileOptions" = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": 'nrtbf\\"',
}
# Which character to go on with on the way to the end: first what closes.
_CLOSING = '}]",:0123456789-'
_NEVER = np.iinfo(np.int64).max
_WORDS = frozenset({"allOf", "oneOf", "not", "if", "dependentSchemas", "unevaluatedProperties"})


def check(schema: Mapping[str, Any]) -> None:
    """Raises GrammarError, in bounded time and memory, for a schema that cannot be followed.

    Needs no model: it is what tells a user before anything is read.
    """
    grammar = Grammar(schema, TokenBytes.of_bytes())
    if grammar.shortest(MAX_SHORTEST_CHARS) is None:
        raise GrammarError(
            f"no JSON of at most {MAX_SHORTEST_CHARS:,} characters was found that follows it"
        )


class TokenBytes:
    """What the tokens of a model spell, as llguidance sees it."""

    def __init__(
        self, tokenizer: "LLTokenizer", stop_ids: frozenset[int], letters: Mapping[bytes, int]
    ) -> None:
        """`letters` are the tokens that write one byte."""
        self.tokenizer, self.stop_ids, self._letters = tokenizer, stop_ids, letters

    @classmethod
    def of(
        cls, raw: Mapping[str, Any], words: Sequence[bytes], stop_ids: frozenset[int]
    ) -> "TokenBytes":
        """`raw` is a tokenizer.json, whose control tokens can then be ends, but never text; `words`
        are what each id of the model writes."""
        from llguidance import LLTokenizer

        if not stop_ids:
            raise GrammarError("the model has no token that ends an answer")
        # llguidance finds ids by name. Nobody can guess these names, so no text spells them.
        mark = secrets.token_hex(8)
        added = [token for token in raw.get("added_tokens") or [] if not is_space_entry(token)]
        control = {int(token["id"]) for token in added} | stop_ids
        names = {token["content"] for token in added}
        vocab = {word: i for word, i in raw["model"]["vocab"].items() if i not in control}
        names_of_flags = ("single_word", "lstrip", "rstrip", "normalized")
        flags: dict[str, Any] = dict.fromkeys(names_of_flags, False) | {"special": True}
        hidden = [flags | {"id": i, "content": f"{mark}-{i}"} for i in sorted(control)]
        # As words of the vocabulary, too: else they are given ids that others have.
        vocab |= {token["content"]: token["id"] for token in hidden}
        model: dict[str, Any] = {**raw["model"], "vocab": vocab}
        if model.get("unk_token") in names:
            model["unk_token"] = None
        text = json.dumps({**raw, "added_tokens": hidden, "model": model, "post_processor": None})
        try:
            tokenizer = LLTokenizer(text, eos_token=sorted(stop_ids), n_vocab=len(words), slices=[])
        except Exception as error:  # the library raises what it likes
            raise GrammarError(f"the tokenizer does not serve --schema ({error})") from None
        # Of a piece and the token of its byte the piece, which stands behind, is the usual one.
        letters = {word: i for i, word in enumerate(words) if len(word) == 1}
        return cls(tokenizer, stop_ids, letters)

    @classmethod
    def of_bytes(cls) -> "TokenBytes":
        """One token for each byte, and an end."""
        from llguidance import LLTokenizer, TokenizerWrapper

        wrapper = TokenizerWrapper(_Bytes())
        letters = {bytes([i]): i for i in range(256)}
        return cls(LLTokenizer(wrapper, slices=[]), frozenset({_Bytes.eos_token_id}), letters)

    def spell(self, token_ids: Sequence[int]) -> bytes:
        return self.tokenizer.decode_bytes(list(token_ids))

    @cached_property
    def ranks(self) -> "np.ndarray[Any, Any]":
        """[vocab] int64: the order in which tokens of one character are tried, lowest first."""
        ranks = np.full(self.tokenizer.vocab_size, _NEVER)
        order = dict.fromkeys(_CLOSING + "".join(map(chr, range(32, 127))))
        for rank, character in enumerate(order):
            token_id = self._letters.get(character.encode())
            if token_id is not None and token_id not in self.stop_ids:
                ranks[token_id] = rank
        return ranks


@dataclass(frozen=True, slots=True)
class ParserState:
    """Whether JSON so far ends within a text, where brackets close nothing."""

    in_text: bool = False
    is_escaped: bool = False

    def after(self, written: bytes) -> "ParserState":
        in_text, is_escaped = self.in_text, self.is_escaped
        for byte in written:
            if is_escaped:
                is_escaped = False
            elif byte == ord('"'):
                in_text = not in_text
            else:
                is_escaped = in_text and byte == ord("\\")
        return ParserState(in_text, is_escaped)


class _Bytes:
    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([i]) for i in range(256)), b"")
    special_token_ids = (256,)

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


class Grammar:
    """A schema made ready for one model. Raises GrammarError if it cannot be followed."""

    def __init__(self, schema: Mapping[str, Any], spelling: TokenBytes) -> None:
        _bounded(schema)
        self.spelling = spelling
        try:
            self._matcher = _compile(bounded_schema(schema), spelling)
        except GrammarError:
            self._matcher = _compile(schema, spelling)

    def check_room(self, max_tokens: int) -> None:
        """Raises RoomError if no whole answer is known to be that short."""
        self.way_within(max_tokens)

    def way_within(self, max_tokens: int) -> tuple[int, ...]:
        """A whole answer of at most `max_tokens`. Raises RoomError."""
        way = self.shortest(max_tokens)
        if way is None or len(way) > max_tokens:
            raise RoomError(
                f"{max_tokens:,} tokens are too few for any answer that follows the schema; "
                "raise --max-tokens"
            )
        return way

    def matcher(self) -> "LLMatcher":
        return self._matcher.deep_copy()

    def mask(self, matcher: "LLMatcher") -> Mask:
        """[vocab] bool: the ids that may come next."""
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        size = self.spelling.tokenizer.vocab_size
        return np.unpackbits(bits, bitorder="little", count=size).astype(bool)

    def shortest(
        self,
        max_tokens: int,
        matcher: "LLMatcher | None" = None,
        place: ParserState = ParserState(),
    ) -> tuple[int, ...] | None:
        """A short way to the end from where `matcher` stands; None if none of at most
        `max_tokens` was found. Not always the shortest one: the search never goes back."""
        matcher = self.matcher() if matcher is None else matcher.deep_copy()
        way: list[int] = []
        before: Mask | None = None
        deadline = time.monotonic() + _SEARCH_S
        while len(way) <= max_tokens and time.monotonic() < deadline:
            if matcher.is_error():
                return None
            if matcher.is_accepting():
                return tuple(way)
            forced = matcher.compute_ff_tokens()
            if not forced:
                mask = self.mask(matcher)
                mask[list(self.spelling.stop_ids)] = False
                forced, before = [self._next(mask, before, place)], mask
            if not matcher.consume_tokens(forced):
                return None
            way += forced
            place = place.after(self.spelling.spell(forced))
        return None

    def _next(self, mask: Mask, before: Mask | None, place: ParserState) -> int:
        """The token to go on with: what closes; else what was not possible one step earlier, which
        is progress (behind enough letters, the @ of an address); else any."""
        ranks = self.spelling.ranks
        candidates = mask & (ranks != _NEVER)
        if not candidates.any():
            return int(mask.argmax())
        closing = ranks == _CLOSING.index('"') if place.in_text else ranks < _CLOSING.index("0")
        if (candidates & closing).any():
            candidates &= closing
        elif before is not None and (candidates & ~before).any():
            candidates &= ~before
        return int(np.where(candidates, ranks, _NEVER).argmin())


def _compile(schema: Mapping[str, Any], spelling: TokenBytes) -> "LLMatcher":
    from llguidance import LLMatcher, LLParserLimits

    try:
        source = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_STYLE)
    except ValueError as error:
        raise GrammarError(_first_line(error)) from None
    limits = LLParserLimits(max_lexer_states=50_000, verbose_errors=False)
    matcher = LLMatcher(spelling.tokenizer, source, log_level=0, limits=limits)
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        raise GrammarError(_first_line(matcher.get_error()))
    return matcher


class JsonConstraint:
    """Implements `CompletableConstraint` (constraint.py) for one answer. `usable` [vocab] bool
    masks ids that are never drawn."""

    def __init__(self, grammar: Grammar, usable: "Tensor") -> None:
        self._grammar = grammar
        self._usable: Mask = usable.cpu().numpy()
        self._matcher = grammar.matcher()
        self._way: tuple[int, ...] = ()
        self._place = ParserState()
        self._next_way: dict[int, tuple[int, ...]] = {}
        self._left = 0
        self._refused: set[int] = set()
        self._is_closing = self._has_ended = self.is_cut = False

    def begin(self, max_tokens: int) -> None:
        self._way, self._left = self._grammar.way_within(max_tokens), max_tokens

    @property
    def is_complete(self) -> bool:
        if self._has_ended or self._matcher.is_stopped():
            return True
        if self._way:
            return False
        return self._must_follow or self._left == 0 or not self._free().any()

    @property
    def _must_follow(self) -> bool:
        return self._is_closing or len(self._refused) >= _MOST_REFUSALS

    def _free(self) -> Mask:
        """The ids that go on, as far as is known."""
        mask: Mask = self._grammar.mask(self._matcher) & self._usable
        mask[list(self._refused | self._grammar.spelling.stop_ids)] = False
        return mask

    def allowed(self) -> "Tensor":
        import torch

        mask = self._free()
        if self._must_follow or not mask.any():
            mask = np.zeros_like(self._usable)
        if not mask.any() and self._way:
            mask[self._way[0]] = True
        if not self._way:
            mask[list(self._grammar.spelling.stop_ids)] = True
        return torch.from_numpy(mask)

    def rejects(self, token_id: int) -> bool:
        if self._after(token_id) is not None:
            return False
        self._refused.add(token_id)
        self.is_cut = True
        return True

    def push(self, token_id: int) -> None:
        way = self._after(token_id)
        assert way is not None, "a token that was refused"
        self._next_way.clear()
        self._refused.clear()
        self._left -= 1
        if token_id in self._grammar.spelling.stop_ids:
            self._has_ended = True
            return
        self._way = way
        self._place = self._place.after(self._grammar.spelling.spell([token_id]))
        taken = self._matcher.consume_token(token_id)
        assert taken, "a token that was not allowed"

    def force_completion(self) -> None:
        self._is_closing = True

    def _after(self, token_id: int) -> tuple[int, ...] | None:
        """The way to the end behind `token_id`, if one fits what is left."""
        if token_id not in self._next_way:
            way = self._find(token_id)
            if way is None or len(way) > self._left - 1:
                return None
            self._next_way[token_id] = way
        return self._next_way[token_id]

    def _find(self, token_id: int) -> tuple[int, ...] | None:
        stop_ids = self._grammar.spelling.stop_ids
        if token_id in stop_ids:
            return ()
        if self._way and token_id == self._way[0]:
            return self._way[1:]
        # The old way, if it is still one: within a text or a number nothing has changed.
        whole = [token_id, *self._way, min(stop_ids)]
        if self._matcher.validate_tokens(whole) == len(whole):
            return self._way
        trial = self._matcher.deep_copy()
        if not trial.consume_token(token_id):
            return None
        place = self._place.after(self._grammar.spelling.spell([token_id]))
        return self._grammar.shortest(self._left - 1, trial, place)


def bounded_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema that allows less, so that what follows it follows `schema`, too.

    Objects have the properties they name and no others, numbers a size that JSON readers keep,
    unless the schema says otherwise or has words that turn "less" into "more".
    """
    copy: dict[str, Any] = json.loads(json.dumps(schema))
    if not _keys(copy) & _WORDS:
        _narrow(copy)
    return copy


def _keys(value: object) -> set[str]:
    if isinstance(value, Mapping):
        return set(value).union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()


def _narrow(schema: object) -> None:
    if isinstance(schema, list):
        for item in schema:
            _narrow(item)
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    open_words = {"additionalProperties", "patternProperties", "$ref", "anyOf"}
    if isinstance(properties, dict) and properties and not open_words & set(schema):
        required = schema.get("required")
        if not isinstance(required, list) or {*map(str, required)} <= set(properties):
            schema["additionalProperties"] = False
    kinds = schema.get("type")
    kinds = {kinds} if isinstance(kinds, str) else set(kinds if isinstance(kinds, list) else ())
    if not {"enum", "const", "$ref"} & set(schema) and kinds & {"integer", "number"}:
        limit = _LARGEST_NUMBER if "number" in kinds else _LARGEST_INTEGER
        if not {"minimum", "exclusiveMinimum"} & set(schema) and _top(schema, "max") >= -limit:
            schema["minimum"] = -limit
        if not {"maximum", "exclusiveMaximum"} & set(schema) and _top(schema, "min") <= limit:
            schema["maximum"] = limit
    for word, value in schema.items():
        if word in ("properties", "patternProperties", "$defs", "definitions"):
            for one in value.values() if isinstance(value, dict) else ():
                _narrow(one)
        elif word in ("items", "prefixItems", "anyOf", "additionalProperties"):
            _narrow(value)


def _top(schema: Mapping[str, Any], side: str) -> float:
    """The schema's own bound on one side, 0 without one."""
    names = (f"{side}imum", f"exclusive{side.title()}imum")
    found = [schema[name] for name in names if isinstance(schema.get(name), int | float)]
    return float(found[0]) if found else 0.0


def _bounded(schema: object) -> None:
    level: Sequence[object] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            break
    else:
        raise GrammarError(f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels")
    if len(json.dumps(schema)) > MAX_SCHEMA_CHARS:
        raise GrammarError(f"it is longer than {MAX_SCHEMA_CHARS:,} characters")
    # Properties that nobody names can come twice, and then count once.
    if {"minProperties", "maxProperties"} & _keys(schema):
        raise GrammarError(
            "minProperties and maxProperties cannot be followed; name the properties"
        )


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    said = next((line for line in reversed(lines) if line.startswith("error:")), "")
    text = said.removeprefix("error:").strip() or (lines[0] if lines else "")
    is_a_code = text.isalpha()  # NoExtensionBias: the parser's word for a dead end
    return "no JSON follows it" if is_a_code or not text else text[:200]
