import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st
from odf import draw, opendocument, presentation, style, table, text
from office import packed, refusal, repacked, saved, shown, texts

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.odf import read_odf

NAMESPACES = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for prefix, name in {
        "office": "office",
        "text": "text",
        "table": "table",
        "draw": "drawing",
        "style": "style",
        "presentation": "presentation",
        "svg": "svg-compatible",
    }.items()
)
DC = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'
MIMETYPE = "application/vnd.oasis.opendocument."


def document(kind, body, styles="", **parts):
    content = (
        f"<office:document-content {NAMESPACES} {DC}><office:automatic-styles>{styles}"
        f"</office:automatic-styles><office:body><office:{kind}>{body}</office:{kind}>"
        "</office:body></office:document-content>"
    )
    return packed({"mimetype": MIMETYPE + kind, "content.xml": content, **parts})


def sheet(rows, name="S", **attributes):
    more = " ".join(f'table:{key}="{value}"' for key, value in attributes.items())
    return f'<table:table table:name="{name}" {more}>{rows}</table:table>'


def row(cells, attributes=""):
    return f"<table:table-row {attributes}>{cells}</table:table-row>"


def cell(value, attributes=""):
    return f"<table:table-cell {attributes}><text:p>{value}</text:p></table:table-cell>"


def test_a_text_document_of_a_library_is_read():
    """Red: a letter from LibreOffice is lost, or its headings are."""
    odt = opendocument.OpenDocumentText()
    odt.text.addElement(text.H(outlinelevel=1, text="Costs"))
    paragraph = text.P(text="one")
    paragraph.addElement(text.Tab())
    paragraph.addElement(text.S(c=2))
    paragraph.addText("two")
    paragraph.addElement(text.LineBreak())
    paragraph.addText("three")
    odt.text.addElement(paragraph)
    items = text.List()
    item = text.ListItem()
    item.addElement(text.P(text="item"))
    items.addElement(item)
    odt.text.addElement(items)
    odt.text.addElement(text.H(outlinelevel=2, text="2017"))
    grid = table.Table()
    line = table.TableRow()
    for value in ("a", "b"):
        box = table.TableCell()
        box.addElement(text.P(text=value))
        line.addElement(box)
    grid.addElement(line)
    odt.text.addElement(grid)
    reading = read_odf(saved(odt))
    assert shown(reading) == [
        ("¶ 1", "# Costs"),
        ("¶ 2", "one\t  two three"),
        ("¶ 3", "- item"),
        ("¶ 4", "## 2017"),
        ("¶ 5", "a\tb"),
    ]
    assert [block.headings for block in reading.blocks] == [("Costs",), ("Costs", "2017")]


def test_notes_comments_boxes_and_hidden_text_are_marked():
    """Red: what hangs on a paragraph is lost, or passes for its text."""
    body = (
        "<text:tracked-changes><text:changed-region><text:deletion><text:p>gone</text:p>"
        "</text:deletion></text:changed-region></text:tracked-changes>"
        '<text:p>claim<text:note text:note-class="footnote"><text:note-citation>1'
        "</text:note-citation><text:note-body><text:p>the note</text:p></text:note-body>"
        "</text:note> goes<office:annotation><dc:creator>Ann</dc:creator><text:p>why?</text:p>"
        "</office:annotation> on<draw:frame><draw:text-box><text:p>box</text:p></draw:text-box>"
        "<svg:desc>a sign</svg:desc></draw:frame></text:p>"
        '<text:section text:display="none"><text:p>secret</text:p></text:section>'
    )
    reading = read_odf(document("text", body))
    assert shown(reading) == [
        ("¶ 1", "claim[footnote 1] goes[comment 1] on"),
        ("¶ 2 (footnote 1)", "the note"),
        ("¶ 3 (comment 1)", "Ann: why?"),
        ("¶ 4 (text box)", "box"),
        ("¶ 5 (alt text)", "a sign"),
        ("¶ 6 (hidden)", "secret"),
    ]
    assert reading.warnings == (
        "hidden: text kept and marked",
        "tracked changes: 1 deletions left out",
    )


def test_headers_and_footers_come_last_and_once():
    """Red: what stands on every page is lost, or shifts the count of paragraphs."""
    master = "".join(
        f"<style:master-page><style:header><text:p>Confidential</text:p></style:header>"
        f"<style:footer><text:p>{footer}</text:p></style:footer></style:master-page>"
        for footer in ("Port", "Port")
    )
    styles = f"<office:document-styles {NAMESPACES}>{master}</office:document-styles>"
    data = document("text", "<text:p>body</text:p>", **{"styles.xml": styles})
    assert shown(read_odf(data)) == [
        ("¶ 1", "body"),
        ("¶ 2 (header)", "Confidential"),
        ("¶ 3 (footer)", "Port"),
    ]


def test_presentations_are_read_slide_by_slide():
    """Red: a talk from LibreOffice is lost, or what was hidden passes for shown."""
    body = (
        '<draw:page draw:style-name="shown"><draw:frame presentation:class="title"><draw:text-box>'
        "<text:p>Title</text:p></draw:text-box></draw:frame><draw:g><draw:custom-shape>"
        "<text:p>shape</text:p></draw:custom-shape></draw:g><draw:frame>"
        + sheet(row(cell("a") + cell("b")))
        + "</draw:frame><presentation:notes><draw:page-thumbnail/><draw:frame><draw:text-box>"
        "<text:p>say this</text:p></draw:text-box></draw:frame></presentation:notes></draw:page>"
        '<draw:page draw:style-name="gone"><draw:frame><draw:text-box><text:p>back</text:p>'
        "</draw:text-box></draw:frame></draw:page><draw:page/>"
    )
    styles = (
        '<style:style style:name="gone"><style:drawing-page-properties'
        ' presentation:visibility="hidden"/></style:style>'
    )
    reading = read_odf(document("presentation", body, styles))
    assert shown(reading) == [
        ("slide 1", "# Title"),
        ("slide 1", "shape"),
        ("slide 1", "a\tb"),
        ("slide 1 (notes)", "say this"),
        ("slide 2 (hidden slide)", "back"),
    ]
    assert reading.blocks[0].headings == ("Title",)
    assert reading.warnings == ("without text: slide 3", "hidden slide: text kept and marked")


def test_a_presentation_of_a_library_is_read():
    """Red: only files written by hand are read."""
    odp = opendocument.OpenDocumentPresentation()
    layout = style.PageLayout(name="L")
    odp.automaticstyles.addElement(layout)
    master = style.MasterPage(name="M", pagelayoutname=layout)
    odp.masterstyles.addElement(master)
    page = draw.Page(name="p", masterpagename=master)
    odp.presentation.addElement(page)
    frame = draw.Frame(width="1cm", height="1cm", x="0cm", y="0cm")
    page.addElement(frame)
    box = draw.TextBox()
    frame.addElement(box)
    box.addElement(text.P(text="hello"))
    notes = presentation.Notes()
    page.addElement(notes)
    assert shown(read_odf(saved(odp))) == [("slide 1", "hello")]


def test_cells_give_their_values_at_their_place():
    """Red: a citation names the wrong cells, or 0.25 is read where people see 25 %."""
    values = "".join(
        cell(display, f'office:value-type="{kind}" office:{kind_value}="{value}"')
        for display, kind, kind_value, value in [
            ("1,5", "float", "value", "1.5"),
            ("25 %", "percentage", "value", "0.25"),
            ("1. March", "date", "date-value", "2024-03-01"),
            ("30:00", "time", "time-value", "PT30H00M05S"),
            ("yes", "boolean", "boolean-value", "true"),
        ]
    )
    rows = (
        row(values)
        + row('<table:table-cell table:number-columns-repeated="2"/>' + cell("c"))
        + row("<table:table-cell/>", 'table:number-rows-repeated="5"')
        + row(cell("x", 'table:number-columns-repeated="2"'), 'table:number-rows-repeated="2"')
        + row(cell("gone"), 'table:visibility="collapse"')
    )
    data = document("spreadsheet", sheet(rows, "Bud get"))
    assert shown(read_odf(data)) == [
        ("'Bud get'!A1:E1", "1,5\t25 %\t1. March [2024-03-01]\t30:00:05\tTRUE"),
        ("'Bud get'!A2:E2", "\t\tc"),
        ("'Bud get'!A8:B8", "x\tx"),
        ("'Bud get'!A9:B9", "x\tx"),
        ("'Bud get'!A8:B8 (header row, repeated)", "x\tx"),
        ("'Bud get'!A10 (hidden row)", "gone"),
    ]


def test_hidden_sheets_and_comments_are_marked():
    """Red: what an author hid passes for what the reader sees."""
    styles = (
        '<style:style style:name="h"><style:table-properties table:display="false"/></style:style>'
    )
    note = (
        "<office:annotation><dc:creator>Ann</dc:creator><text:p>why?</text:p></office:annotation>"
    )
    body = sheet(row(f"<table:table-cell>{note}<text:p>a</text:p></table:table-cell>")) + sheet(
        row(cell("secret")), "Old", **{"style-name": "h"}
    )
    reading = read_odf(document("spreadsheet", body, styles))
    assert shown(reading) == [
        ("S!A1", "a"),
        ("S!A1 (comment)", "Ann: why?"),
        ("Old!A1 (hidden sheet)", "secret"),
    ]
    assert [block.place.index for block in reading.blocks] == [0, 0, 1]


def test_repeated_cells_do_not_fill_the_memory():
    """Red: twenty bytes say "a million rows of a thousand cells", and get them."""
    rows = row(
        cell("x" * 1000, 'table:number-columns-repeated="16384"'),
        'table:number-rows-repeated="1048576"',
    ) + row(cell("end"))
    tracemalloc.start()
    reading = read_odf(document("spreadsheet", sheet(rows)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shown(reading)[-1][1] == "end" and shown(reading)[-1][0] == "S!A1048577"
    assert peak < 4_000_000 and len(reading.warnings) == 2


def test_flat_files_are_read_too():
    """Red: .fodt and .fods are taken for XML and their markup is read."""
    body = "<office:body><office:text><text:p>flat</text:p></office:text></office:body>"
    flat = f'<?xml version="1.0"?><office:document {NAMESPACES}>{body}</office:document>'
    assert texts(read_odf(flat.encode())) == ["flat"]
    rows = sheet(row(cell("a")))
    rows = f"<office:body><office:spreadsheet>{rows}</office:spreadsheet></office:body>"
    flat = (
        f'<?xml version="1.0"?><office:document {NAMESPACES} office:mimetype="{MIMETYPE}'
        f'spreadsheet">{rows}</office:document>'
    )
    assert shown(read_odf(flat.encode())) == [("S!A1", "a")]


def test_locked_and_broken_documents_are_told_apart():
    """Red: people with a locked file are told that it is broken."""
    data = document("text", "<text:p>body</text:p>")
    manifest = (
        '<m:manifest xmlns:m="urn:m"><m:file-entry><m:encryption-data/></m:file-entry></m:manifest>'
    )
    locked = repacked(data, {"META-INF/manifest.xml": manifest})
    assert refusal(read_odf, locked).reason is Reason.ENCRYPTED
    assert refusal(read_odf, data[:60]).reason is Reason.UNREADABLE
    assert refusal(read_odf, document("text", "")).reason is Reason.EMPTY
    assert refusal(read_odf, document("spreadsheet", sheet(row("")))).reason is Reason.EMPTY
    laughs = '<!DOCTYPE x [<!ENTITY a "ha">]><x>&a;</x>'
    for kind in ("text", "spreadsheet"):
        hostile = repacked(document(kind, ""), {"content.xml": laughs})
        assert refusal(read_odf, hostile).reason in {Reason.UNREADABLE, Reason.EMPTY}


def test_a_spreadsheet_that_is_cut_off_gives_what_came_before():
    """Red: a damaged sheet is dropped whole, or passes for complete."""
    rows = "".join(row(cell(f"row {index}")) for index in range(3))
    data = document("spreadsheet", sheet(rows) + "<broken")
    reading = read_odf(data)
    assert texts(reading) == ["row 0", "row 1", "row 2"]
    assert len(reading.warnings) == 1 and "cannot be read to its end" in reading.warnings[0]


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cn", "Co"]), min_size=1
).map(lambda text: f"x{text}x")


@settings(max_examples=15, deadline=None)
@given(st.lists(words, min_size=1, max_size=6))
def test_whatever_is_written_comes_out_in_order(paragraphs):
    """Red: text is lost, or cited at another paragraph."""
    odt = opendocument.OpenDocumentText()
    for content in paragraphs:
        odt.text.addElement(text.P(text=content))
    expected = [(f"¶ {index}", content) for index, content in enumerate(paragraphs, 1)]
    assert shown(read_odf(saved(odt))) == expected


def test_raised_letters_numbers_of_lists_and_links():
    """Red: two million is read as 2×106; the second step has no number."""
    styles = (
        '<style:style style:name="T1"><style:text-properties'
        ' style:text-position="super 58%"/></style:style><text:list-style style:name="L1">'
        '<text:list-level-style-number text:level="1" style:num-format="1"/></text:list-style>'
    )
    items = "".join(
        f"<text:list-item><text:p>{text}</text:p></text:list-item>" for text in ("first", "second")
    )
    body = (
        '<text:p>2×10<text:span text:style-name="T1">6</text:span></text:p>'
        f'<text:list text:style-name="L1">{items}</text:list>'
        '<text:p>see <text:a href="https://example.org/t">terms</text:a></text:p>'
    )
    assert shown(read_odf(document("text", body, styles))) == [
        ("¶ 1", "2×10^{6}"),
        ("¶ 2", "1. first"),
        ("¶ 3", "2. second"),
        ("¶ 4", "see terms"),
        ("¶ 5 (links)", "terms: https://example.org/t"),
    ]


def test_a_table_in_a_cell_keeps_its_rows():
    """Red: which part of a plan costs what is one run of words."""
    cell = "<table:table-cell>{}</table:table-cell>"
    row = "<table:table-row>{}</table:table-row>"
    word = "<text:p>{}</text:p>"

    def cells(*texts):
        return row.format("".join(cell.format(word.format(one)) for one in texts))

    inner = f"<table:table>{cells('Seat', '10')}{cells('Disk', '5')}</table:table>"
    outer = row.format(cell.format(word.format("Basic")) + cell.format(inner))
    data = document("text", f"<table:table>{cells('Plan', 'Parts')}{outer}</table:table>")
    assert texts(read_odf(data)) == ["Plan\tParts", "Basic", "Seat\t10", "Disk\t5"]
