"""Quotations that cannot be false: inside quotation marks only text of the corpus can be written.

The mask works on the bytes that tokens write, so it does not matter how a tokenizer cuts the text,
or that a token ends a quotation and goes on. A quotation begins and ends where words do, holds no
line break, and ends before its own closing mark where that stands in the corpus. The text outside
of quotations is free, but that a token which opens one must end there.
"""

import codecs
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from engine.constraints.allowed_tokens import allowed_tokens
from engine.constraints.quote_scanner import CLOSED_BY, QuoteScanner, closed_by
from engine.constraints.suffix_array import BORDER, Ints, Range, SuffixArray
from engine.constraints.vocabulary import ROOT, Vocabulary

_SPACE = 0x20
_MARKS = tuple(CLOSED_BY.values())


class QuoteTokens:
    """What can be said of a vocabulary's tokens and quotation marks before any text is written."""

    def __init__(self, words: Sequence[bytes], never: Iterable[int] = ()) -> None:
        """`words` are the bytes of each id; ids in `never` are not drawn."""
        words = list(words)
        for token_id in never:
            words[token_id] = b""
        broken = {token_id for token_id, word in enumerate(words) if BORDER in word}
        self.vocabulary = Vocabulary.build(words, broken)
        self.closing = {close: ClosingTokens(self.vocabulary, close) for close in _MARKS}
        self._outside: dict[tuple[bytes, bool], Tensor] = {}
        self._first: tuple[SuffixArray, dict[tuple[str, bool], Ints]] | None = None

    def first_ids(self, suffixes: SuffixArray) -> dict[tuple[str, bool], Ints]:
        """What quotations of this corpus can begin with, to be filled in: it is always the same."""
        if self._first is None or self._first[0] is not suffixes:
            self._first = (suffixes, {})
        return self._first[1]

    def outside(self, pending: bytes, before: str) -> Tensor:
        """[vocab] bool: all tokens but those that open a quotation and go on in it.

        `pending` are the first bytes of a character of which the rest is to come.
        """
        key = (pending, closed_by('"', before) is None)
        if key not in self._outside:
            allowed = torch.ones(len(self.vocabulary.words), dtype=torch.bool)
            for token_id in self._opening if not pending else self._continuing:
                word = pending + self.vocabulary.words[token_id]
                allowed[token_id] = not _opens_inside(word, before)
            self._outside[key] = allowed
        return self._outside[key]

    @cached_property
    def _opening(self) -> list[int]:
        marks = [mark.encode() for mark in CLOSED_BY]
        words = enumerate(self.vocabulary.words)
        return [i for i, word in words if any(mark in word for mark in marks)]

    @cached_property
    def _continuing(self) -> list[int]:
        words = enumerate(self.vocabulary.words)
        starts = [i for i, word in words if word[:1] and word[0] & 0xC0 == 0x80]
        return sorted({*starts, *self._opening})


class ClosingTokens:
    """The tokens that hold the mark `close`, or a part of it."""

    def __init__(self, vocabulary: Vocabulary, close: str) -> None:
        mark = close.encode()
        words = vocabulary.words
        self.holds = np.array([mark in word for word in words], dtype=np.bool_)
        # By what stands before the mark. What follows it must not begin a quotation and go on.
        by_text: dict[bytes, list[int]] = {}
        for token_id in map(int, np.flatnonzero(self.holds)):
            text, _, rest = words[token_id].partition(mark)
            if not _opens_inside(rest, close):
                by_text.setdefault(text, []).append(token_id)
        at_once = by_text.pop(b"", [])
        self.by_text = {text: np.array(ids) for text, ids in by_text.items() if BORDER not in text}
        found = (vocabulary.find(text) for text in self.by_text)
        self._nodes = np.array([-1 if node is None else node for node in found], dtype=np.int64)
        # When so many bytes of the mark are written already.
        self.completing = [np.array(at_once, dtype=np.int64)]
        for written in range(1, len(mark)):
            rest = mark[written:]
            ids = [
                token_id
                for token_id, word in enumerate(words)
                if word.startswith(rest) and not _opens_inside(word[len(rest) :], close)
            ]
            self.completing.append(np.array(ids, dtype=np.int64))
        for written in range(len(mark)):
            parts = (mark[written:end] for end in range(written + 1, len(mark)))
            whole = [vocabulary.find(part) for part in parts]
            ids = [int(vocabulary.token_at[node]) for node in whole if node is not None]
            known = self.completing[written]
            self.completing[written] = np.array([*known, *(i for i in ids if i >= 0)], np.int64)

    def texts_in(self, nodes: Ints) -> list[bytes]:
        """Of what may stand before the mark in one token, what could be at `nodes` of the trie."""
        is_there = np.isin(self._nodes, nodes, kind="table") | (self._nodes < 0)
        return [text for text, there in zip(self.by_text, is_there, strict=True) if there]


class QuoteConstraint:
    """Implements `Constraint`. `quotations` are those written under the mask, in order.

    `suffixes` is called when the first one is opened. `begun` is what the answer begins with.
    """

    def __init__(
        self, tokens: QuoteTokens, suffixes: Callable[[], SuffixArray], begun: str = ""
    ) -> None:
        self.quotations: list[str] = []
        self._tokens, self._get_suffixes = tokens, suffixes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._prose = QuoteScanner()
        self._open: _Open | None = None
        self._write(begun.encode())

    def allowed(self) -> Tensor | None:
        quotation = self._open
        if quotation is not None and quotation.is_masked:
            ids = quotation.next_ids(self._pending)
            if len(ids):
                allowed = torch.zeros(len(self._tokens.vocabulary.words), dtype=torch.bool)
                allowed[torch.from_numpy(ids)] = True
                return allowed
            quotation.is_masked = False  # no token writes the next byte of the corpus
        if quotation is not None or self._prose.in_code:
            return None
        return self._tokens.outside(self._pending, self._prose.before)

    def push(self, token_id: int) -> None:
        self._write(self._tokens.vocabulary.words[token_id])

    @property
    def is_open(self) -> bool:
        """Whether the text ends inside a quotation."""
        return self._open is not None

    @property
    def _pending(self) -> bytes:
        return self._decoder.getstate()[0]

    def _write(self, text: bytes) -> None:
        for byte in text:
            if self._open is not None:
                self._open.push(byte)
            for character in self._decoder.decode(bytes((byte,))):
                self._follow(character)

    def _follow(self, character: str) -> None:
        quotation = self._open
        if quotation is None:
            close = self._prose.opens(character)
            if close is not None:
                self._open = _Open(self._tokens, self._suffixes, close)
        elif character == quotation.close:
            if quotation.is_masked:
                self.quotations.append(quotation.text)
            self._open = None
        elif character == "\n":  # the mask was given up, and so is the quotation
            self._open = None
        else:
            quotation.settle()
            return  # what is quoted is no prose of the answer: no backtick in it begins code
        self._prose.feed(character)

    @cached_property
    def _suffixes(self) -> SuffixArray:
        return self._get_suffixes()


class _Open:
    """A quotation being written: its bytes so far, and the places of the corpus that have them."""

    def __init__(self, tokens: QuoteTokens, suffixes: SuffixArray, close: str) -> None:
        self.close, self.is_masked = close, True
        self._mark = close.encode()
        self._suffixes, self._tokens, self._vocabulary = suffixes, tokens, tokens.vocabulary
        self._closing = tokens.closing[close]
        self._range = suffixes.everywhere
        self._written, self._has_space = b"", False
        # As of the last whole character: a closing mark may have begun since.
        self._whole, self._text = self._range, b""

    @property
    def text(self) -> str:
        return self._text.decode(errors="replace").strip()

    def push(self, byte: int) -> None:
        if self._may_lead_with_space and byte == _SPACE:
            self._has_space = True
            return
        self._written += bytes((byte,))
        if self._range:
            self._range = self._suffixes.narrow(self._range, self._written[-1:])

    def settle(self) -> None:
        """The bytes pushed are whole characters, none of them the closing mark."""
        self._whole, self._text = self._range, self._written
        self.is_masked &= bool(self._range)

    def next_ids(self, pending: bytes) -> Ints:
        """The tokens that may come next; `pending` of what was pushed is no whole character."""
        if self._written:
            return self._next_ids(pending)
        kept, key = self._tokens.first_ids(self._suffixes), (self.close, self._has_space)
        if key not in kept:
            kept[key] = self._next_ids(pending)
        return kept[key]

    def _next_ids(self, pending: bytes) -> Ints:
        found: list[Ints] = []
        if self._range:
            nodes = self._nodes(ROOT, pending)
            found.append(self._content(nodes))
            if self._may_lead_with_space and (node := self._vocabulary.child(ROOT, _SPACE)):
                found.append(self._content(np.array([node])))
                found.append(self._content(self._nodes(node, pending)))
            if not pending:
                found += [
                    self._closing.by_text[text]
                    for text in self._closing.texts_in(nodes)
                    if self._may_close(self._suffixes.narrow(self._range, text), text)
                ]
        if self._mark.startswith(pending) and self._may_close(self._whole, self._text):
            found.append(self._closing.completing[len(pending)])
        return np.concatenate([np.zeros(0, np.int64), *found])

    def _nodes(self, node: int, pending: bytes) -> Ints:
        """Those of the trie that come next, where it is not the quotation's own closing mark."""
        whole = self._range
        parts = [whole]
        if self._mark.startswith(pending):
            ending = self._suffixes.narrow(whole, self._mark[len(pending) :])
            if ending:
                parts = [whole._replace(last=ending.first), whole._replace(first=ending.last)]
        found = [allowed_tokens(self._suffixes, self._vocabulary, part, node) for part in parts]
        return np.concatenate(found)

    def _content(self, nodes: Ints) -> Ints:
        ids = self._vocabulary.token_at[nodes]
        ids = ids[ids >= 0]
        return ids[~self._closing.holds[ids]]

    def _may_close(self, range: Range, text: bytes) -> bool:
        """Whether a quotation that ends with `text` may end here."""
        if not range or range.depth == 0:
            return False
        if text.endswith(b" "):
            # « so » is written with spaces. Elsewhere nothing else must be left to write.
            if self.close != "»" and self._suffixes.narrow(range, self._mark)[:2] != range[:2]:
                return False
            range = range._replace(depth=range.depth - 1)
        return self._suffixes.end(range) is not None

    @property
    def _may_lead_with_space(self) -> bool:
        return self.close == "»" and not self._written and not self._has_space


def _opens_inside(word: bytes, before: str) -> bool:
    """Whether a quotation is opened in `word` and something follows in it."""
    text = word.decode(errors="replace")
    for at, character in enumerate(text):
        if closed_by(character, before) is not None and at + 1 < len(text):
            return True
        before = character
    return False
