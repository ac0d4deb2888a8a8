import pytest

from mm1cli.ingest.corpus import Block, Locator, Place


@pytest.mark.parametrize(
    ("locator", "shown"),
    [
        (Locator("line", 3, 3), "line 3"),
        (Locator("line", 10, 12), "lines 10-12"),
        (Locator("paragraph", 4, 6), "¶ 4-6"),
        (Locator("line", 1, 9, Place("page", 3, "iv")), "p. iv"),
        (Locator("line", 1, 9, Place("page", 3)), "p. 4"),
        (Locator("line", 1, 9, Place("page", 3), mark="invisible"), "p. 4 (invisible)"),
        (Locator("paragraph", 1, 2, Place("slide", 2)), "slide 3"),
        (Locator("row", 2, 9, Place("sheet", 0, "Budget"), columns=("A", "F")), "Budget!A2:F9"),
        (Locator("row", 2, 2, Place("sheet", 0, "It's 2"), columns=("A", "A")), "'It''s 2'!A2"),
        (Locator("row", 2, 3, Place("sheet", 0)), "'sheet 1'!2:3"),
        (Locator("row", 2, 2), "row 2"),
        (Locator("line", 1, 2, Place("cell", 3)), "cell 4, lines 1-2"),
        (Locator("paragraph", 3, 3, Place("chapter", 0, "Storms")), "ch. “Storms”, ¶ 3"),
        (Locator("line", 1, 1, Place("part", 1, "text/html")), "part 2 (text/html), line 1"),
    ],
)
def test_a_locator_reads_as_people_would_say_it(locator, shown):
    """Red: a citation cannot be looked up."""
    assert str(locator) == shown


def test_a_block_gives_its_facts_to_its_locators():
    """Red: the JSON of a citation lacks what the reader found out."""
    block = Block(
        "ab\ncd",
        "row",
        5,
        Place("sheet", 0, "S"),
        ("Top",),
        ("A", "B"),
        "hidden sheet",
        ((0, 10), (3, 20)),
        ((3, ("Inner",)),),
    )
    assert block.locate(3, 5) == Locator(
        "row", 6, 6, Place("sheet", 0, "S"), ("Top", "Inner"), ("A", "B"), "hidden sheet", 20, 22
    )
    assert block.locate(1, 2).source_start == 11 and block.locate(1, 2).headings == ("Top",)
    assert Block("x").locate(0, 1).source_start is None
