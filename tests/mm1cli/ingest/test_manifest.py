import ast
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from corpora import corpora
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.commands.checks import require_everything_read
from mm1cli.errors import InputLeftOutError
from mm1cli.ingest import corpus_file, readers
from mm1cli.ingest.corpus import (
    Block,
    Corpus,
    Damaged,
    Document,
    Omission,
    Place,
    Reason,
    Unread,
)
from mm1cli.ingest.manifest import ReadingPlan, build
from mm1cli.ingest.pack import Packed
from mm1cli.ingest.readers.reader import Reading
from mm1cli.ingest.wire_format import reading_from, reply_of


@given(corpora(), st.data(), st.integers(0, 300))
def test_every_file_is_there_once_and_the_totals_add_up(corpus: Corpus, data, budget: int):
    """Red: a file is dropped in silence."""
    count = len(corpus.documents)
    tokens = data.draw(st.lists(st.integers(0, 100), min_size=count, max_size=count))
    manifest = build(corpus, tokens, budget)
    seen = [*corpus.documents, *corpus.omissions]
    assert Counter(entry.path for entry in manifest.entries) == Counter(one.path for one in seen)
    assert [entry.path for entry in manifest.entries] == sorted(one.path for one in seen)
    assert {e.path: e.tokens for e in manifest.read} == {
        doc.path: n for doc, n in zip(corpus.documents, tokens, strict=True)
    }
    assert {e.path: e.reason for e in manifest.left_out} == {
        omission.path: omission.reason for omission in corpus.omissions
    }
    told = json.loads(json.dumps(manifest.as_json()))
    totals = told["totals"]
    assert totals["seen"] == totals["read"] + totals["left_out"] == len(told["files"])
    assert totals["tokens"] == sum(entry["tokens"] for entry in told["files"]) == sum(tokens)
    assert told["fits"] is (sum(tokens) <= budget)
    assert told["plan"] == ("whole" if told["fits"] else "retrieval")


def test_the_same_path_twice_is_two_entries():
    """Red: of two files that are shown alike, one is lost."""
    same = (
        Document("stdin", "text", 1, "0", "r", (Block("x"),)),
        Document("stdin", "text", 2, "1", "r", (Block("y"),)),
    )
    manifest = build(Corpus(same, (Omission("stdin", Reason.DUPLICATE),)), [3, 4], 10)
    assert (len(manifest.entries), manifest.tokens) == (3, 7)


def test_a_count_for_each_document_or_none_at_all():
    """Red: tokens are counted for the wrong file."""
    with pytest.raises(ValueError):
        build(Corpus((Document("a", "text", 1, "0", "r", ()),)), [], 10)


@pytest.mark.parametrize(
    ("tokens", "plan"),
    [(10, ReadingPlan.WHOLE), (11, ReadingPlan.RETRIEVAL), (0, ReadingPlan.WHOLE)],
)
def test_a_corpus_that_fits_is_read_whole(tokens: int, plan: ReadingPlan):
    """Red: one token too many overflows the context, or one to spare is not used."""
    corpus = Corpus((Document("a", "text", 1, "0", "r", ()),))
    assert build(corpus, [tokens], 10).plan is plan


def test_the_largest_are_told_first_with_their_pages_and_encoding():
    """Red: people cannot see what eats the context."""
    blocks = tuple(Block("x", place=Place("page", index)) for index in (0, 0, 4))
    documents = (
        Document("a", "text", 1, "0", "r", (Block("x"),), encoding="cp1252"),
        Document("b", "pdf", 1, "0", "r", blocks),
    )
    manifest = build(Corpus(documents), [3, 40], 100, "head")
    assert [entry.path for entry in manifest.largest] == ["b", "a"]
    by_path = {entry["path"]: entry for entry in manifest.as_json()["files"]}
    assert (by_path["b"]["num_pages"], by_path["b"]["num_blocks"]) == (2, 3)
    assert (by_path["a"]["encoding"], by_path["a"]["num_pages"]) == ("cp1252", 0)
    assert manifest.as_json()["fit"] == "head"


@pytest.mark.parametrize("kind", [Unread, Damaged])
def test_strict_counts_what_a_document_lacks_however_it_came(kind):
    """Red: --strict passes a file of which pages were cut, where it comes from a reader's child,
    the cache or a saved context."""
    warning = kind("page 2 has no text layer")
    message, _ = reply_of(Reading((Block("x"),), ("pictures are not read", warning)))
    read = reading_from(json.loads(json.dumps(message)))
    document = Document("a.pdf", "pdf", 1, "", "", read.blocks, read.warnings)
    packed = Packed(Corpus((document,)), ((7,),), (), None)
    saved = corpus_file.loads(corpus_file.dumps(packed, 0, "m"), packed.ids(), None)
    (document,) = saved.packed.corpus.documents
    assert [type(one) for one in document.warnings] == [str, kind]
    with pytest.raises(InputLeftOutError, match=r"not all of a\.pdf was read: page 2 has no"):
        require_everything_read(build(saved.packed.corpus, [1], 10))


def test_every_warning_of_a_loss_says_that_it_is_one():
    """Red: a new reader warns of what it could not read, and --strict passes the file."""
    lost = re.compile(r"cannot be |could not |missing|not read$|no text layer|cut after")
    unmarked = []
    for path in Path(readers.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=to, attr="append"), args=[told]) if (
                    ast.unparse(to).endswith(("warnings", "remarks"))
                ):
                    pass
                case ast.Yield(value=ast.JoinedStr() | ast.Constant() as told):
                    pass
                case _:
                    continue
            if isinstance(told, ast.JoinedStr | ast.Constant) and lost.search(
                ast.unparse(told).strip("'\"f")
            ):
                unmarked.append(f"{path.name}:{node.lineno} {ast.unparse(told)}")
    assert not [one for one in unmarked if "pictures are not read" not in one]
