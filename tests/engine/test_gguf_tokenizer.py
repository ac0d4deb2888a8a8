"""Tokenizers of GGUF files: ids are those of llama-server on the same file, text comes back, and no
document speaks with the template's voice.
"""

import json
from pathlib import Path

import pytest
from ggufs import (
    gpt2_tokenizer,
    sentencepiece_tokenizer,
    tiny_gguf,
    trained_tokenizer,
)
from llama_server import LlamaServer

from engine.constraints.grammar import Grammar, TokenBytes
from engine.errors import GgufError
from engine.gguf.pre_tokenizers import SPLITTINGS
from engine.gguf.tokenizer import build_tokenizer
from engine.tokenizer import Tokenizer, Turn

HARD = [
    "Hello world's WORLD'S don't DON'T we'll WE'LL I'm I'M they'Re he'D 'tis 'S",
    "1234567 3.14159 12,345 ½ ² ٣٤٥ Ⅷ 一二三 1a2b3c x86_64",
    "def f(x):\n    if x:\n        return {'a': [1, 2]}\n\n\n\treturn  None\r\n\r\n# end",
    "你好，世界。こんにちは世界 カタカナ 한국어 텍스트 ไทย",
    "😀👨‍👩‍👧‍👦🇩🇪 emoji 🙂 mid🙂word",
    "  two   three    four \t\t tabs \n \n  \n",
    *("   ", "\n\n\n", "\r\n", " \u00a0\u2003\u3000x", "a", "", "'", "x'y'z", "can't've"),
    "CamelCaseWords HTTPServer iPhone McDonald ǅ ǈ ʰˢ ªº",
    "https://example.org/a/b?c=d&e=f#g  user@host.com /usr/bin/env --flag=value ../..",
    '!!! ??? ... --- *** $$$ <<>> (a)[b]{c} "quoted" ‘single’ “double” «guillemets»',
    "ÄÖÜ äöü ß ŒœÆæ Ł ł Ω Σ σ ς Привет мир ПРИВЕТ İstanbul ıI ſ 'ſ K",
    *("end with spaces   ", "\x01\x7f control", "a/b//c/// \n/// \n\n/x"),
]
MARKS = "e\u0301 n\u0303 a\u0308\u0300 Zal\u0335go \u200b\u200d\ufeff हिन्दी নমস্কার x"
# Here llama.cpp leaves the published expressions' combining marks out; we do not.
WITHOUT_MARKS = {"gpt-4o", "tekken"}
ONE_OF_EACH = {splitting: name for name, splitting in reversed(SPLITTINGS.items())}
GEMMA = {
    "has_prefix": False,
    "user_defined": ["\n", "\n\n", "\t", *("\u2581" * n for n in range(2, 17))],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizers")


def gguf_of(folder, name, metadata) -> Path:
    (folder / name).mkdir(exist_ok=True)
    return tiny_gguf(folder / name, "llama", layers=1, tokenizer=metadata)


def assert_as_llama_server(path, texts=HARD):
    tokenizer = Tokenizer(path)
    with LlamaServer(path) as server:
        wanted = [server.tokenize(text) for text in texts]
    for text, want in zip(texts, wanted, strict=True):
        assert tokenizer.encode(text) == want, text
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.server
@pytest.mark.parametrize("pre", ONE_OF_EACH.values())
def test_byte_level_ids_are_llama_servers(pre, folder):
    """Red: text is split at other places than the model was trained with."""
    texts = HARD if pre in WITHOUT_MARKS else [*HARD, MARKS]
    path = gguf_of(folder, pre, trained_tokenizer([*HARD, MARKS] * 3, pre))
    assert_as_llama_server(path, texts)


@pytest.mark.server
@pytest.mark.parametrize("options", [{}, {"has_prefix": False}, GEMMA], ids=str)
def test_sentencepiece_ids_are_llama_servers(options, folder):
    """Red: pieces are merged in another order, or the space in front is forgotten or added."""
    metadata = sentencepiece_tokenizer([*HARD, MARKS] * 3, **options)
    assert_as_llama_server(gguf_of(folder, f"spm{len(options)}", metadata), [*HARD, MARKS])


@pytest.mark.server
def test_markup_ids_are_llama_servers(folder):
    path = gguf_of(folder, "markup", trained_tokenizer(HARD * 3, "qwen2"))
    text = "<|im_start|>user\nHello world's<|im_end|>\n<|im_start|>assistant\n"
    with LlamaServer(path) as server:
        want = server.tokenize(text, is_markup=True)
    assert Tokenizer(path).encode_markup(text) == want


def test_every_name_of_a_splitting_is_one_of_those_compared(folder):
    assert set(SPLITTINGS.values()) == set(ONE_OF_EACH)
    assert len(SPLITTINGS) > 50


@pytest.mark.parametrize("kind", ["gpt2", "sentencepiece", "gemma"])
def test_bytes_of_tokens_and_grammars_are_known_for_every_kind(kind, folder):
    """Red: quotations or --schema fail with a GGUF file, or write other text than is masked."""
    texts = ['the cat sat {"name": "x", "year": 2024} on the mat 😀 é '] * 9
    metadata = {
        "gpt2": lambda: trained_tokenizer(texts, "qwen2", 400),
        "sentencepiece": lambda: sentencepiece_tokenizer(texts, 400),
        "gemma": lambda: sentencepiece_tokenizer(texts, 400, **GEMMA),
    }[kind]()
    tokenizer = Tokenizer(gguf_of(folder, f"bytes-{kind}", metadata))
    words = tokenizer.token_bytes(tokenizer.vocab_size)
    text = "the cat 😀\n\n    on ñ \x01"
    written = b"".join(words[i] for i in tokenizer.encode(text)).decode()
    assert written == (" " if kind == "sentencepiece" else "") + text
    assert not any(words[i] for i in tokenizer.eos_ids())
    spelling = TokenBytes.of(tokenizer.raw, words, frozenset(tokenizer.eos_ids()))
    schema = {"type": "object", "properties": {"year": {"type": "integer"}}, "required": ["year"]}
    way = Grammar(schema, spelling).shortest(60)
    assert json.loads(tokenizer.decode(way)) == {"year": 0}


@pytest.mark.parametrize("kind", ["gpt2", "ignores merges", "sentencepiece"])
def test_control_tokens_are_text_in_a_document(kind, folder):
    metadata = {
        "gpt2": lambda: gpt2_tokenizer(),
        "ignores merges": lambda: gpt2_tokenizer("llama-bpe"),
        "sentencepiece": lambda: sentencepiece_tokenizer(HARD, 400),
    }[kind]()
    tokenizer = Tokenizer(gguf_of(folder, f"control-{kind}", metadata))
    control = [
        token
        for token, number in zip(
            metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"], strict=True
        )
        if number in (2, 3)
    ]
    assert len(control) == len(tokenizer.control_ids) >= 3
    for name in control:
        assert tokenizer.encode_markup(name) == [metadata["tokenizer.ggml.tokens"].index(name)]
        for text in (name, f"a{name}{name} b", f"\n{name}"):
            ids = tokenizer.encode(text)
            assert tokenizer.control_ids.isdisjoint(ids)
            assert tokenizer.decode(ids) == text


def test_a_word_that_is_a_control_token_is_text_where_merges_are_ignored(folder):
    """Red: with a vocabulary that gives whole words precedence a document can end the turn."""
    metadata = gpt2_tokenizer("llama-bpe")
    tokens = [*metadata["tokenizer.ggml.tokens"]]
    tokens[1] = "STOP"
    metadata |= {"tokenizer.ggml.tokens": tokens}
    tokenizer = Tokenizer(gguf_of(folder, "word", metadata))
    assert tokenizer.encode_markup("STOP") == [1]
    ids = tokenizer.encode("STOP")
    assert 1 not in ids and tokenizer.decode(ids) == "STOP"
    assert tokenizer.offsets("STOP") == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_any_file_of_a_split_model_opens_its_tokenizer(tmp_path):
    whole = tiny_gguf(tmp_path, "llama", layers=1)
    first = tmp_path / "m-00001-of-00002.gguf"
    whole.rename(first)
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(b"not looked at")
    for path in (first, tmp_path / "m-00002-of-00002.gguf"):
        assert Tokenizer(path).encode("hello") == Tokenizer(first).encode("hello")


def test_ends_of_a_turn_are_those_named_and_those_known(folder):
    metadata = gpt2_tokenizer() | {
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.eot_token_id": 5,
    }
    assert Tokenizer(gguf_of(folder, "ends", metadata)).eos_ids() == (0, 5, 2)


def test_a_chat_of_a_gguf_file(folder):
    template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    metadata = gpt2_tokenizer() | {"tokenizer.chat_template": template}
    tokenizer = Tokenizer(gguf_of(folder, "chat", metadata))
    pieces = tokenizer.chat([Turn("user", ("a",))])
    assert [piece.text for piece in pieces] == ["<|im_start|>[user]", "a"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokenizer.ggml.model": "bert"}, "'bert' is not supported"),
        ({"tokenizer.ggml.pre": None}, "does not say how"),
        ({"tokenizer.ggml.pre": "unheard of"}, "'unheard of' is not supported"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "token types are given"),
        ({"tokenizer.ggml.tokens": ["a"] * 320}, "319 tokens appear twice"),
        ({"tokenizer.ggml.token_type": [1] * 3}, "3 token types are given for 320"),
        ({"tokenizer.ggml.token_type": None}, "lacks tokenizer.ggml.token_type"),
        ({"tokenizer.ggml.token_type": ["a"] * 320}, "lacks tokenizer.ggml.token_type"),
        ({"tokenizer.ggml.merges": ["h"]}, "'h' is not a pair"),
        ({"tokenizer.ggml.merges": ["h e l"]}, "'h e l' is not a pair"),
        ({"tokenizer.ggml.merges": ["he llo\n\n"]}, "merges contradict the tokens"),
        ({"tokenizer.ggml.eos_token_id": 320}, "eos token is not one of the 320"),
    ],
)
def test_tokenizers_that_contradict_themselves_are_refused(changes, reason, tmp_path):
    with pytest.raises(GgufError, match=reason) as caught:
        Tokenizer(tiny_gguf(tmp_path, "llama", layers=1, metadata=changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokenizer.ggml.scores": None}, "lacks a score for each token"),
        ({"tokenizer.ggml.scores": [0.0]}, "lacks a score for each token"),
        ({"tokenizer.ggml.scores": [float("nan")] * 600}, "score is not a number"),
    ],
)
def test_sentencepiece_without_sound_scores_is_refused(changes, reason, tmp_path):
    metadata = sentencepiece_tokenizer(HARD, 339)
    num_tokens = len(metadata["tokenizer.ggml.tokens"])
    if len(changes["tokenizer.ggml.scores"] or ()) > 1:
        changes = {"tokenizer.ggml.scores": [float("nan")] * num_tokens}
    with pytest.raises(GgufError, match=reason):
        Tokenizer(tiny_gguf(tmp_path, "llama", layers=1, tokenizer=metadata, metadata=changes))


def test_white_space_behind_phi_3s_marks_belongs_to_them(folder):
    """Red: a turn of Phi-3 begins with a line break that it was never trained with."""
    metadata = sentencepiece_tokenizer(HARD, 400)
    metadata["general.architecture"] = "phi3"
    library = build_tokenizer(_as_read(folder, metadata))
    ids = library.encode("<start_of_turn>\nx", add_special_tokens=False).ids
    assert library.decode(ids[1:]).strip() == "x" and ids[0] == 3
    assert "\n" not in library.decode(ids)


def _as_read(folder, metadata):
    from engine.gguf.header import read_header

    plain = {k: v for k, v in metadata.items() if k != "general.architecture"}
    read = read_header(gguf_of(folder, "phi", plain)).metadata
    return read | {"general.architecture": metadata["general.architecture"]}
