from corpora import document

from mm1cli.ingest.corpus import Block, Corpus
from mm1cli.retrieval.bm25 import Bm25Index
from mm1cli.retrieval.definitions import outlines
from mm1cli.retrieval.passages import passages, with_heading

SOURCE = '''"""A licence."""

LIMIT = 3

class Tide:
    """Rises."""

    def height(self, hour):
        return hour * LIMIT

    def fall(self):
        return -1

def main():
    return Tide().height(1)

print(main())
'''


def test_each_line_of_code_knows_the_definitions_around_it():
    """Red: a passage is headed by a method that ended before it, or by none."""
    source = document(SOURCE, "tide.py", "python")
    told = []
    (points,) = outlines(Corpus((source,)), lambda *done: told.append(done))
    assert told == [(1, 1)], "the parsing of a large repository is not seen"
    assert [(SOURCE[at:].split("\n")[0].strip(), names) for at, names in points] == [
        ('"""A licence."""', ()),
        ("class Tide:", ("class Tide",)),
        ("def height(self, hour):", ("class Tide", "method height")),
        ("", ("class Tide",)),
        ("def fall(self):", ("class Tide", "method fall")),
        ("", ()),
        ("def main():", ("function main",)),
        ("", ()),
    ]


def test_a_piece_of_a_function_is_headed_and_found_by_it():
    """Red: "return hour * LIMIT" is judged under the licence, not under Tide.height."""
    files = Corpus(
        (document(SOURCE, "src/tide.py", "python"), document("x = 1\n", "b.py", "python"))
    )
    cut = passages(files, outlines(files))
    body = next(s for p in cut for s in p.spans(1) if s.text.endswith(" hour * LIMIT"))
    assert with_heading(body) == (
        "src/tide.py: class Tide: method height\n        return hour * LIMIT"
    )
    assert body.caption == "class Tide › method height"
    assert body.locator.headings == ("class Tide", "method height")
    assert (body.locator.first, body.locator.last) == (9, 9)


def test_the_names_around_the_middle_of_a_long_function_find_it():
    """Red: only the passage with the "def" is found by the function's name."""
    lines = [f"    step({n})" for n in range(100)]
    source = "\n".join(["def settle():", *lines, "def other():", *lines])
    files = Corpus((document(source, "a.py", "python"),))
    cut = passages(files, outlines(files))
    found = Bm25Index(cut).search("settle", 2)
    assert all(one.locator.headings == ("function settle",) for one in found)
    assert "def settle" not in found[-1].text


def test_what_is_no_source_or_cannot_be_parsed_has_no_definitions():
    """Red: prose, a notebook's cells, or a broken file stop the run."""
    two = (Block("def f():\n    pass"), Block("x"))
    cells = document("x", "a.ipynb", "python")
    cells = type(cells)(cells.path, "python", 1, "0", "notebook", two)
    files = (document("def f():\n  1", "a.md"), cells, document(")" * 99, "b.py", "python"))
    assert outlines(Corpus(files)) == [(), (), ()]
    assert outlines(Corpus(())) == []


def test_a_passage_of_code_rather_begins_with_a_definition():
    """Red: the end of one function and the head of the next make a passage."""
    body = "\n".join(f"    step_number({n})" for n in range(18))
    source = "\n".join(f"def act{n}():\n{body}" for n in range(4))
    files = Corpus((document(source, "a.py", "python"),))
    cut = passages(files, outlines(files))
    assert [one.text.split("(")[0] for one in cut] == [f"def act{n}" for n in range(4)]
