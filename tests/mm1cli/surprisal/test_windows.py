"""Red here means lines that nobody scored, or a window the model was not made for."""

import re

import pytest
from corpora import document
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.pack import Packed, pack
from mm1cli.surprisal.windows import Planner, heads


class Words:
    """A tokenizer whose tokens are words and single other characters."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [
            [self.ids.setdefault(word, len(self.ids)) for word in re.findall(r"\w+|\W", text)]
            for text in texts
        ]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\w+|\W", text)]

    def decode(self, ids: tuple[int, ...]) -> str:
        words = list(self.ids)
        return "".join(words[i] for i in ids)


LINES = [
    "import os\n",
    "def f(a, b):\n",
    "    return a + b\n",
    "\n",
    "x = 1  # one\n",
    "y" * 90 + "\n",
]
files = st.lists(
    st.lists(st.sampled_from(LINES), min_size=1, max_size=60).map("".join), min_size=1, max_size=5
)


def packed_of(texts: list[str]) -> Packed:
    documents = [document(text, f"{i}.py", "python") for i, text in enumerate(texts)]
    return pack(Corpus(tuple(documents)), Words())


@given(files, st.integers(64, 300), st.data())
def test_every_token_is_scored_once_in_windows_that_fit(texts: list[str], limit: int, data):
    packed = packed_of(texts)
    paths = [one.path for one in packed.corpus.documents]
    imports = {path: data.draw(st.lists(st.sampled_from(paths), max_size=3)) for path in paths}
    numbers = data.draw(st.permutations(range(len(texts))))
    scored: dict[int, list[int]] = {number: [] for number in numbers}
    for window in Planner(packed, limit, imports).windows(numbers):
        assert 0 < len(window.ids(packed)) <= limit
        for stretch in window.spans:
            assert 0 <= stretch.first <= stretch.scored < stretch.last
            scored[stretch.number] += range(stretch.scored, stretch.last)
    assert list(scored) == list(numbers)
    for number, indices in scored.items():
        assert indices == list(range(len(packed.token_ids[number])))


def test_what_fits_is_one_window_in_the_order_given():
    """Red: a repository that fits is not read as one context."""
    packed = packed_of(["a = 1\n", "b = 2\n", "c = 3\n"])
    (window,) = Planner(packed, 1000).windows([2, 0, 1])
    text = packed.encoder.decode(tuple(window.ids(packed)))
    assert [text.index(f"Document: {i}.py") for i in (2, 0, 1)] == sorted(
        text.index(f"Document: {i}.py") for i in (2, 0, 1)
    )
    assert window.head_ids == ()


def test_a_long_file_goes_on_behind_its_heads_and_the_lines_just_above():
    """Red: the second half of a file is read as if there were no first half."""
    body = "".join(f"    step_{i} = go(a)\n" for i in range(120))
    packed = packed_of([f"import os\nimport sys\n\n\ndef first(a):\n{body}"])
    first, second, *_ = Planner(packed, 400).windows([0])
    decode = packed.encoder.decode
    assert first.head_ids == ()
    text = decode(second.head_ids)
    assert text == "Document: 0.py\n\nimport os\nimport sys\ndef first(a):\n"
    assert second.head_paths == ("0.py",)
    (above,), (stretch,) = first.spans, second.spans
    assert stretch.first < stretch.scored == above.last
    repeated = decode(packed.token_ids[0][stretch.first : stretch.scored])
    assert repeated.startswith("    step_") and repeated.endswith("\n")


def test_a_window_begins_with_the_heads_of_what_its_first_file_imports():
    long = "x = 1\n" * 40
    packed = packed_of([f"import os\nclass Cat:\n    def meow(self):\n        pass\n{long}", long])
    planner = Planner(packed, 300, {"1.py": ["0.py", "1.py", "gone.py"]})
    *_, window = planner.windows([0, 1])
    assert window.head_paths == ("0.py",)
    text = packed.encoder.decode(window.head_ids)
    assert text == "Document: 0.py\n\nclass Cat:\n    def meow(self):\n"


def test_a_window_that_holds_nothing_is_refused():
    with pytest.raises(ValueError, match="64 or more"):
        Planner(packed_of(["x\n"]), 63)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "from a import b\nx = 1\nasync def f():\n    pass\n",
            ["from a import b", "async def f():"],
        ),
        (
            "use std::io;\npub(crate) fn f() {}\nlet fnord = 1;",
            ["use std::io;", "pub(crate) fn f() {}"],
        ),
        ("#include <a>\nstatic inline struct b c;", ["#include <a>", "static inline struct b c;"]),
    ],
)
def test_heads_are_imports_and_definitions(text: str, expected: list[str]):
    found = heads(document(text))
    assert [head.text for head in found] == expected
    assert [head.is_import for head in found] == [True, False]
    assert all(text.startswith(head.text, head.offset) for head in found)
