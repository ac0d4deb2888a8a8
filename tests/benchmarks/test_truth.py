"""Red here means that a change to a reader is judged by numbers that are not those of its text."""

from pathlib import Path

from benchmarks.ingest.truth import Score, Truth, truths

# Each word stands beside another that some part of a document parts from it.
NATIVE = r"""[ Header 1 ( "Str" , [ "Space (a" ] , [ ( "k" , "v" ) ] ) [ Str "head" ]
, Para [ Str "one" , SoftBreak , Str "two" , LineBreak , Str "three" ]
, Table [ Row [ Cell [ Plain [ Str "x" ] ] , Cell [ Plain [ Str "y" ] ] ] ]
, CodeBlock ( "" , [ "r(1)" ] , [] ) "run\nin" , Para [ Emph [ Str "e" ] , Str "nd" ] ]"""
LISTS = r"""Pandoc Meta { [ ("title",MetaInlines [Str "My"])
,("date",MetaInlines [Str "3GPP\160\&29"]) ] }
[ OrderedList ( 3 , LowerRoman , Period ) [ [ Para [ Str "c" ]
    , OrderedList ( 2 , Decimal , Period ) [ [ Plain [ Str "two" ] ] ] ]
  , [ Para [ Emph [ Str "d" ] ] ] ]
, BulletList [ [ Plain [ Str "z" ] ] ]
, OrderedList (2,UpperAlpha,Period) [[Para [Str "last"]]] ]"""


def test_truths_of_both_forms_are_measured(tmp_path):
    """Red: files are passed over, or markup counts as words that readers lose."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "groundtruth").mkdir()
    (tmp_path / "sources" / "a.pdf").write_text("x")
    (tmp_path / "groundtruth" / "a.md").write_text(
        "# The [bridge](http://x.y)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    (tmp_path / "b.docx").write_text("x")
    (tmp_path / "b.native").write_text('[ Para [ Str "caf\\233" , Space , Str\n "costs" ] ]')
    (tmp_path / "c.docx").write_text("x")
    (tmp_path / "c.native").write_text(NATIVE)
    (tmp_path / "d.rtf").write_text("x")
    (tmp_path / "d.native").write_text(LISTS)
    first, native, lists, second = truths(tmp_path)
    numbered = ["iii", "c", "2", "two", "iv", "d", "z", "b", "last"]
    assert lists.words == ["my", "3gpp", "29", *numbered]
    assert first.words == ["café", "costs"]
    assert native.words == ["head", "one", "two", "three", "x", "y", "run", "in", "end"]
    assert second.words == ["the", "bridge", "a", "b", "1", "2"]
    assert second.rows == [["a", "b"], ["1", "2"]]
    score = Score()
    score.add(second, "bridge the\na\tb\n1\n2 more")
    assert score.row("mm1") == {
        "reader": "mm1",
        "files": 1,
        "recall": 1.0,
        "precision": round(6 / 7, 4),
        "order": round(5 / 6, 4),
        "whole_rows": 1,
        "rows": 2,
    }


def test_words_read_besides_do_not_move_those_after_them():
    """Red: a page's header that is read once more costs the order of all its words after it."""
    score = Score()
    score.add(Truth(Path("a"), list("abcabc"), []), "a a b c a b c")
    score.add(Truth(Path("b"), list("abc"), []), "b a c")
    assert (score.num_both, score.num_ordered) == (9, 8)
