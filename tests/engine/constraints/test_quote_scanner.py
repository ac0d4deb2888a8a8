"""Which characters open and close quotations."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.constraints.quote_scanner import CLOSED_BY, quotations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He said “it was” and \"nor was it\" and «il ne fut» and « la mer ».",
         ["it was", "nor was it", "il ne fut", "la mer"]),
        ('A 5" pipe and a 3" pipe.', []),
        ('A 5" pipe is "the small one".', ["the small one"]),
        ("It's the dogs' bed, isn't it? ‘No.’", []),
        ("“one “two” three”", ["one “two"]),
        ('“it is "his" own”', ['it is "his" own']),
        ("他说“你好”。", ["你好"]),
        ('An "unclosed quote of many words', []),
        ("An “unclosed quote\n```\nx = \"in code\"\n```\nand” “after it”", ["in code", "after it"]),
        ('""', []),
        ("“the `foo` function” is `f(\"x\")`", ["the `foo` function", "x"]),
    ],
)  # fmt: skip
def test_quotations_are_what_stands_between_marks(text: str, expected: list[str]):
    """Red: true quotes are passed over, or lengths and apostrophes taken for quotes."""
    assert quotations(text) == expected


@example("«««»")
@given(st.text(alphabet='ab \n.“”"«»`5'))
def test_no_quotation_holds_the_mark_that_closes_it(text: str):
    """Red: two quotations are checked as one, which stands nowhere."""
    for quote in quotations(text):
        assert quote == quote.strip() != ""
        places = re.finditer(f"(?={re.escape(quote)})", text)
        before = [text[: match.start()].rstrip()[-1:] for match in places]
        assert any(mark in CLOSED_BY and CLOSED_BY[mark] not in quote for mark in before)
