import datetime
import re
import tracemalloc

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from office import RELATIONS, packed, refusal, relations, repacked, saved, shown, texts, unpacked
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.comments import Comment
from openpyxl.styles import Font

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.number_format import is_date_format, iso_date
from mm1cli.ingest.readers.number_format import shown as shown_number
from mm1cli.ingest.readers.rows import REPEATED, column_name, column_number
from mm1cli.ingest.readers.xlsx import read_xlsx

S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def book(sheet, strings=(), relate="", **more):
    """A workbook of one sheet, written by hand."""
    items = "".join(f"<si><t>{text}</t></si>" for text in strings)
    return packed(
        {
            "_rels/.rels": relations(rId1="officeDocument xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{S}" xmlns:r="{RELATIONS}"><sheets>'
            '<sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": relations(
                rId1="worksheet worksheets/sheet1.xml", rId2="sharedStrings sharedStrings.xml"
            ),
            "xl/sharedStrings.xml": f'<sst xmlns="{S}">{items}</sst>',
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{S}">{sheet}</worksheet>',
            **more,
        }
    )


def rows(xml):
    return f"<sheetData>{xml}</sheetData>"


def test_cells_are_read_with_their_place():
    """Red: a citation names the wrong cells, or a number no one wrote."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet.title = "Budget 2018"
    sheet.append(["item", "crowns", "share"])
    sheet.append(["wages", 264000, 0.1 + 0.2])
    sheet.append([None, True, "two\nlines\tand a tab"])
    sheet["B7"] = -1.5
    assert shown(read_xlsx(saved(workbook))) == [
        ("'Budget 2018'!A1:C1", "item\tcrowns\tshare"),
        ("'Budget 2018'!A2:C2", "wages\t264000\t0.3"),
        ("'Budget 2018'!A3:C3", "\tTRUE\ttwo lines and a tab"),
        ("'Budget 2018'!A7:B7", "\t-1.5"),
    ]


def test_dates_are_shown_as_the_cell_shows_them():
    """Red: a date is the number 45352, or another day."""
    workbook = openpyxl.Workbook()
    workbook.active.append(
        [
            datetime.date(2024, 3, 1),
            datetime.datetime(2024, 3, 1, 12, 30),
            datetime.time(1, 2, 3),
            datetime.timedelta(hours=30),
        ]
    )
    expected = ["2024-03-01\t2024-03-01 12:30:00\t1:02:03\t30:00:00"]
    assert texts(read_xlsx(saved(workbook))) == expected
    workbook.epoch = openpyxl.utils.datetime.CALENDAR_MAC_1904
    assert texts(read_xlsx(saved(workbook)))[0].split("\t")[:2] == expected[0].split("\t")[:2]


@settings(max_examples=200)
@given(st.datetimes(datetime.datetime(1900, 3, 1), datetime.datetime(9999, 12, 30)))
def test_serial_dates_come_back(moment):
    """Red: dates are off by a day or a second."""
    moment = moment.replace(microsecond=0)
    serial = openpyxl.utils.datetime.to_excel(moment)
    text = iso_date(serial, since_1904=False)
    assert datetime.datetime.fromisoformat(text) == moment


@pytest.mark.parametrize(
    ("code", "is_date"),
    [
        ("yyyy-mm-dd", True),
        ("[h]:mm", True),
        ("[$-409]d\\-mmm;@", True),
        ("General", False),
        ("0.00", False),
        ('0 "days"', False),
        ("[Red]0.0", False),
        ("#,##0\\ h", True),
        ("0.00E+00", False),
        ("@", False),
    ],
)
def test_date_formats_are_told_from_others(code, is_date):
    """Red: prices become dates, or dates become numbers."""
    assert is_date_format(code) is is_date


def test_formulas_give_their_stored_value():
    """Red: the model reads =B2*C2 where people see 48.2; or reads nothing."""
    data = book(
        rows(
            '<row r="1"><c r="A1"><f>1+1</f><v>2</v></c><c r="B1" t="str"><f>"a"</f><v>a</v></c>'
            '<c r="C1"><f>SUM(A1)</f></c></row>'
        )
    )
    reading = read_xlsx(data)
    assert texts(reading) == ["2\ta\t=SUM(A1)"]
    assert reading.warnings == (
        "sheet S: 1 formulas have no stored value and are given as formulas",
    )


def test_hidden_sheets_and_rows_are_marked_and_columns_named():
    """Red: what an author hid passes for what the reader sees, or is lost."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    for index in range(3):
        sheet.append([index, "x"])
    sheet.row_dimensions[2].hidden = True
    sheet.column_dimensions["B"].hidden = True
    hidden = workbook.create_sheet("Old")
    hidden["A1"] = "secret"
    hidden.sheet_state = "veryHidden"
    reading = read_xlsx(saved(workbook))
    assert shown(reading) == [
        ("Sheet!A1:B1", "0\tx"),
        ("Sheet!A2:B2 (hidden row)", "1\tx"),
        ("Sheet!A3:B3", "2\tx"),
        ("Old!A1 (hidden sheet)", "secret"),
    ]
    assert reading.warnings == (
        "sheet Sheet: hidden columns are read: B",
        "hidden row: text kept and marked",
        "hidden sheet: text kept and marked",
    )


def test_a_merged_cell_has_its_text_once_and_comments_their_cell():
    """Red: a merged heading is repeated for each cell; a remark is lost."""
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    sheet["A1"] = "wide"
    sheet["C2"] = "c"
    sheet.merge_cells("A1:B2")
    sheet["C2"].comment = Comment("why?", "Ann")
    assert shown(read_xlsx(saved(workbook))) == [
        ("Sheet!A1:C1", "wide"),
        ("Sheet!A2:C2", "\t\tc"),
        ("Sheet!C2 (comment)", "Ann: why?"),
    ]


def test_text_boxes_of_a_sheet_are_read_at_their_cell():
    """Red: the explanation beside the table is lost."""
    drawing = (
        '<d xmlns="urn:x"><twoCellAnchor><from><col>2</col><row>4</row></from><sp><nvSpPr>'
        '<cNvPr descr="a sign"/></nvSpPr><txBody><p><r><t>note</t></r></p></txBody></sp>'
        "</twoCellAnchor></d>"
    )
    data = book(
        rows('<row r="1"><c r="A1"><v>1</v></c></row>'),
        **{
            "xl/worksheets/_rels/sheet1.xml.rels": relations(rId1="drawing ../drawings/d.xml"),
            "xl/drawings/d.xml": drawing,
        },
    )
    assert shown(read_xlsx(data)) == [
        ("S!A1", "1"),
        ("S!C5 (text box)", "note"),
        ("S!C5 (alt text)", "a sign"),
    ]


def test_a_lying_dimension_costs_nothing():
    """Red: a sheet that claims 17 billion cells fills the memory with empty ones."""
    data = book(
        '<dimension ref="A1:XFD1048576"/>'
        + rows(
            '<row r="1"><c r="A1"><v>1</v></c><c r="XFD1"><v>2</v></c></row>'
            '<row r="1048576"><c r="XFD1048576"><v>3</v></c></row>'
            '<row r="999999999999"><c r="ZZZZ9"><v>4</v></c></row>'
        )
    )
    tracemalloc.start()
    found = shown(read_xlsx(data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    corners = [("S!XFD1", "2"), ("S!XFD1048576", "3")]
    assert found == [("S!A1", "1"), ("S!A999999999999", "4"), *corners]
    assert peak < 4_000_000


def test_columns_far_apart_do_not_fill_with_tabs():
    """Red: a staircase of cells turns 20 bytes each into 16,384 tabs each."""
    stairs = "".join(
        f'<row r="{row}"><c r="{column_name(row * 60)}{row}"><v>1</v></c></row>'
        for row in range(1, 250)
    )
    reading = read_xlsx(book(rows(stairs)))
    assert sum(len(block.text) for block in reading.blocks) < 250 * 70
    addresses = [f"{column_name(row * 60)}{row}: 1" for row in range(1, 250)]
    assert [line.strip("\t") for line in texts(reading)] == ["1", "1", *addresses[2:]]


def test_one_long_string_named_a_million_times_is_refused():
    """Red: a file of 100 KB becomes gigabytes of text."""
    cells = '<c t="s"><v>0</v></c>' * 2000
    data = book(rows(f"<row>{cells}</row>" * 5), strings=["x" * 32_000])
    error = refusal(read_xlsx, data)
    assert error.reason is Reason.TOO_LARGE and "text" in error.detail


def test_sheets_without_numbers_for_rows_and_cells_are_read():
    """Red: workbooks written by other programs are empty."""
    data = book(
        rows(
            '<row><c t="inlineStr"><is><r><t>rich </t></r><r><t>text</t></r>'
            '<rPh><t>guide</t></rPh></is></c><c t="s"><v>1</v></c></row><row><c><v>7</v></c></row>'
        ),
        strings=["zero", "one"],
    )
    assert shown(read_xlsx(data)) == [("S!A1:B1", "rich text\tone"), ("S!A2:B2", "7")]


def test_iso_strict_workbooks_open():
    """Red: "Strict Open XML" workbooks are empty."""
    workbook = openpyxl.Workbook()
    workbook.active["A1"] = "strict"
    parts = {
        name: content.replace(S.encode(), b"http://purl.oclc.org/ooxml/spreadsheetml/main").replace(
            RELATIONS.encode(), b"http://purl.oclc.org/ooxml/officeDocument/relationships"
        )
        for name, content in unpacked(saved(workbook)).items()
    }
    assert texts(read_xlsx(packed(parts))) == ["strict"]


def test_a_sheet_that_is_cut_off_gives_what_came_before():
    """Red: a damaged sheet is dropped whole, or passes for complete."""
    workbook = openpyxl.Workbook()
    for index in range(50):
        workbook.active.append([f"row {index}"])
    workbook.create_sheet("Two")["A1"] = "second"
    parts = unpacked(saved(workbook))
    sheet = parts["xl/worksheets/sheet1.xml"]
    reading = read_xlsx(packed(parts | {"xl/worksheets/sheet1.xml": sheet[: len(sheet) // 2]}))
    assert "row 3" in texts(reading) and "second" in texts(reading)
    assert len(reading.warnings) == 1 and "cannot be read to its end" in reading.warnings[0]


def test_what_is_no_workbook_is_refused():
    """Red: a broken file ends the run, or is called empty."""
    workbook = openpyxl.Workbook()
    assert refusal(read_xlsx, saved(workbook)).reason is Reason.EMPTY
    assert refusal(read_xlsx, saved(workbook)[:-500]).reason is Reason.UNREADABLE
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
    data = book(rows('<row><c t="s"><v>0</v></c></row>'), strings=["zero"])
    for name in ("xl/workbook.xml", "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"):
        xml = unpacked(data)[name].decode().replace("zero", "&b;")
        error = refusal(read_xlsx, repacked(data, {name: laughs + xml}))
        assert error.reason is Reason.UNREADABLE and "entity" in error.detail


@given(st.integers(1, 18_278))
def test_column_names_and_numbers_are_inverse(column):
    """Red: locators name another column."""
    assert column_number(column_name(column)) == column
    assert column_name(column) == openpyxl.utils.get_column_letter(column)


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cn", "Co"]), min_size=1
).map(lambda text: f"x{text}x")
places = st.tuples(st.integers(1, 300), st.integers(1, 300))


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(places, words, min_size=1, max_size=12))
def test_every_cell_comes_out_where_its_locator_says(cells):
    """Red: a cell is lost, or cited at another address."""
    workbook = openpyxl.Workbook()
    for (row, column), text in cells.items():
        workbook.active.cell(row, column).value = text
    found = {}
    for block in read_xlsx(saved(workbook)).blocks:
        for offset, line in enumerate(block.text.split("\n")):
            left = column_number(block.columns[0])
            for index, text in enumerate(line.split("\t")):
                address = re.match(r"([A-Z]+)([0-9]+): ", text)
                if address:
                    found[int(address[2]), column_number(address[1])] = text[address.end() :]
                elif text and block.mark != REPEATED:
                    assert left + index <= column_number(block.columns[1])
                    found[block.first + offset, left + index] = text
    assert found == cells


def blocks_of(fill):
    workbook = openpyxl.Workbook()
    workbook.active.title = "S"
    fill(workbook.active)
    return [
        (str(block.locate(0, len(block.text))), block.text)
        for block in read_xlsx(saved(workbook)).blocks
    ]


def test_blocks_of_a_sheet_share_a_left_edge_and_carry_the_header_of_their_table():
    """Red: after a blank, hidden or hundredth row, values stand under other columns' names."""

    def plan(sheet):
        for row in (["Item", "Plan", "Actual", "Delta"], ["a", 1, 2, 1], [], [None, None, 9, 4]):
            sheet.append(row)

    assert blocks_of(plan) == [
        ("S!A1:D2", "Item\tPlan\tActual\tDelta\na\t1\t2\t1"),
        ("S!A4:D4", "\t\t9\t4"),
    ]

    def hidden(sheet):
        for row in (["Item", "Plan", "Actual"], ["a", 1, 2], [None, 7, 8], ["b", 3, 4]):
            sheet.append(row)
        sheet.row_dimensions[3].hidden = True

    header = ("S!A1:C1 (header row, repeated)", "Item\tPlan\tActual")
    assert blocks_of(hidden)[1:] == [
        header,
        ("S!A3:C3 (hidden row)", "\t7\t8"),
        header,
        ("S!A4:C4", "b\t3\t4"),
    ]

    def long(sheet):
        sheet.append(["", "Plan", "2021"])
        for at in range(120):
            sheet.append([None, at] if at else ["first", 0])

    assert [where for where, _ in blocks_of(long)] == [
        "S!A1:C100",
        "S!A1:C1 (header row, repeated)",
        "S!A101:B121",
    ]


def test_a_lone_cell_far_from_the_edge_has_its_address():
    """Red: a model counts forty tabs, or does not."""
    assert blocks_of(lambda sheet: sheet.cell(1, 1, "a") and sheet.cell(5, 40, "far"))[1] == (
        "S!AN5",
        "AN5: far",
    )


@pytest.mark.parametrize(
    ("stored", "code", "expected"),
    [
        ("0.075", "0.0%", "7.5%"),
        ("0.0749", "0%", "7% [0.0749]"),
        ("1234.5", '"$"#,##0.00', "$1,234.50"),
        ("99", "#,##0.00 [$€-407]", "99.00 €"),
        ("-1200.5", "_($* #,##0.00_);_($* (#,##0.00)", "$(1,200.50)"),
        ("501", "00000", "00501"),
        ("5551234", "000-0000", "555-1234"),
        ("1234567", '0.0,,"M"', "1.2M [1234567]"),
        ("0", '#,##0;-#,##0;"-"', "-"),
        ("-3", "0;;", "[-3]"),
        ("5", "[<10]0.0;[>=10]0", "5.0"),
        ("46096", "mm/dd/yyyy", "03/15/2026 [2026-03-15]"),
        ("46096", "d mmm yyyy", "15 Mar 2026"),
        ("46096.5", "d mmm yyyy", "15 Mar 2026 [2026-03-15T12:00:00]"),
        ("0.545138888888889", "h:mm AM/PM", "1:05 PM"),
        ("1.5", "[h]:mm:ss", "36:00:00"),
        ("1.23e-06", "General", "1.23e-06"),
        ("0.25", "# ?/?", "0.25"),
    ],
)
def test_numbers_read_as_the_cell_shows_them(stored, code, expected):
    """Red: people see 7.5% and 00501, the model reads 0.075 and 501; or lost digits stay lost."""
    assert shown_number(stored, code) == expected


@given(st.floats(), st.text('0#?.,%E+-/@;[]$ymdhs"\\_* AG', max_size=20))
@settings(max_examples=10)
def test_no_format_breaks_the_reader(value, code):
    """Red: one odd format costs the whole workbook."""
    assert isinstance(shown_number(repr(value), code), str)


def test_notes_stand_beside_threads():
    """Red: where one cell has a thread, the notes on all other cells are lost."""
    sheet = rows('<row r="1"><c r="A1"><v>1</v></c></row>')
    notes = "".join(
        f'<comment ref="{cell}" authorId="0"><text><t>{text}</t></text></comment>'
        for cell, text in (("A1", "[Threaded comment]"), ("B2", "a note"))
    )
    data = book(
        sheet,
        **{
            "xl/worksheets/_rels/sheet1.xml.rels": relations(
                rId1="comments ../comments1.xml", rId2="threadedComment ../threads.xml"
            ),
            "xl/comments1.xml": f'<comments xmlns="{S}"><authors><author>Jan</author></authors>'
            f"<commentList>{notes}</commentList></comments>",
            "xl/threads.xml": '<ThreadedComments><threadedComment ref="A1" personId="p">'
            "<text>in a thread</text></threadedComment></ThreadedComments>",
            "xl/persons/person.xml": '<personList><person id="p" displayName="Eva"/></personList>',
            "xl/_rels/workbook.xml.rels": relations(
                rId1="worksheet worksheets/sheet1.xml",
                rId2="sharedStrings sharedStrings.xml",
                rId3="person persons/person.xml",
            ),
        },
    )
    assert shown(read_xlsx(data))[1:] == [
        ("S!A1 (comment)", "Eva: in a thread"),
        ("S!B2 (comment)", "Jan: a note"),
    ]


def test_a_workbook_of_embedded_files_lists_them():
    """Red: a workbook with nothing but a contract in it is called empty."""
    data = book(
        "",
        **{
            "xl/worksheets/_rels/sheet1.xml.rels": relations(rId1="package ../embeddings/a.pdf"),
            "xl/embeddings/a.pdf": "%PDF-",
        },
    )
    assert [member.name for member in read_xlsx(data).members] == ["a.pdf"]


def test_tables_side_by_side_are_apart_and_a_blank_column_alone_parts_nothing():
    """Red: Ann's row goes on with a pen's price; or a balance sheet loses its numbers."""
    beside = [["Item", "Cost", None, "Item", "Cost"], ["Ink", 5, None, "Pens", 7]]
    beside.append([None, None, None, "Tea", 9])
    spaced = [["Assets", None, "2023", None, "2022"], ["Cash", None, 5, None, 6]]

    def fill(sheet, table):
        for row in table:
            sheet.append(row)

    assert blocks_of(lambda sheet: fill(sheet, beside)) == [
        ("S!A1:B2", "Item\tCost\nInk\t5"),
        ("S!D1:E3", "Item\tCost\nPens\t7\nTea\t9"),
    ]
    whole = "Assets\t\t2023\t\t2022\nCash\t\t5\t\t6"
    assert blocks_of(lambda sheet: fill(sheet, spaced)) == [("S!A1:E2", whole)]


def test_struck_and_raised_letters_of_cells_and_their_links():
    """Red: a task that was crossed out stands as open; a link's address is lost."""

    def fill(sheet):
        sheet.append(["Pay rent", "open"])
        sheet["A1"].font = Font(strike=True)
        raised = TextBlock(InlineFont(vertAlign="superscript"), "6")
        sheet["B1"] = CellRichText("10", raised)
        sheet["A2"] = "our terms"
        sheet["A2"].hyperlink = "https://example.org/terms"

    assert [text for _, text in blocks_of(fill)] == [
        "~~Pay rent~~\t10^{6}\nour terms",
        "S!A2: https://example.org/terms",
    ]


def test_a_name_over_several_columns_stands_over_each_and_a_title_once():
    """Red: which year the second Q1 is of can only be guessed."""

    def fill(sheet):
        for row in (
            ["Budget", None, None],
            ["Region", 2023, None, 2024, None],
            [None, "Q1", "Q2", "Q1", "Q2"],
            ["North", 1, 2, 3, 4],
        ):
            sheet.append(row)
        for cells in ("A1:E1", "B2:C2", "D2:E2", "A4:B4"):
            sheet.merge_cells(cells)

    (_, text), *_ = blocks_of(fill)
    assert text.split("\n")[:3] == [
        "Budget",
        "Region\t2023\t2023\t2024\t2024",
        "\tQ1\tQ2\tQ1\tQ2",
    ]
