"""Red here means that the comparison of contexts compares something else than it says."""

from corpora import document
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.surprisal import context
from benchmarks.surprisal.context import ALONE, FILES, HEADS, Repository, Run
from benchmarks.surprisal.ranks import Standing
from mm1cli.ingest.corpus import Corpus
from mm1cli.ingest.pack import pack

USES = {"d.py": ("c.py", "b.py"), "c.py": ("a.py",), "b.py": ("d.py",)}


class Letters:
    """Every character is a token."""

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [[ord(char) for char in text] for text in texts]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [(at, at + 1) for at in range(len(text))]


def repository() -> Repository:
    files = tuple(document("x = 1\n" * 9, f"{name}.py", "python") for name in "abcde")
    number = {one.path: at for at, one in enumerate(files)}
    return Repository(pack(Corpus(files), Letters()), USES, number)


@given(st.sampled_from("abcde"), st.integers(0, 500))
def test_what_is_read_before_is_in_order_fits_and_is_never_the_file_itself(name: str, room: int):
    """Red: a bug is ranked by a model that has just read the line without it."""
    one = repository()
    chosen = one.before(f"{name}.py", room)
    assert chosen == sorted(set(chosen))
    assert sum(len(one.packed.token_ids[number]) for number in chosen) <= room
    assert one.number[f"{name}.py"] not in chosen


def test_imports_come_before_neighbours_and_near_ones_before_far():
    one = repository()
    size = len(one.packed.token_ids[0])
    assert one.before("d.py", size) == [2]
    assert one.before("d.py", 2 * size) == [1, 2]
    assert one.before("d.py", 9 * size) == [0, 1, 2]
    assert one.before("e.py", size) == [3], "nothing imported: what stands right before"


def test_the_table_tells_how_far_the_same_bugs_moved():
    ranks = {ALONE: (5, 5, 5), HEADS: (1, 9, 5), FILES: (1, 1, 1)}
    run = Run(seed=0, num_pieces=1)
    for way, found in ranks.items():
        run.found[way] = [Standing("off by one", "mm1", rank, 11) for rank in found]
    told = run.table()
    rows = {row.measure: row.cells for row in told.rows}
    assert tuple(rows) == context.WAYS
    assert "heads of imports: 1 of 3 bugs stand higher than alone, 1 lower." in told.notes
    assert "whole files: 3 of 3 bugs stand higher than alone, 0 lower." in told.notes
    assert "moved" not in rows[ALONE] and abs(rows[HEADS]["moved"].value) < 1e-9
    assert abs(rows[FILES]["moved"].value - 0.4) < 1e-9
