"""The page of a review: what it says of each line, and that hostile code stays text."""

import re
from dataclasses import replace

import pytest
import sample_review
from corpora import document
from hypothesis import given
from hypothesis import strategies as st
from reviewing import UTIL

from mm1cli.output.code_view import SHARES, CodeView, heat
from mm1cli.output.page import render
from mm1cli.output.review_page import MOST_WHOLE_LINES, ReviewPage
from mm1cli.surprisal import LineSurprisal, TokenSurprisal
from mm1cli.surprisal.lexer import Kind

CELL = re.compile(
    r'<tr(?P<marked> class="marked")?[^>]*><th scope="row">(?P<line>\d+)</th>'
    r'(?:<td class="cell(?: level(?P<level>\d)" title="(?P<words>[^"]*))?">(?P<percent>[\d.]*)'
    r"</td>)?"
    r'<td class="mark">(?P<mark>[›+]*)</td><td class="line">(?P<code>.*?)</td></tr>'
)


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample_review.sample())


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found
    return found.group()


def test_findings_stand_by_file_with_their_lines_marked(page):
    """Red: a reader sees a finding beside other lines than its own."""
    shown = section(page, "findings")
    assert re.findall(r'<h3 class="file">(.*?)</h3>', shown) == ["long.py", "src/util.py"]
    marked = [row["line"] for row in CELL.finditer(shown) if row["marked"]]
    assert marked == ["150", "12"]
    (mean,) = (row for row in CELL.finditer(shown) if row["line"] == "12")
    assert mean["mark"] == "›+" and "return <b>sum</b>(values)" in mean["code"]
    assert '<span class="gained">+    return fmean(values)</span>' in shown
    assert "3 dropped, as the program could not confirm them" in page
    assert "2 findings = 1 high + 1 low." in page


def test_every_ranked_line_shown_has_its_heat_as_a_number(page):
    """Red: the column says something else than the map, or only by colour."""
    collected = sample_review.sample()
    surprise = collected.review.surprise
    shares = {str(n): share for n, share in surprise.shares("long.py").items()}
    whole = re.search(r"All 200 lines.*?</table>", section(page, "surprise"), re.DOTALL)
    rows = list(CELL.finditer(whole.group()))
    assert [row["line"] for row in rows] == [str(n) for n in range(1, 201)]
    for row in rows:
        below = 100 * (1 - shares[row["line"]])
        assert abs(float(row["percent"]) - below) <= 1
        assert int(row["level"]) == sum(shares[row["line"]] <= share for share in SHARES)
        assert row["words"].startswith("top ") or row["words"] == "usual"
    hottest = max(rows, key=lambda row: float(row["percent"]))
    assert hottest["line"] == str(collected.review.surprising[0].line)


def test_the_list_leads_to_the_lines(page):
    shown = section(page, "surprise")
    links = re.findall(r'<a href="#([^"]+)">', shown)
    assert len(links) == 3 and all(shown.count(f'id="{link}"') == 1 for link in links)


def test_without_a_map_there_is_no_column_and_without_findings_no_claim():
    """Red: an empty column looks like cold code, or a small model's run like a clean bill."""
    bare = render(sample_review.sample(surprise=None, surprising=()))
    assert 'class="cell' not in bare and "Improbable lines" not in bare
    silent = render(sample_review.sample(findings=(), is_written=False, plan="surprise"))
    assert "To rank lines the model read 0 tokens in 0 windows." in silent
    assert "Improbable lines in a change" in silent and "mini is too small for it" in silent
    empty = sample_review.sample(facts=None, surprise=None, surprising=(), findings=())
    assert "0 findings in a change" in render(replace(empty, sources=None, manifest=None))


def test_hostile_code_stays_text_and_the_page_small():
    """Red: a repository runs code in its own review, or makes a page no browser opens."""
    page = render(sample_review.hostile())
    assert "<script" not in page and "<img" not in page and "\x1b" not in page
    assert page.count("{{ 7*7 }}") > 10 and "\\u202egpj" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    assert len(page) < 200_000


def test_a_file_of_too_many_lines_is_shown_in_part_and_said_so():
    large = "".join(f"v{n} = {n}\n" for n in range(4_000))
    documents = (document(large, "large.py", "python"), document(UTIL, "util.py", "python"))
    surprise = sample_review.surprise(documents, {"large.py": "v777", "util.py": "sum"})
    run = sample_review.sample(surprise=surprise, surprising=tuple(surprise.top(5)))
    run.sources = sample_review.Sources(sample_review.Corpus(documents), (1, 1))
    run.review = replace(run.review, findings=())
    page = render(run)
    assert "its 4,000 lines are too many to be shown whole here" in page
    assert len(list(CELL.finditer(page))) < MOST_WHOLE_LINES and len(page) < 200_000


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(1, 45), st.integers(0, 4)), max_size=4),
)
def test_stretches_show_each_line_once_and_gaps_add_up(num_lines: int, places):
    """Red: lines are lost between two findings, or shown twice."""
    stretches = [(first, first + more) for first, more in places]
    view = CodeView([f"line {n}" for n in range(1, num_lines + 1)], {}, frozenset(), {})
    rows = view.around(stretches)
    numbers = [row.number for row in rows if row.number]
    assert numbers == sorted(set(numbers))
    for first, last in stretches:
        inside = [n for n in range(first, last + 1) if n <= num_lines]
        assert {row.number for row in rows if row.is_marked} >= set(inside)
    if numbers:
        skipped = sum(row.skipped for row in rows)
        assert len(numbers) + skipped == numbers[-1] - numbers[0] + 1
        assert all(row.skipped > 1 for row in rows if not row.number)


@given(
    st.text(st.sampled_from("ab \t=("), max_size=20), st.text(st.sampled_from("ab=("), min_size=1)
)
def test_marked_tokens_leave_the_line_as_it_is(before: str, token: str):
    line = f"{before}{token} rest"
    told = TokenSurprisal(token, len(before) + 1, Kind.OPERATOR, 9.0, 1.0, 8.0)
    odd = LineSurprisal("a.py", 1, 8.0, 0.01, line, (told,))
    (row,) = CodeView([line], {1: 0.01}, frozenset(), {1: odd}).whole()
    assert "".join(text for text, _ in row.parts) == before.expandtabs() + f"{token} rest"
    assert [text for text, is_odd in row.parts if is_odd] == [token]


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_hotter_lines_have_higher_numbers(rank: int, num_lines: int):
    """Red: the number and the colour contradict each other, or a number is 100."""
    rank = min(rank, num_lines)
    one = heat(rank / num_lines)
    assert 0 <= float(one.percent) < 100
    assert one.level == 4 or float(one.percent) < 99.1
    assert one.level == 0 or float(one.percent) >= 75
    if rank < num_lines:
        assert float(one.percent) >= float(heat((rank + 1) / num_lines).percent)


def test_the_view_of_a_file_that_is_gone_is_empty():
    run = sample_review.sample()
    assert ReviewPage(run.review, None).files[0][1][0].rows == []
