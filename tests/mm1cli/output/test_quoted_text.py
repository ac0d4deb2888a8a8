import pytest

from mm1cli.ingest.corpus import Locator, Place
from mm1cli.output.context_map import NUM_HEATS, _heats
from mm1cli.output.quoted_text import caption_line, shown_text
from mm1cli.result import Citation, CitationKind, CitationStatus

PAGE = Locator("line", 3, 5, Place("page", 0))


def citation(text: str, locator: Locator, caption: str = "", **changes) -> Citation:
    fields = {"number": 1, "path": "a", "status": CitationStatus.EXACT, "score": 0.0} | changes
    return Citation(locator=locator, text=text, caption=caption, **fields)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("The crossing was built by\nCalder and Vane, a firm\nof Hask.", None),
        ("A narrow column in two\nOrdinary columns it was\nbroken. It goes on.", None),
        (
            "Findings\nThe crossing was built by a firm.",
            "Findings\nThe crossing was built by a firm.",
        ),
        ("It needs:\n- timber\n- stone", "It needs:\n- timber\n- stone"),
    ],
)
def test_a_page_loses_its_line_breaks_and_keeps_its_lists(text: str, shown: str | None):
    """Red: evidence is broken where the page was, or a list and a heading run together."""
    expected = " ".join(text.split()) if shown is None else shown
    assert shown_text(citation(text, PAGE)) == expected


def test_code_and_notes_keep_their_lines():
    """Red: two statements are one line."""
    text = "total = first_operand + second_operand * third_operand + 4\nreturn total"
    assert shown_text(citation(text, Locator("line", 1, 2))) == text


def test_rows_are_shown_with_the_names_of_their_columns():
    """Red: "4\\t220" says nothing of what is counted."""
    rows = Locator("row", 7, 8, Place("sheet", 1, "Rents"), columns=("B", "D"))
    shown = citation("7\\t450\\tBo\n8\\t\\tAda".replace("\\t", "\t"), rows, "Unit\tRent\tTenant")
    assert shown_text(shown) == "Unit: 7; Rent: 450; Tenant: Bo\nUnit: 8; Tenant: Ada"
    assert caption_line(shown) == ""
    assert shown_text(citation("Unit\tRent\n7\t450", rows)) == "Unit\tRent\n7\t450"
    wide = citation("7\t450\tlate", rows, "Unit\tRent")
    assert shown_text(wide) == "Unit: 7; Rent: 450; late"
    prose = citation("7\t450\nThe end.", Locator("paragraph", 4, 5), "Unit\tRent")
    assert shown_text(prose) == "Unit: 7; Rent: 450\nThe end." and caption_line(prose) == ""
    above = citation("| 7 | 450 |", Locator("line", 9, 9), "| Unit | Rent |")
    assert (shown_text(above), caption_line(above)) == ("| 7 | 450 |", "columns: Unit | Rent")
    assert caption_line(citation("x = 1", Locator("line", 9, 9), "A › b")) == "A › b"


def test_the_map_is_hottest_where_the_page_begins():
    """Red: [1] is weak and [3] strong on the map of the very evidence that [1] leads."""
    gains = (-0.4, 0.9, 0.1)
    found = [citation("x", PAGE, number=number, gain=gain) for number, gain in enumerate(gains, 1)]
    found.append(citation("y", PAGE, number=4, kind=CitationKind.QUOTE))
    heats = _heats(found)
    assert heats[1] == NUM_HEATS and heats[3] == 1 and heats[1] > heats[2] > heats[3]
    assert heats[4] == 0
    assert _heats(found[:1]) == {1: NUM_HEATS}
