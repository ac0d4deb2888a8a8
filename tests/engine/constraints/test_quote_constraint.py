"""What can be written inside quotation marks."""

from functools import cache

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.constraints.quote_constraint import QuoteConstraint, QuoteTokens
from engine.constraints.quote_scanner import CLOSED_BY, closed_by, quotations
from engine.constraints.suffix_array import SuffixArray
from engine.constraints.word_boundaries import word_boundaries
from engine.engine import Engine

BYTES = [bytes((byte,)) for byte in range(256)]
MIXED = [
    " the", "the", " not", "not", " 4", '."', '".', ' "', '",', '","', '"the', ".”", "”.", " ”",
    "“", " “", "“the", "«", " »", "» ", ".»", "```", "\n", '"\n', "\n\n", "港", "é", "é”",
]  # fmt: skip
WORDS = [
    b"", *BYTES, *(word.encode() for word in MIXED),
    b"\xe2\x80", b"\x80\x9d", b"\x9d and", b'\x9d "x', b"\x9cthe",
]  # fmt: skip
END, WEIGHTY = 0, range(1 + len(BYTES), len(WORDS))

pieces = st.sampled_from(
    ["the ", "the cat ", "was not ", "can't ", "48.2 ", "“no” ", '"so" ', "«oui» ", "x", "-", "é",
     "港", ". ", "– ", "’", "” "]
)  # fmt: skip
texts = st.lists(st.lists(pieces, max_size=8).map(lambda p: "".join(p).strip()), max_size=4)


@cache
def tokens() -> QuoteTokens:
    return QuoteTokens(WORDS)


def write(verbatim: QuoteConstraint, draw: np.random.Generator, most: int) -> str:
    """Writes tokens at random while a quotation is open, and returns the text."""
    written = b""
    for _ in range(most):
        allowed = verbatim.allowed()
        if allowed is None or allowed[END]:  # outside of it
            break
        ids = np.flatnonzero(allowed.numpy())
        assert len(ids), "nothing may be written"
        # Bytes are many: tokens of more are preferred half of the time.
        weighty = ids[ids >= WEIGHTY.start]
        chosen = weighty if len(weighty) and draw.random() < 0.5 else ids
        token_id = int(draw.choice(chosen))
        verbatim.push(token_id)
        written += WORDS[token_id]
    return written.decode(errors="replace")


def opened(texts: list[str], mark: str) -> QuoteConstraint:
    suffixes = SuffixArray.build(texts)
    verbatim = QuoteConstraint(tokens(), lambda: suffixes)
    for byte in f"It says {mark}".encode():
        verbatim.push(1 + byte)
    return verbatim


def may_be_quoted(quote: str, texts: list[str]) -> bool:
    for text in texts:
        begins, ends = word_boundaries(text)
        at = text.find(quote)
        while at >= 0:
            if begins[at] and ends[at + len(quote)]:
                return True
            at = text.find(quote, at + 1)
    return False


@settings(max_examples=150, deadline=None)
@given(texts, st.sampled_from(list(CLOSED_BY)), st.integers(0, 2**32 - 1))
def test_every_quotation_stands_in_the_corpus_without_a_word_cut(texts, mark: str, seed: int):
    """Red: the answer quotes what nobody wrote, or “able” from “unable”."""
    verbatim = opened(texts, mark)
    text = write(verbatim, np.random.default_rng(seed), 80)
    if verbatim.quotations:
        for quote in verbatim.quotations:  # a token such as "," opens another one
            assert may_be_quoted(quote, texts)
        assert text.removeprefix(" ").startswith(verbatim.quotations[0])
        assert quotations(f"It says {mark}{text}") == verbatim.quotations
    else:
        # It is still open, or there is nothing to quote.
        assert CLOSED_BY[mark] not in text
        assert not any(texts) or any(text.strip() in each for each in texts)


def expected(content: bytes, pending: bytes, close: str, suffixes: SuffixArray) -> set[int]:
    """The tokens that may follow `content` in an open quotation, by trying each one."""
    text, mark = suffixes.text, close.encode()
    begins = np.flatnonzero(suffixes.begins).tolist()
    whole = content.removesuffix(pending) if pending else content

    def may_end(written: bytes) -> bool:
        inner = written.removesuffix(b" ")
        at = [b for b in begins if text.startswith(written, b)]
        if inner != written and not all(text.startswith(written + mark, b) for b in at):
            return False
        return bool(inner) and any(suffixes.ends[b + len(inner)] for b in at)

    def free(rest: bytes) -> bool:
        before = close
        shown = rest.decode(errors="replace")
        for at, character in enumerate(shown):
            if closed_by(character, before) and at + 1 < len(shown):
                return False
            before = character
        return True

    found = set()
    for token_id, word in enumerate(WORDS):
        if not word:
            continue
        goes_on = b"\n" not in word and any(
            text.startswith(content + word, b) and not text.startswith(whole + mark, b)
            for b in begins
        )
        if goes_on and mark not in word:
            found.add(token_id)
        inner, closed, rest = (pending + word).partition(mark)
        if closed and (not pending or not inner) and free(rest) and may_end(whole + inner):
            found.add(token_id)
        if mark.startswith(pending + word) and may_end(whole):
            found.add(token_id)
    return found


@settings(max_examples=100, deadline=None)
@given(texts, st.sampled_from(['"', "“"]), st.integers(0, 2**32 - 1))
def test_the_mask_is_what_trying_every_token_gives(texts, mark: str, seed: int):
    """Red: the model is kept from a true quotation, or led into a false one."""
    suffixes = SuffixArray.build(texts)
    draw, verbatim, content = np.random.default_rng(seed), opened(texts, mark), b""
    for _ in range(12):
        allowed = verbatim.allowed()
        if allowed is None or allowed[END] or verbatim.quotations:
            break
        pending = content[len(content.decode(errors="ignore").encode()) :]
        ids = set(np.flatnonzero(allowed.numpy()).tolist())
        assert ids == expected(content, pending, CLOSED_BY[mark], suffixes)
        token_id = int(draw.choice(sorted(ids)))
        verbatim.push(token_id)
        content += WORDS[token_id]


def test_an_open_quotation_cannot_be_left_by_ending_the_answer():
    """Red: half a quotation stands at the end."""
    verbatim = opened(["the cat sat"], "“")
    assert not verbatim.allowed()[END]
    write(verbatim, np.random.default_rng(0), 100)
    assert verbatim.quotations and verbatim.allowed()[END]


def ids_of(*words: str | bytes) -> list[int]:
    return [WORDS.index(word.encode() if isinstance(word, str) else word) for word in words]


def test_a_quotation_that_is_open_already_goes_on_under_the_mask():
    """Red: what opens in the token that ends the thinking is quoted freely."""
    suffixes = SuffixArray.build(["the cat"])
    begun = QuoteConstraint(tokens(), lambda: suffixes, '\n"the')
    written = QuoteConstraint(tokens(), lambda: suffixes)
    for byte in b'\n"the':
        written.push(1 + byte)
    assert begun.is_open and written.is_open
    assert begun.allowed().equal(written.allowed()) and not begun.allowed().all()


def test_tokens_that_open_a_quotation_end_there():
    """Red: a token of a mark and a word writes a quotation past the mask."""
    verbatim = QuoteConstraint(tokens(), lambda: SuffixArray.build(["the cat"]))
    allowed = verbatim.allowed()
    assert not allowed[ids_of('"the', "“the", '","', '".')].any()
    assert allowed[ids_of("“", " “", ' "', " the", '."', "\n", b"\xe2\x80")].all()
    for token_id in ids_of(b"\xe2", b"\x80"):
        verbatim.push(token_id)
    allowed = verbatim.allowed()
    assert allowed[ids_of(b"\x9c")].all() and not allowed[ids_of(b"\x9cthe")].any()


@pytest.mark.parametrize("before", ['A 5"', "```\nx = ", "call `f(", "It is John's ", "the dogs’ "])
def test_lengths_apostrophes_and_code_open_nothing(before: str):
    """Red: after 5" or in a program only the corpus can be written."""
    verbatim = QuoteConstraint(tokens(), lambda: SuffixArray.build(["the cat"]))
    for byte in before.encode():
        verbatim.push(1 + byte)
    if "`" in before:
        verbatim.push(1 + ord('"'))
    allowed = verbatim.allowed()
    assert allowed is None or allowed[[END, 1 + ord("z")]].all()


def test_the_corpus_own_mark_closes_the_quotation():
    """Red: a quotation goes on behind the mark that its reader takes for its end."""
    verbatim = opened(["the “no” of it"], "“")
    verbatim.push(ids_of("the")[0])
    for byte in " “no".encode():
        assert verbatim.allowed()[1 + byte]
        verbatim.push(1 + byte)
    allowed = verbatim.allowed()
    assert set(np.flatnonzero(allowed.numpy()).tolist()) == {
        *ids_of(b"\xe2", b"\xe2\x80", "”."), *(i for i, w in enumerate(WORDS) if w == "”".encode())
    }  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Engine:
    config = tiny.llama_config(max_position_embeddings=4096)
    directory = tiny.write_checkpoint(tmp_path_factory.mktemp("llama"), config)
    return Engine(directory, chunk_tokens=64, threads=1)


CORPUS = [
    "the cat sat on the mat and the hat, where the rat ate that",
    "1234567 words: “not” the cat",
]


class Opening:
    """Implements `Constraint`: a `QuoteConstraint` that opens a quotation at every third token.

    It writes no code, where quotation marks are free.
    """

    def __init__(self, verbatim: QuoteConstraint, mark_id: int, tick_id: int) -> None:
        self.verbatim, self._outside = verbatim, 0
        self._mark_id, self._tick_id = mark_id, tick_id

    def allowed(self):
        allowed = self.verbatim.allowed()
        if not self.verbatim.is_open:
            self._outside += 1
            allowed = allowed.clone()
            allowed[self._tick_id] = False
            if self._outside % 3 == 0:
                allowed[:] = False
                allowed[self._mark_id] = True
        return allowed

    def push(self, token_id: int) -> None:
        self.verbatim.push(token_id)


@pytest.mark.parametrize("seed", range(6))
def test_a_random_model_at_temperature_2_quotes_only_the_corpus(engine: Engine, seed: int):
    """Red: sampling gets round the mask, or the text streamed is not the text that was masked."""
    suffixes = SuffixArray.build(CORPUS)
    verbatim = engine.verbatim(lambda: suffixes)
    (mark_id,), (tick_id,) = engine.tokenizer.encode_batch(['"', "`"])
    context = engine.new_context()
    context.extend(engine.tokenizer.encode("the cat "))
    decoding = engine.decode(
        context,
        max_tokens=250,
        temperature=2.0,
        seed=seed,
        constraint=Opening(verbatim, mark_id, tick_id),
    )
    text = "".join(decoding)
    decoded = engine.tokenizer.decode(decoding.token_ids)
    assert text == decoded.rstrip("\ufffd")[: len(text)] or text == decoded
    assert len(verbatim.quotations) > 3 or decoding.stop_reason == "end"
    for quote in verbatim.quotations:
        assert may_be_quoted(quote, CORPUS)
    closed = [quote for quote in quotations(text) if quote]
    assert set(verbatim.quotations) >= set(closed)
