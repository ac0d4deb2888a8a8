"""Red here means that a wrong number passes as read, or a right one is called invented."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.grounding.dates import Date, mentions
from mm1cli.grounding.facts import Facts, unknown_facts


def unknown(said: str, *read: str) -> list[str]:
    return unknown_facts(said, lambda: Facts.of(read))


@pytest.mark.parametrize(
    "spelled",
    [
        "15th March 2024",
        "15 March 2024",
        "the 15th of March, 2024",
        "March 15, 2024",
        "2024-03-15",
        "15.3.2024",
        "15/03/2024",
        "3/15/2024",
        "15-Mar-2024",
        "15. März 2024",
    ],
)
def test_a_day_is_one_day_however_it_is_written(spelled):
    """Red: 15th March 2024 is not 2024-03-15."""
    (mention,) = mentions(spelled)
    assert mention.readings == (Date(2024, 3, 15),)
    assert unknown(spelled, "on 2024-03-15") == []
    assert unknown("in March 2024", spelled) == []
    assert unknown(spelled, "15 or 3 of them, March, 2024 boats")


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("48.2 million", "EUR 48.2m"),
        ("EUR 48.2m", "48,200,000"),
        ("€48.2 million", "EUR 48,200,000.00"),
        ("forty-eight", "48 of them"),
        ("two years", "24 months"),
        ("3.5 t", "3,500 kg"),
        ("12.5 percent", "12.5 %"),
        ("4 pm", "at 16:00"),
        ("42 to 27 minutes", "from 42 minutes to 27 minutes"),
        ("2291", "invoice INV-2291"),
        ("2024", "on 2 May 2024"),
    ],
)
def test_a_quantity_is_known_by_its_value(said, read):
    """Red: another spelling of a true figure is called invented."""
    assert unknown(said, read) == []


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("USD 48.2 million", "EUR 48.2 million"),
        ("48.2 billion", "48.2 million"),
        ("8.2", "48.2"),
        ("11", "at 11:30:00, 11,704 pumps, on 11 May 2025"),
        ("5 %", "5 days"),
        ("5 days", "5 weeks"),
        ("2 May 2024", "2 June 2024, 3 May 2024"),
        ("P40", "P41, 40"),
        ("16:30", "4 pm"),
    ],
)
def test_another_unit_value_or_day_is_unknown(said, read):
    """Red: a wrong figure passes because its digits stand somewhere."""
    assert unknown(said, read) == [said]


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_number_is_known_only_if_it_was_read(number, other):
    """Red: a part of another number passes as the number."""
    known = unknown(f"x {number:,} y", f"There were {other} boats") == []
    assert known == (number == other)


def test_a_log_with_a_date_in_each_line_is_read_in_time():
    """Red: each date is held against all before it, and a log takes minutes."""
    text = "\n".join(f"2024-03-{1 + n % 28:02} 12:00 line {n}" for n in range(20_000))
    begun = time.process_time()
    assert len(mentions(text)) == 20_000
    assert time.process_time() - begun < 10
