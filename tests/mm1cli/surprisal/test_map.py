"""The whole way on tiny random models. Red: the map depends on how it was computed."""

import json
from pathlib import Path

import numpy as np
import pytest
from corpora import document

from engine.engine import Engine
from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.pack import pack
from mm1cli.surprisal import SurprisalMap, surprisal_map
from mm1cli.surprisal.reading import ScoreCache

FIRST = '''"""Cats."""

import os


def sat(mat, hat):
    # where
    if mat == hat:
        return 1234567

    return os.path.join(mat, "the cat sat on the mat")
'''
SECOND = "def ate(rat):\n    return that(rat, 'the rat ate that')\n" * 6
FILES = (
    document("# The cat\n", "README.md"),
    document(SECOND, "b.py", "python"),
    document(FIRST, "a.py", "python"),
    document("x\n", "vendor/c.py", "python"),
)
CODE = {"a.py": {3, 6, 8, 9, 11}, "b.py": set(range(1, 13))}


@pytest.fixture(scope="module")
def engine(llama) -> Engine:
    return Engine(llama, chunk_tokens=64)


@pytest.fixture(scope="module")
def packed(engine: Engine):
    return pack(Corpus(FILES), engine.tokenizer)


@pytest.fixture(scope="module")
def whole(engine: Engine, packed) -> SurprisalMap:
    return surprisal_map(engine, packed)


def places(found: SurprisalMap) -> list[tuple[str, int]]:
    return sorted((line.path, line.line) for line in found.top())


EVERY = sorted((path, line) for path, lines in CODE.items() for line in lines)


def test_every_line_of_code_is_ranked_once_and_no_other(whole: SurprisalMap):
    assert places(whole) == EVERY
    assert len(whole) == len(EVERY)
    assert whole.left_out == (("README.md", "not program text"), ("vendor/c.py", "vendored"))
    (window,) = whole.windows
    assert window.paths == ("b.py", "a.py") and window.heads_of == ()


def test_lines_come_by_their_score_with_the_tokens_that_made_it(whole: SurprisalMap):
    lines = whole.top()
    assert [line.score for line in lines] == sorted((line.score for line in lines), reverse=True)
    assert len({round(line.score, 3) for line in lines}) > 10, "the model must tell them apart"
    for line in lines:
        text = {"a.py": FIRST, "b.py": SECOND}[line.path]
        assert line.text == text.split("\n")[line.line - 1]
        above = sum(other.score >= line.score for other in lines)
        assert line.rank_share == pytest.approx(above / len(lines))
        assert "".join(token.text for token in line.tokens) == "".join(line.text.split())
        assert max(token.excess for token in line.tokens) == pytest.approx(line.score)
        for token in line.tokens:
            assert line.text.startswith(token.text, token.column - 1)
            assert token.nats > 0 and token.expected_nats > 0
    assert whole.top(3) == lines[:3]


def test_only_some_files_are_ranked_behind_heads_of_what_they_import(engine: Engine, packed):
    """Red: a change costs the whole repository, or is read without what it imports."""
    found = surprisal_map(engine, packed, only={"a.py"}, imports={"a.py": ["b.py"]})
    assert places(found) == sorted(("a.py", line) for line in CODE["a.py"])
    (window,) = found.windows
    assert window.paths == ("a.py",) and window.heads_of == ("b.py",)
    assert found.left_out == ()


def test_heat_is_the_same_order_for_one_file(whole: SurprisalMap):
    heat = {(path, n): hot for path in CODE for n, hot in whole.heat(path).items()}
    assert sorted(heat) == EVERY
    top, *_, last = whole.top()
    assert heat[top.path, top.line] == pytest.approx(1)
    assert 0 < heat[last.path, last.line] < 0.2
    assert whole.heat("README.md") == {}


@pytest.mark.parametrize("chunk_tokens", [25, 1000])  # fewer than 17 are read in float16
def test_chunks_cannot_be_seen(llama, packed, whole: SurprisalMap, chunk_tokens: int):
    other = surprisal_map(Engine(llama, chunk_tokens=chunk_tokens), packed)
    for got, want in zip(other.files, whole.files, strict=True):
        np.testing.assert_array_equal(got.lines, want.lines)
        np.testing.assert_allclose(got.scores, want.scores, atol=1e-3)


def test_a_repository_larger_than_the_context_is_ranked_whole(engine, packed, whole: SurprisalMap):
    found = surprisal_map(engine, packed, window_tokens=150)
    assert places(found) == EVERY
    assert len(found.windows) >= 3
    assert all(window.num_tokens <= 150 for window in found.windows)
    assert found.read_tokens > whole.read_tokens, "heads and repeated lines are counted"


def test_imported_heads_change_what_is_expected(engine: Engine, packed):
    """Red: files are read without what they import."""
    alone = surprisal_map(engine, packed, window_tokens=700)
    helped = surprisal_map(engine, packed, window_tokens=700, imports={"b.py": ["a.py"]})
    assert helped.windows[0].heads_of == ("a.py",)
    assert not np.allclose(alone.files[0].scores, helped.files[0].scores)


def test_a_stopped_map_goes_on_where_it_was(engine: Engine, packed, tmp_path: Path):
    """Red: Ctrl-C costs everything; or what is kept differs from what is computed."""
    cold = surprisal_map(engine, packed, window_tokens=150)
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append((done, total))
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        surprisal_map(engine, packed, window_tokens=150, keep=tmp_path / "k", on_progress=stop)
    resumed = surprisal_map(engine, packed, window_tokens=150, keep=tmp_path / "k")
    assert 0 < resumed.reused_tokens < resumed.read_tokens
    for file in (tmp_path / "k").iterdir():
        assert file.suffix == ".f32"
    again = surprisal_map(engine, packed, window_tokens=150, keep=tmp_path / "k")
    assert again.reused_tokens == again.read_tokens
    for warm in (resumed, again):
        for got, want in zip(warm.files, cold.files, strict=True):
            np.testing.assert_array_equal(got.scores, want.scores)
    assert calls == sorted(calls)


def test_damaged_scores_are_computed_again(engine: Engine, packed, tmp_path: Path):
    cold = surprisal_map(engine, packed, keep=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-4])
    assert surprisal_map(engine, packed, keep=tmp_path).top() == cold.top()


def test_only_scores_are_dropped(engine: Engine, packed, tmp_path: Path):
    """Red: the mm1.toml of a folder that is only read says which files are deleted."""
    surprisal_map(engine, packed, keep=tmp_path / "k")
    (tmp_path / "k" / "notes.f32").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "k")
    ScoreCache(tmp_path / "link", max_bytes=0).prune()
    assert len(list((tmp_path / "k").iterdir())) == 2
    ScoreCache(tmp_path / "k", max_bytes=0).prune()
    assert [file.name for file in (tmp_path / "k").iterdir()] == ["notes.f32"]


def test_json_says_what_was_read(whole: SurprisalMap):
    found = json.loads(json.dumps(whole.as_json(4), allow_nan=False))
    assert [line["line"] for line in found["lines"]] == [line.line for line in whole.top(4)]
    assert found["lines"][0]["tokens"][0]["kind"] in {"first mention", "identifier", "keyword"}
    assert found["totals"]["ranked_lines"] == len(EVERY)
    assert found["totals"]["read_tokens"] == sum(w["num_tokens"] for w in found["windows"])
    assert {left["path"] for left in found["left_out"]} == {"README.md", "vendor/c.py"}


def test_nothing_to_rank_is_no_error(engine: Engine):
    found = surprisal_map(engine, pack(Corpus(FILES[:1]), engine.tokenizer))
    assert len(found) == 0 and found.top() == [] and found.windows == ()


GETTER = '''
    def get_{name}(self):
        """The {name} of this box."""
        if self._{name} is None:
            raise ValueError("no {name}")
        return self._{name}
'''
NAMES = ["area", "perimeter", "width", "height", "diagonal", "depth", "volume", "weight", "colour"]
BOX = "class Box:\n" + "".join(GETTER.format(name=name) for name in NAMES)


@pytest.mark.mini
@pytest.mark.parametrize(
    ("right", "wrong", "guilty"),
    [
        ("return self._depth", "retrun self._depth", "ret"),
        ("return self._depth", "return self._height", "height"),
        ("if self._depth is None", "if self._depth is not None", "not"),
    ],
)
def test_a_glaring_slip_comes_first(mini_dir: Path, right: str, wrong: str, guilty: str):
    """Red: the surprise map is noise."""
    slip = document(BOX.replace(right, wrong), "box.py", "python")
    engine = Engine(mini_dir, threads=1)
    first = surprisal_map(engine, pack(Corpus((slip,)), engine.tokenizer)).top(1)[0]
    assert wrong in first.text
    assert max(first.tokens, key=lambda token: token.excess).text == guilty
