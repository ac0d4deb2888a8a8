"""The bytes that tokens write."""

import json

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models

from engine.constraints.vocabulary import Vocabulary, token_bytes
from engine.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@given(st.text())
def test_the_tokens_of_a_text_write_the_text(directory, text: str):
    """Red: the mask thinks that other text is written than the user sees."""
    words = Tokenizer(directory).token_bytes(tiny.VOCAB_SIZE)
    ids = Tokenizer(directory).encode(text)
    assert b"".join(words[i] for i in ids).decode() == text


def test_control_tokens_and_ids_beyond_the_tokenizer_write_nothing(directory):
    """Red: the end of the answer is taken for text that may stand in a quotation."""
    words = Tokenizer(directory).token_bytes(tiny.VOCAB_SIZE)
    assert len(words) == tiny.VOCAB_SIZE
    assert not any(words[: len(tiny.CONTROL)]) and words[-1] == b""


def test_sentencepiece_spaces_and_byte_tokens():
    """Red: quotations cannot be masked for Llama's own tokenizer, or miss their spaces."""
    vocabulary = {"<unk>": 0, "<0xE2>": 1, "▁the": 2, "cat": 3, "▁": 4}
    library = Library(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    assert token_bytes(library, 6) == [
        b"<unk>",
        b"\xe2",
        b" the",
        b"cat",
        b" ",
        b"",
    ]


def test_a_decoder_that_is_not_known_gives_no_mask():
    """Red: bytes are guessed, and quotations come out wrong."""
    raw = tiny.tokenizer_json() | {
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}
    }
    assert token_bytes(Library.from_str(json.dumps(raw)), 300) is None


@given(st.lists(st.binary(max_size=5), max_size=40), st.sets(st.integers(0, 39), max_size=5))
def test_the_trie_has_each_word_once_and_nothing_else(words: list[bytes], never: set[int]):
    """Red: tokens are lost from the mask, or stand for others."""
    vocabulary = Vocabulary.build(words, never)
    usable = [word for i, word in enumerate(words) if word and i not in never]
    for word in usable:
        node = vocabulary.find(word)
        found = int(vocabulary.token_at[node])
        assert words[found] == word and found not in never
    assert int((vocabulary.token_at >= 0).sum()) == len(set(usable))
    assert vocabulary.find(b"longer than any") is None
    assert (vocabulary.edges[1:] > vocabulary.edges[:-1]).all()
