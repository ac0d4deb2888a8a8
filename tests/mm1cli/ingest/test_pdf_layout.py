"""What stands beside what on a PDF page: tables, columns, and pages that must stay as they are."""

from io import BytesIO

import pytest
from reportlab.lib import colors
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import SimpleDocTemplate, Table

from mm1cli.ingest.readers import pdf_layout
from mm1cli.ingest.readers.pdf import read_pdf
from mm1cli.ingest.readers.pdf_gaps import has_gutter
from mm1cli.ingest.readers.pdf_letters import Letter

LEFT = (
    "The committee reviewed the annual",
    "report and its appendices before it",
    "approved the budget for the coming",
    "fiscal year by twelve votes to one.",
)
RIGHT = (
    "Members of the audit panel objected",
    "to the travel costs and asked for a",
    "second reading, which the chairman",
    "refused on procedural grounds.",
)


def drawn(*texts, font="Helvetica", rotation=0):
    """A page of (x, y, text), drawn in this order."""
    output = BytesIO()
    canvas = Canvas(output, invariant=1)
    canvas.setPageRotation(rotation)
    canvas.setFont(font, 10)
    for x, y, text in texts:
        canvas.drawString(x, y, text)
    canvas.showPage()
    canvas.save()
    return output.getvalue()


def bordered(cells, style):
    output = BytesIO()
    table = Table(cells, style=[("GRID", (0, 0), (-1, -1), 1, colors.black), *style])
    SimpleDocTemplate(output, invariant=1).build([table])
    return output.getvalue()


def lines(data):
    return read_pdf(data).blocks[0].text.split("\n")


def row_by_row(cells, xs=(60, 180, 300, 420)):
    return [
        (x, 700 - 16 * at, text)
        for at, row in enumerate(cells)
        for x, text in zip(xs, row, strict=True)
        if text
    ]


REGIONS = (
    ("Region", "2021", "2022", "2023"),
    ("North", "", "14", "19"),
    ("South", "7", "", "3"),
    ("East", "5", "8", ""),
)


@pytest.mark.parametrize("by_column", [False, True])
def test_empty_cells_of_a_table_without_lines_stay_empty(by_column):
    """Red: North had 14 in 2021, which nobody wrote; or the columns come one below the other."""
    texts = row_by_row(REGIONS)
    if by_column:
        texts.sort(key=lambda one: one[0])
    assert lines(drawn(*texts)) == ["\t".join(row).rstrip() for row in REGIONS]


def test_columns_of_prose_drawn_line_by_line_are_read_one_after_the_other():
    """Red: sentences of two columns are cut into each other."""
    texts = row_by_row(zip(LEFT, RIGHT, strict=True), xs=(60, 310))
    assert lines(drawn(*texts)) == [*LEFT, *RIGHT]


def test_cells_between_drawn_lines_are_cells_whatever_is_in_them():
    """Red: the second line of a cell becomes a row; merged and empty cells shift what follows."""
    cells = [["Plan", "Term", "Price"], ["Pro\nfor two", "month", "9"], ["", "", "90"]]
    assert lines(bordered(cells, [("SPAN", (0, 1), (0, 2))])) == [
        "Plan\tTerm\tPrice",
        "Pro for two\tmonth\t9",
        "\t\t90",
    ]


def test_a_name_over_two_columns_is_joined_to_theirs():
    """Red: which year a share is of can only be guessed."""
    cells = [["City", "Share", ""], ["", "in May", "in June"], ["Brno", "7 %", "8 %"]]
    spans = [("SPAN", (1, 0), (2, 0)), ("SPAN", (0, 0), (0, 1))]
    assert lines(bordered(cells, spans)) == [
        "City\tShare in May\tShare in June",
        "Brno\t7 %\t8 %",
    ]


@pytest.mark.parametrize(("angle", "rotation"), [(0, 90), (90, 0), (90, 90), (180, 180), (-90, 0)])
@pytest.mark.parametrize("has_lines", [False, True])
def test_tables_that_are_turned_on_the_page_are_read_as_others(angle, rotation, has_lines):
    """Red: the wide table of a report, which stands on its side, loses its empty cells."""
    output = BytesIO()
    canvas = Canvas(output, invariant=1)
    canvas.setPageRotation(rotation)
    canvas.setFont("Helvetica", 10)
    canvas.translate(300, 400)
    canvas.rotate(angle)
    if has_lines:
        table = Table(REGIONS, style=[("GRID", (0, 0), (-1, -1), 1, colors.black)])
        table.wrapOn(canvas, 400, 200)
        table.drawOn(canvas, -150, 0)
    else:
        for x, y, text in row_by_row(REGIONS):
            canvas.drawString(x - 250, y - 680, text)
    canvas.showPage()
    canvas.save()
    assert lines(output.getvalue()) == ["\t".join(row).rstrip() for row in REGIONS]


@pytest.mark.parametrize(
    ("upper", "expected"),
    [
        (
            ((200, 716, "Revenue in millions"), (400, 716, "Staff at year end")),
            "Region\tRevenue in millions 2021\tRevenue in millions 2022"
            "\tStaff at year end 2021\tStaff at year end 2022",
        ),
        (((244, 716, "Rev."),), "Region\tRev. 2021\tRev. 2022\t2021\t2022"),
        (((60, 716, "Table 1: Revenue and staff, by region"),), "Region\t2021\t2022\t2021\t2022"),
    ],
)
def test_names_over_aligned_columns_go_to_each_of_them(upper, expected):
    """Red: a name over two columns makes one column of them, and 12 and 14 are one cell."""
    rows = [("Region", "2021", "2022", "2021", "2022"), ("North", "12", "14", "190", "200")]
    rows += [("South", "9", "7", "90", "110"), ("West", "3", "4", "30", "30")]
    found = lines(drawn(*upper, *row_by_row(rows, xs=(60, 200, 280, 400, 480))))
    assert found[-4:-2] == [expected, "North\t12\t14\t190\t200"]


def test_code_and_lists_keep_the_order_they_had():
    """Red: a program loses its indentation to a table of comments, a list its numbers to a cell."""
    code = [("def f(x):", "# one"), ("    return x", "# two"), ("f(1)", "# three")]
    texts = row_by_row(code, xs=(60, 300))
    assert not any("\t" in line for line in lines(drawn(*texts, font="Courier")))
    listed = row_by_row(
        [("1.", "First things"), ("2.", "Second things"), ("3.", "Third")], (60, 90)
    )
    assert lines(drawn(*listed)) == ["1. First things", "2. Second things", "3. Third"]


def test_letters_of_one_arabic_glyph_come_in_their_order():
    """Red: hardly a word with lam and alef can be found or quoted: half of Arabic's articles."""
    one, other = (0.0, 0.0, 5.0, 9.0), (5.0, 0.0, 8.0, 9.0)
    written = [
        ("\u0627", other),
        ("\u0623", one),
        ("\u0644", one),
        ("\u0627", other),
        ("\u0644", one),
    ]
    letters = [Letter(text, box) for text, box in written]
    pdf_layout._order_ligatures(letters)
    assert "".join(letter.text for letter in letters) == "\u0627\u0644\u0623\u0627\u0644"


def test_a_range_of_numbers_goes_on_in_the_next_line():
    """Red: "in 1904-12" cannot be quoted; a column of numbers becomes one of ranges."""
    texts = (
        "in the years 1904-",
        "12, see pages 98-",
        "103. The factors are 1.5-",
        "2.5 and 9-",
        "4",
    )
    assert lines(drawn(*((60, 700 - 12 * at, text) for at, text in enumerate(texts)))) == [
        "in the years 1904-12, see pages 98-103. The factors are 1.5-",
        "2.5 and 9-",
        "4",
    ]


def test_hidden_text_takes_no_part_in_a_table():
    """Red: white words become a cell."""
    output = BytesIO()
    canvas = Canvas(output, invariant=1)
    canvas.setFont("Helvetica", 10)
    for x, y, text in row_by_row(REGIONS):
        canvas.drawString(x, y, text)
    canvas.setFillColorRGB(1, 1, 1)
    canvas.drawString(180, 684, "99")
    canvas.showPage()
    canvas.save()
    blocks = read_pdf(output.getvalue()).blocks
    assert [(block.mark, block.text.split("\n")[1:2]) for block in blocks] == [
        ("", ["North\t\t14\t19"]),
        ("invisible", []),
    ]


@pytest.mark.parametrize("in_table", [False, True])
def test_raised_and_lowered_letters_have_their_signs(in_table):
    """Red: 2×10 to the sixth is read as 2×106; small capitals pass for exponents."""
    output = BytesIO()
    canvas = Canvas(output, invariant=1)
    for x, y, text in row_by_row(REGIONS) if in_table else ():
        canvas.drawString(x, y - 100, text)
    line = canvas.beginText(60, 760)
    for text, size, rise in (
        *(("2 x 10", 10, 0), ("6", 7, 4), (" kg CO", 10, 0), ("2", 7, -2), (" at N", 10, 0)),
        ("ORTH", 7, 0),
    ):
        line.setFont("Helvetica", size)
        line.setRise(rise)
        line.textOut(text)
    canvas.drawText(line)
    canvas.showPage()
    canvas.save()
    assert lines(output.getvalue())[0 if not in_table else -1] in {"2 x 10^{6} kg CO_{2} at NORTH"}


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(50, 90), (150, 190)], True),  # two cells
        ([(50, 53), (65, 250)], False),  # the sign of a list's item, and its text
        ([(50, 90), (93, 130)], False),  # two words
        ([(50, 270), (290, 510)], True),  # prose drawn across the gutter, line by line
    ],
)
def test_letters_are_looked_at_only_where_gaps_stand_above_each_other(spans, expected):
    assert (
        has_gutter([(left, y, right, y + 9) for y in (700, 688) for left, right in spans])
        is expected
    )


def test_prose_drawn_column_by_column_needs_no_look_at_its_letters():
    assert not has_gutter(
        [(left, y, left + 220, y + 9) for left in (50, 290) for y in (700, 688, 676)]
    )


def test_a_crowded_page_keeps_pdfiums_order_and_says_so(monkeypatch):
    """Red: 20,000 scattered texts keep a reader busy for many seconds."""
    page = drawn(*row_by_row(REGIONS))
    monkeypatch.setattr(pdf_layout, "_MOST_TEXTS", 5)
    reading = read_pdf(page)
    assert "North 14 19" in reading.blocks[0].text
    assert reading.warnings == ("page 1: too much text to look for tables; rows may be broken",)


def test_fractions_and_struck_words_of_a_page():
    """Red: a + b, 2 c and d are three lines that no one can put together; a rent that was crossed
    out is one of two; an underlined word or a total below a line is taken for either."""
    output = BytesIO()
    canvas = Canvas(output, invariant=1)
    canvas.setFont("Helvetica", 10)
    for x, y, text in (
        (60, 700, "The rent is 500 euro 600 euro, underlined too."),
        (60, 660, "r ="),
        (90, 667, "a + b"),
        (95, 652, "2 c"),
        (122, 660, "+ d"),
        (60, 620, "Ink"),
        (300, 620, "14"),
        (60, 606, "Sum"),
        (300, 606, "33"),
    ):
        canvas.drawString(x, y, text)
    for left, y, right in ((112, 703.2, 151), (206, 698.5, 250), (88, 662, 118), (299, 617.5, 312)):
        canvas.line(left, y, right, y)
    canvas.showPage()
    canvas.save()
    found = lines(output.getvalue())
    assert found[0] == "The rent is ~~500 euro~~ 600 euro, underlined too."
    assert found[1] == "r = \\frac{a + b}{2 c} + d"
    assert [line.split() for line in found[2:]] == [["Ink", "14"], ["Sum", "33"]]


def test_prose_beside_a_callout_is_no_table():
    """Red: a sentence is cut at each line by words that stand beside it in large letters."""
    beside = ("63 %", "of all investors", "use it as their", "main source")
    texts = row_by_row(zip(LEFT, beside, strict=True), xs=(60, 330))
    assert lines(drawn(*texts)) == [*LEFT, *beside]
    flags = [("-v", "print more than others do"), ("-q", "print less"), ("-x", "stop at the first")]
    flags += [("-y", "go on for a while and stop"), ("-z", "sleep")]
    found = lines(drawn(*row_by_row(flags, xs=(60, 120))))
    assert found == ["\t".join(row) for row in flags]
