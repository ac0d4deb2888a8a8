"""Red here means the surprise benchmark counts bugs that are none, or counts them wrongly."""

import ast
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.surprisal import __main__ as command
from benchmarks.surprisal import ngram
from benchmarks.surprisal import pieces as drawing
from benchmarks.surprisal.mutations import KINDS, Mutation, apply, is_real, mutations, parse
from benchmarks.surprisal.pieces import Bug, Piece, pieces
from benchmarks.surprisal.ranks import Standing, best, chance, standings
from engine.tokenizer import Tokenizer

FUNCTION = '''def near(first, second, size=3):
    """Whether a < b."""
    if size < 1:
        raise ValueError(size)
    total = place(first, second)[0] + size
    for at in range(1, size):
        total = total - at
    return total == first and f"{first < second}"
'''


def all_of(text: str) -> dict[str, list[Mutation]]:
    function = parse(text).body[0]
    assert isinstance(function, ast.FunctionDef)
    return mutations(function, text.split("\n"), random.Random(0))


def mutants(text: str, kind: str) -> list[str]:
    lines = text.split("\n")
    found = []
    for mutation in all_of(text)[kind]:
        changed, (seen,) = apply(lines, [mutation])
        found.append(changed[seen - 1].strip())
    return found


def test_each_kind_of_bug_is_what_it_is_called():
    assert mutants(FUNCTION, "swapped arguments") == [
        "total = place(second, first)[0] + size",
        "for at in range(size, 1):",
    ]
    assert mutants(FUNCTION, "wrong operator") == [
        "if size > 1:",
        "total = place(first, second)[0] - size",
        "total = total + at",
        'return total == first or f"{first < second}"',
        'return total != first and f"{first < second}"',
    ]
    off = mutants(FUNCTION, "off by one")
    assert off[0] == "if size <= 1:" and off[-1] in {
        "for at in range(0, size):",
        "for at in range(2, size):",
    }
    assert "total = place(first, second)[1] + size" in off
    assert mutants(FUNCTION, "removed check") == ["total = place(first, second)[0] + size"]
    wrong = mutants(FUNCTION, "wrong variable")
    assert len(wrong) == 10 and not any(line in FUNCTION for line in wrong)


def test_every_bug_is_another_program_and_changes_nothing_else():
    text = Path(drawing.__file__).read_text(encoding="utf-8")
    lines, seen = text.split("\n"), set()
    functions = [node for node in parse(text).body if isinstance(node, ast.FunctionDef)]
    for function in functions[2:5]:
        for kind, found in mutations(function, lines, random.Random(1)).items():
            for mutation in found[:2]:
                changed, (line,) = apply(lines, [mutation])
                assert is_real(text, "\n".join(changed)), (kind, mutation)
                seen.add(kind)
                first, rest = mutation.line - 1, mutation.line + max(mutation.num_removed - 1, 0)
                if mutation.num_removed:
                    assert changed == lines[:first] + lines[rest:]
                    assert changed[line - 1] == lines[mutation.original_line - 1]
                else:
                    assert changed[:first] + changed[rest:] == lines[:first] + lines[rest:]
                    assert line == mutation.line and changed[line - 1] != lines[line - 1]
    assert len(seen) >= 4


def test_what_does_not_parse_or_is_the_same_program_is_no_bug():
    assert not is_real("x = 1\n", "x = (\n")
    assert not is_real("x = 1\n", "x = 1  # one\n")
    assert is_real("x = 1\n", "x = 2\n")


def test_bugs_of_one_piece_are_found_after_lines_were_taken_out():
    lines = FUNCTION.split("\n")
    found = all_of(FUNCTION)
    chosen = [found["removed check"][0], found["swapped arguments"][1]]
    changed, seen = apply(lines, chosen)
    assert [changed[line - 1].strip() for line in seen] == [
        "total = place(first, second)[0] + size",
        "for at in range(size, 1):",
    ]


@pytest.fixture
def own_files(monkeypatch):
    """Files of mm1 alone: the others take long to list."""
    monkeypatch.setattr(drawing, "SOURCES", ("mm1",))
    monkeypatch.setattr(drawing, "OWN", ("engine",))


def test_pieces_are_the_same_every_time_and_halves_share_no_file(own_files, tiny_model):
    tokenizer = Tokenizer(tiny_model)
    found = [piece for piece, _ in zip(pieces(tokenizer, 6000, 0), range(4), strict=False)]
    assert found == [piece for piece, _ in zip(pieces(tokenizer, 6000, 0), range(4), strict=False)]
    assert found != [piece for piece, _ in zip(pieces(tokenizer, 6000, 1), range(4), strict=False)]
    assert len({piece.path for piece in found}) == 4
    assert [piece.is_test for piece in found] == [False, True] * 2
    for piece in found:
        before, after = piece.before.split("\n"), piece.after.split("\n")
        assert len({bug.line for bug in piece.bugs}) == len(piece.bugs) >= drawing.FEWEST_BUGS
        assert len(piece.packed(tokenizer, with_bugs=True).token_ids[0]) < 7000
        for bug in piece.bugs:
            broken, whole = after[bug.line - piece.first], before[bug.original_line - piece.first]
            assert (broken == whole) == (bug.kind == "removed check")


lines_with_scores = st.lists(st.integers(0, 4), min_size=4, max_size=30)


@given(lines_with_scores, st.integers(0, 3), st.integers(1, 90))
def test_a_bug_stands_among_lines_without_bugs(scores: list[int], bug: int, first: int):
    numbers = list(range(first, first + len(scores)))
    other = (bug + 1) % 4
    bugs = (Bug("a", numbers[bug], 0), Bug("b", numbers[other], 0))
    piece = Piece("mm1", "x.py", first, "", "", bugs, True)
    found, _ = standings(piece, (numbers, np.array(scores, np.float32)), with_bugs=True)
    rest = [score for at, score in enumerate(scores) if at not in {bug, other}]
    above = sum(score > scores[bug] for score in rest)
    ties = sum(score == scores[bug] for score in rest)
    assert (found.rank, found.num_lines) == (1 + above + ties / 2, len(rest) + 1)
    assert found.is_in(1.0)
    assert found.percentile == pytest.approx(1 - (above + ties / 2) / len(rest))


def test_the_tops_are_strict_and_chance_knows_it():
    """Red: in 50 lines the first one counts as the top 1 %."""
    assert Standing("a", "b", 1, 100).is_in(0.01)
    assert not Standing("a", "b", 1, 99).is_in(0.01)
    assert not Standing("a", "b", 1.5, 100).is_in(0.01)
    assert Standing("a", "b", 5, 100).is_in(0.05) and not Standing("a", "b", 6, 100).is_in(0.05)
    found = chance([Standing("a", "b", 3, 99), Standing("a", "b", 3, 200)])
    assert found["top 1%"] == "0.5%"


def test_the_score_is_chosen_by_what_it_finds():
    good, bad = [Standing("a", "b", 1, 200)], [Standing("a", "b", 150, 200)]
    assert best({"x": bad, "y": good}) == "y" == best({"y": good, "x": bad})


@given(st.lists(st.integers(0, 5), max_size=30), st.lists(st.integers(0, 5), max_size=30))
def test_counts_give_probabilities(known: list[int], own: list[int]):
    others = ngram.trained([known], 6)
    counts = ngram.Counts(others.p)
    for at, token_id in enumerate(own):
        before = own[max(at - 2, 0) : at]
        assert sum(counts.p(before, other) for other in range(6)) == pytest.approx(1)
        counts.add(before, token_id)
    log_p = ngram.scores(own, others)[0]
    assert log_p.shape == (len(own),) and (log_p < 0).all()


def test_what_was_seen_before_is_less_surprising_by_counts():
    others = ngram.trained([[1, 2, 3]], 6)
    log_p = ngram.scores([4, 5, 0, 4, 5, 0, 1, 2, 3], others)[0]
    assert log_p[5] > log_p[2] + 0.5
    assert log_p[8] > log_p[2]


def test_the_command_prints_tables_and_goes_on_from_what_it_read(
    own_files, tiny_model, tmp_path, capsys
):
    line = ["--model", str(tiny_model), "--bugs", "8", "--piece-tokens", "3000"]
    line += ["--cache", str(tmp_path / "kept"), "--out", str(tmp_path / "out.md")]
    command.main(line)
    first = capsys.readouterr().out
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert len(kept) >= 3
    rows = json.loads(first.splitlines()[-1])["rows"]
    assert [table["table"] for table in rows] == ["tuning", "test", "by kind", "by source"]
    shares = {row["measure"]: row["results"] for row in rows[1]["rows"]}
    assert {command.UNBROKEN, "line length", "random", "trigrams", "unigrams"} < set(shares)
    of_kinds = [row["results"] for row in rows[2]["rows"] if row["measure"] == "line length"]
    for top in ("top 1%", "top 5%", "top 10%"):
        hits = [round(cell[top]["value"] * cell[top]["num"]) for cell in of_kinds]
        assert sum(cell[top]["num"] for cell in of_kinds) == shares["line length"][top]["num"]
        assert sum(hits) == round(
            shares["line length"][top]["value"] * sum(c[top]["num"] for c in of_kinds)
        )
    assert "Test half" in (tmp_path / "out.md").read_text()
    command.main(line)
    again = capsys.readouterr().out
    assert again.splitlines()[:-1] == first.splitlines()[:-1]
    assert set(kept) == set((tmp_path / "kept").iterdir())


def test_kinds_are_all_tried():
    assert set(all_of(FUNCTION)) == set(KINDS) and all(all_of(FUNCTION).values())
