"""Red here means that a row is read under another table's header, or mail without its sender."""

from dataclasses import replace

from corpora import document

from mm1cli.ingest.corpus import Block, Corpus, Document, Place
from mm1cli.ingest.readers.rows import REPEATED
from mm1cli.retrieval.passages import Passage, passages, with_heading

STOCK, RENTS = Place("sheet", 0, "Stock"), Place("sheet", 1, "Rents")


def workbook(*blocks: Block) -> list[Passage]:
    return passages(Corpus((Document("book.xlsx", "xlsx", 1, "0", "xlsx", blocks),)))


def rows(text: str, place: Place | None, first: int = 1, left: str = "A") -> Block:
    columns = left, chr(ord(left) + text.split("\n")[0].count("\t"))
    return Block(text, "row", first, place, columns=columns)


def test_each_sheet_has_its_own_header():
    """Red: a row of sheet 2 is judged under the header of sheet 1."""
    stock, rent = workbook(rows("Part\tNumber\nhinge\t4", STOCK), rows("Unit\tRent\n7\t450", RENTS))
    assert stock.header == "Part\tNumber" and rent.header == "Unit\tRent"
    assert with_heading(rent).startswith("book.xlsx: Unit Rent\n")
    row = rent.spans(1)[1]
    assert (row.text, row.caption) == ("7\t450", "Unit\tRent")
    assert with_heading(row) == "book.xlsx: Unit Rent\n7\t450"
    assert not rent.spans(1)[0].caption, "the header is not told twice"


def test_a_long_table_keeps_its_header_and_a_second_one_has_another():
    """Red: rows past the first hundred have a row of numbers for a header."""
    blocks = (
        rows("Part\tNumber\nhinge\t4", STOCK),
        rows("hose\t7", STOCK, 3),
        rows("2\t9", STOCK, 9),
        rows("Name\tTown\nAda\tThornby", STOCK, 20, left="B"),
        rows("Bo\tAldwick", STOCK, 22, left="B"),
    )
    assert [one.header for one in workbook(*blocks)] == [
        *["Part\tNumber"] * 3,
        *["Name\tTown"] * 2,
    ]


def test_a_header_stands_over_the_columns_it_names():
    """Red: a price is read as a number because its row begins further right."""
    (_, right) = workbook(rows("Part\tNumber\tPrice", STOCK), rows("4\t9.50", STOCK, 2, left="B"))
    assert right.header == "Number\tPrice"
    (_, left) = workbook(rows("Number\tPrice", STOCK, left="B"), rows("hinge\t4", STOCK, 2))
    assert left.header == "\tNumber\tPrice"


def test_rows_in_running_text_have_the_header_of_their_own_table():
    """Red: a row of a Markdown or Word table is a run of numbers, or prose has a header."""
    lines = [f"| North {number} | {number} |" for number in range(60)]
    text = "\n".join(
        ("# Fees", "", "| Office | Fee |", "|:--|--:|", *lines, "", "| No rule | here |")
    )
    (first, *more, last) = passages(Corpus((document(text, "fees.md"),)))
    assert more and not first.caption and not last.caption
    assert [one.caption for one in more] == ["| Office | Fee |"] * len(more)
    row = first.spans(1)[-1]
    assert row.caption == "| Office | Fee |" and with_heading(row).startswith("fees.md: # Fees")
    assert "Office Fee" in with_heading(row) and "Office Fee" in more[0].names
    word = Block("Fees\nOffice\tFee\nNorth\t12\nSouth\t14\nThe end.\n1\t2\n3\t4", "paragraph")
    (whole,) = passages(Corpus((Document("a.docx", "docx", 1, "0", "docx", (word,)),)))
    captions = [one.caption for one in whole.spans(1)]
    assert captions == ["", "", "Office\tFee", "Office\tFee", "", "", ""]


def test_mail_is_read_with_who_wrote_it_when_and_about_what():
    """Red: "Ines keeps the old price" is read without knowing that Ines does not say so."""
    head = "From: Ines <i@x>\nTo: Bo\nDate: Mon, 3 May 2021\nSubject: Prices"
    blocks = (
        Block(head, place=Place("part", 0, "headers")),
        Block("You keep the old price.", place=Place("part", 1, "text/plain")),
    )
    _, body = passages(Corpus((Document("4.eml", "e-mail", 1, "0", "mail", blocks),)))
    assert with_heading(body) == (
        "4.eml: From: Ines <i@x>, Date: Mon, 3 May 2021, Subject: Prices\nYou keep the old price."
    )
    assert body.caption == "From: Ines <i@x>, Date: Mon, 3 May 2021"


def test_most_texts_need_no_caption():
    """Red: every quotation is shown under the title of its document."""
    (note,) = passages(Corpus((document("# Notes\n\nIt rained.", "a.md"),)))
    assert note.caption == "" and note.title == "# Notes"


def test_a_repeated_header_is_the_header_of_what_follows_and_no_passage():
    """Red: the same header is found as evidence once for each hundred rows, or rows of words below
    it pass for a header."""
    blocks = (
        rows("Part\tState\nhinge\tsold", STOCK),
        replace(rows("Part\tState", STOCK), mark=REPEATED),
        rows("hose\tlent", STOCK, 101),
    )
    found = workbook(*blocks)
    assert [one.text for one in found] == ["Part\tState\nhinge\tsold", "hose\tlent"]
    assert [one.header for one in found] == ["Part\tState"] * 2
