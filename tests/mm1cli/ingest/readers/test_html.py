import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from office import refusal, shown, texts

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.html import read_html


def read(page):
    return shown(read_html(page.encode()))


def lines(page):
    return texts(read_html(page.encode()))


def test_headings_make_a_path_and_the_title_comes_first():
    """Red: a citation cannot say under which heading its text stands."""
    blocks = read_html(
        b"<html><head><title>The\n Harbour</title></head><body><h1>Costs</h1><p>one"
        b"<h2>2017</h2>two<h1>Dates</h1><p>three</body>"
    ).blocks
    assert [(block.headings, block.mark, block.text) for block in blocks] == [
        ((), "title", "The Harbour"),
        (("Costs",), "", "# Costs\none"),
        (("Costs", "2017"), "", "## 2017\ntwo"),
        (("Dates",), "", "# Dates\nthree"),
    ]


def test_paragraphs_lists_and_links_are_read_as_they_are_shown():
    """Red: words run into each other, or a list is one long line."""
    page = (
        "<p>see <a href='http://x.example/y'>the <b>link</b></a>,\n and  more<br>next line"
        "<ul><li>one<li>two<ol start=3><li>deep</ol></ul><div>a<div>b</div>c</div>"
        "<pre>  x = 1\n\n  y = 2</pre>"
    )
    assert lines(page) == [
        "see the link, and more",
        "next line",
        "- one",
        "- two",
        "  3. deep",
        "a",
        "b",
        "c",
        "  x = 1",
        "  y = 2",
        "the link: http://x.example/y",
    ]


def test_tables_of_values_are_rows_and_tables_for_layout_are_not():
    """Red: a table is a heap of words, or a whole page is one row without headings."""
    page = (
        "<table><tr><th>a<th>b<tr><td colspan=2>wide<td>c<tr><td><p>1</p><p>2</p><td>3</table>"
        "<table><tr><td><h1>Head</h1><p>text<table><tr><td>x<td>y</table><td>side</table>"
    )
    assert lines(page) == ["a\tb", "wide\t\tc", "1 2\t3", "# Head", "text", "x\ty", "side"]


def test_scripts_styles_and_comments_are_no_text():
    """Red: the context fills with code that nobody sees."""
    page = (
        "<style>p{color:red}</style><script>var a = '<p>not text</p>';</script><p>text<!-- no -->"
        "<template><p>spare</template><noscript>without scripts</noscript>"
    )
    assert lines(page) == ["text", "without scripts"]


@pytest.mark.parametrize(
    "attributes",
    ["hidden", "style='display: none'", "style='color:red;visibility:hidden'", "style='opacity:0'"],
)
def test_hidden_text_is_marked(attributes):
    """Red: orders to the model in text that no one sees pass for the page."""
    found = read(f"<p>seen <span {attributes}>unseen<p>still</p></span><p>again")
    assert ("¶ 1", "seen") in found and any(
        line == "unseen" and "(hidden)" in where for where, line in found
    )
    assert not any("again" in line and "hidden" in where for where, line in found)
    assert "again" in [line for _, line in found]


def test_visible_styles_are_not_hidden():
    """Red: half of every page is marked hidden."""
    page = "<p style='opacity:0.5;font-size:0.8em'>a<p style='visibility:visible;display:block'>b"
    assert read(page) == [("¶ 1", "a"), ("¶ 2", "b")]


def test_pictures_give_their_description():
    """Red: what a picture says in words is lost."""
    assert read("<p>see <img src=x alt='the bridge'> here") == [
        ("¶ 1", "see here"),
        ("¶ 2 (alt text)", "the bridge"),
    ]


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("<meta charset=koi8-r><p>мост".encode("koi8-r"), "koi8-r"),
        (
            "<meta http-equiv=Content-Type content='text/html; charset=Shift_JIS'><p>橋".encode(
                "shift_jis"
            ),
            "shift_jis",
        ),
        ("<meta charset=iso-2022-jp><p>橋".encode("iso-2022-jp"), "iso2022_jp"),
        ("<meta charset=iso-8859-1><p>“Ellery” €".encode("cp1252"), "cp1252"),
        ("<meta charset=latin-1><p>мост".encode(), "utf-8"),
        ("<meta charset=no-such-thing><p>мост".encode(), "utf-8"),
        ("<p>мост".encode("utf-16"), "utf-16"),
        ("\ufeff<meta charset=koi8-r><p>мост".encode(), "utf-8-sig"),
    ],
)
def test_the_declared_encoding_is_used_unless_the_bytes_are_utf8(data, encoding):
    """Red: pages in other alphabets are noise."""
    reading = read_html(data)
    assert reading.encoding == encoding
    assert texts(reading)[0] in {"мост", "橋", "“Ellery” €"}


def test_xhtml_closes_its_own_elements():
    """Red: <title/> swallows the page, as it does in an HTML parser."""
    page = (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head>'
        "<title/><script/></head><body><p>one&nbsp;two &amp; <i/>three</p>{}</body></html>"
    )
    assert lines(page.format("")) == ["one\xa0two & three"]
    assert lines(page.format("<p>not closed")) == ["one\xa0two & three", "not closed"]


def test_entities_and_the_network_are_out_of_reach(tmp_path):
    """Red: a page reads local files into the context."""
    secret = tmp_path / "secret"
    secret.write_text("password")
    page = (
        f'<!DOCTYPE html [<!ENTITY e SYSTEM "{secret.as_uri()}"><!ENTITY f "xx">]>'
        '<html xmlns="http://www.w3.org/1999/xhtml"><body><p>a&e;&f;b</p>'
        f'<iframe src="{secret.as_uri()}"></iframe></body></html>'
    )
    assert "password" not in " ".join(lines(page))


def test_depth_and_size_cost_little():
    """Red: a hostile page exhausts the stack, or takes minutes; or its text is lost in silence."""
    start = time.process_time()
    assert lines("<div>" * 1900 + "deep" + "</div>" * 1900) == ["deep"]
    assert lines("<b>" * 1900 + "bold") == ["bold"]
    assert len(lines("<table><tr><td>x" * 300)) >= 1
    page = "<div>" * 20_000 + "too deep"
    assert refusal(read_html, page.encode()).reason is Reason.TOO_DEEP
    assert lines("<p>" + "<p>x" * 2000) == ["x"] * 2000
    assert time.process_time() - start < 10


def test_pages_without_text_are_empty():
    """Red: a page of scripts counts as read."""
    for page in (b"<script>x</script>", b"<html></html>", b"<!-- -->"):
        assert refusal(read_html, page).reason is Reason.EMPTY


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("<>/&;! pbtdrahiddenscr\"'=\n\0é\ud800"), max_size=200))
def test_no_page_breaks_the_reader(page):
    """Red: a malformed page is a crash, or leaks what a terminal cannot take."""
    from mm1cli.ingest.readers.html import html_blocks

    for block in html_blocks(page)[0]:
        block.text.encode()
        assert "\0" not in block.text and "\r" not in block.text


words = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="<>&"), min_size=1
).map(lambda text: f"x{text}x")


@settings(max_examples=50, deadline=None)
@given(st.lists(words, min_size=1, max_size=6))
def test_whatever_is_written_comes_out_in_order(paragraphs):
    """Red: text is lost, or cited at another paragraph."""
    page = "".join(f"<p>{text}</p>" for text in paragraphs)
    assert read(page) == [(f"¶ {index}", text) for index, text in enumerate(paragraphs, 1)]


def test_cells_that_reach_down_keep_their_column():
    """Red: the price of a year stands under "Term" because the plan above reaches down."""
    page = (
        "<table><tr><th>Plan<th>Term<th>Price<tr><td rowspan=2>Pro<td>month<td>9"
        "<tr><td>year<td>90<tr><td>Basic<td>month<td>5</table>"
        "<table><tr><td>a<td rowspan=3 colspan=2>b<td>c<tr><td>d<td>e<tr><td>f<td>g"
        "<tr><td>h</table>"
    )
    assert lines(page) == [
        *("Plan\tTerm\tPrice", "Pro\tmonth\t9", "\tyear\t90", "Basic\tmonth\t5"),
        *("a\tb\t\tc", "d\t\t\te", "f\t\t\tg", "h"),
    ]


def test_raised_letters_formulas_and_deletions():
    """Red: 2×106 for two million; a price that was deleted for the price."""
    page = (
        "<p>2×10<sup>6</sup> kg CO<sub>2</sub><sup> </sup>, <del>old</del><s>struck</s> new"
        "<math><mfrac><mn>1</mn><mn>2</mn></mfrac></math>"
    )
    reading = read_html(page.encode())
    assert texts(reading) == ["2×10^{6} kg CO_{2}, ~~struck~~ new \\frac{1}{2}"]
    assert "1 deletions left out" in reading.warnings


def test_links_are_listed_where_the_text_does_not_say_them_and_do_not_drown_it():
    """Red: of a list of sources only the first forty can be cited, or a menu is all there is."""
    shown = '<p>See https://example.org/shown/. <a href="https://example.org/shown">this</a></p>'
    links = "".join(f'<a href="https://example.org/{at}">n{at}</a> ' for at in range(60))
    assert read_html(shown.encode()).blocks[-1].mark == ""
    (_, few) = read_html(links.encode()).blocks
    assert few.text.count("https://") == 40
    assert few.text.endswith("\n20 more links")
    (_, every) = read_html(f"<p>{'word ' * 1000}</p>{links}".encode()).blocks
    assert every.text.count("https://") == 60


def test_lists_in_cells_and_what_was_entered_into_forms():
    """Red: which plan has which parts is lost; a saved form tells neither yes nor no."""
    page = (
        "<table><tr><th>Plan<th>Has<th>Price<tr><td>Pro<td><ul><li>mail<li>disk</ul><td>9</table>"
        "<p>after<p><input value='Ann Lee'><input type=hidden value=x><input type=checkbox checked>"
        " insured <input type=radio> smoker<select><option>Oslo<option selected>Rome</select>"
        "<p><span style='color:red;text-decoration: line-through'>50</span> 40"
    )
    assert lines(page) == [
        "Plan\tHas\tPrice",
        "Pro\t- mail - disk\t9",
        "after",
        "Ann Lee",
        "☒ insured ☐ smoker",
        "☐ Oslo",
        "☒ Rome",
        "~~50~~ 40",
    ]


def test_tables_in_cells_stand_below_their_row_and_soft_hyphens_are_none():
    """Red: which plan costs 15 can only be guessed; a word with a soft hyphen cannot be found."""
    page = (
        "<table><tr><th>Plan<th>Parts<th>Price<tr><td>Basic<td><table><tr><td>Seat<td>10</table>"
        "<td>15</table><table><tr><td rowspan=0>A<td>1<tr><td>2</table><p>har&shy;bour"
    )
    expected = ["Plan\tParts\tPrice", "Basic\t\t15", "Seat\t10", "A\t1", "\t2", "harbour"]
    assert lines(page) == expected


def test_a_name_over_several_columns_stands_over_each():
    """Red: which share is in May can only be guessed; a total is two columns wide."""
    page = (
        "<table><tr><th>City<th colspan=2>Share<tr><th><th>May<th>June<tr><td>Brno<td>7<td>8"
        "<tr><th colspan=2>Sum<td>15</table>"
    )
    assert lines(page) == ["City\tShare\tShare", "\tMay\tJune", "Brno\t7\t8", "Sum\t\t15"]
