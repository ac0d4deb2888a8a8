import docx
import pytest
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml
from hypothesis import given, settings
from hypothesis import strategies as st
from office import RELATIONS, packed, refusal, relations, repacked, saved, shown, texts, unpacked

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.docx import read_docx

MAIN = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
W = f'xmlns:w="{MAIN}"'
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml"
STRICT = (
    (RELATIONS, "http://purl.oclc.org/ooxml/officeDocument/relationships"),
    (MAIN, "http://purl.oclc.org/ooxml/wordprocessingml/main"),
)


def lines(document):
    return shown(read_docx(saved(document)))


def append(document, xml):
    document.element.body.insert(-1, parse_xml(xml.replace(">", f" {W}>", 1)))


def add_part(document, role, xml):
    name = PackURI(f"/word/{role}.xml")
    part = Part(name, f"{WORD}.{role}+xml", xml.encode(), document.part.package)
    document.part.relate_to(part, f"{RELATIONS}/{role}")


def paragraph(text, properties=""):
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def test_paragraphs_and_tables_come_in_order_and_are_counted():
    """Red: the table moves to the end, or ¶ 4 of a citation is not the fourth paragraph."""
    document = docx.Document()
    document.add_paragraph("before\nthe table")
    document.add_paragraph("")
    table = document.add_table(2, 2)
    for index, text in enumerate(["a", "b", "c\nsecond", ""]):
        table.cell(index // 2, index % 2).text = text
    table.cell(1, 1).add_table(1, 2).cell(0, 1).text = "nested"
    document.add_paragraph("after")
    assert lines(document) == [
        ("¶ 1", "before the table"),
        ("¶ 2", "a\tb"),
        ("¶ 3", "c second"),
        ("¶ 4", "\tnested"),
        ("¶ 5", "after"),
    ]


def test_a_large_first_letter_begins_its_word():
    """Red: "Drop cap." is a paragraph "D" and one "rop cap.", and no search finds "drop"."""
    document = docx.Document()
    frame = '<w:pPr><w:framePr w:dropCap="{}"/></w:pPr>'
    append(document, paragraph("D", frame.format("drop")))
    append(document, paragraph("rop cap."))
    append(document, paragraph("framed", frame.format("none")))
    append(document, paragraph("E", frame.format("margin")))
    assert [line for _, line in lines(document)] == ["Drop cap.", "framed", "E"]


def test_merged_cells_keep_the_columns_apart():
    """Red: values after a wide cell slip one column to the left."""
    document = docx.Document()
    table = document.add_table(2, 3)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide"
    table.cell(0, 2).text = "c"
    table.cell(1, 2).text = "f"
    assert lines(document) == [("¶ 1", "wide\t\tc"), ("¶ 2", "\t\tf")]


def test_headings_make_a_path():
    """Red: a citation cannot say under which heading its text stands."""
    document = docx.Document()
    document.add_heading("Report", 0)
    document.add_paragraph("intro")
    document.add_heading("Costs", 1)
    document.add_heading("2017", 2)
    document.add_paragraph("48.2 million")
    document.add_heading("Dates", 1)
    own = document.add_paragraph("own level")
    own._p.get_or_add_pPr().append(parse_xml(f'<w:outlineLvl {W} w:val="1"/>'))
    blocks = read_docx(saved(document)).blocks
    assert [(block.headings, block.text) for block in blocks] == [
        (("Report",), "# Report\nintro"),
        (("Report", "Costs"), "# Costs"),
        (("Report", "Costs", "2017"), "## 2017\n48.2 million"),
        (("Report", "Dates"), "# Dates"),
        (("Report", "Dates", "own level"), "## own level"),
    ]


def test_styles_based_on_a_heading_are_headings():
    """Red: companies name their styles after themselves, and the path stays empty."""
    document = docx.Document()
    style = document.styles.add_style("Firm Heading", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = document.styles["Heading 2"]
    document.add_paragraph("ours", style="Firm Heading")
    assert read_docx(saved(document)).blocks[0].headings == ("ours",)


def test_text_that_python_docx_passes_over_is_read():
    """Red: forms, tracked insertions and text boxes are dropped in silence."""
    document = docx.Document()
    append(document, f"<w:sdt><w:sdtContent>{paragraph('control')}</w:sdtContent></w:sdt>")
    append(
        document,
        "<w:p><w:ins><w:r><w:t>kept</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>gone</w:delText><w:t>gone too</w:t></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>old place</w:t></w:r></w:moveFrom>"
        "<w:moveTo><w:r><w:t> moved</w:t></w:r></w:moveTo></w:p>",
    )
    append(
        document,
        f"<w:p><w:r><w:t>anchor</w:t><w:pict><w:txbxContent>{paragraph('box')}"
        "</w:txbxContent></w:pict></w:r></w:p>",
    )
    reading = read_docx(saved(document))
    assert shown(reading) == [
        ("¶ 1", "control"),
        ("¶ 2", "kept moved"),
        ("¶ 3", "anchor"),
        ("¶ 4 (text box)", "box"),
    ]
    assert reading.warnings == ("tracked changes: 2 insertions read, 2 deletions left out",)


def test_a_text_box_is_read_once_though_it_stands_there_twice():
    """Red: every text box fills the context twice, or not at all where only the old form has it."""
    mc = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    box = f"<w:txbxContent>{paragraph('box')}</w:txbxContent>"
    for choice, fallback in ((box, box), ("", box), (box, "")):
        document = docx.Document()
        append(
            document,
            f"<w:p><w:r><mc:AlternateContent {mc}><mc:Choice>{choice}</mc:Choice>"
            f"<mc:Fallback>{fallback}</mc:Fallback></mc:AlternateContent></w:r></w:p>",
        )
        assert lines(document) == [("¶ 1 (text box)", "box")]


def test_hidden_text_is_marked():
    """Red: white lies to the model in text that no reader of the page sees."""
    document = docx.Document()
    seen = document.add_paragraph("seen ")
    seen.add_run("unseen").font.hidden = True
    seen.add_run("again")
    style = document.styles.add_style("Ghost", docx.enum.style.WD_STYLE_TYPE.PARAGRAPH)
    style.font.hidden = True
    document.add_paragraph("ghost", style="Ghost")
    assert lines(document) == [
        ("¶ 1", "seen again"),
        ("¶ 2 (hidden)", "unseen"),
        ("¶ 3 (hidden)", "ghost"),
    ]


def run(text, *properties):
    return (
        f"<w:r><w:rPr>{''.join(f'<w:{one}/>' for one in properties)}</w:rPr><w:t>{text}</w:t></w:r>"
    )


WHITE = 'color w:val="FFFFFF"'
HIGHLIGHT = 'highlight w:val="blue"'
BLUE = 'shd w:val="clear" w:fill="1F3864"'


@pytest.mark.parametrize(
    "properties",
    [
        [WHITE],
        ['color w:val="fefefe"'],
        ['color w:val="FFFFFF" w:themeColor="background1"'],
        ['sz w:val="2"'],
        [WHITE, 'highlight w:val="white"'],
        [WHITE, 'shd w:val="clear" w:fill="auto"'],
        ['rStyle w:val="Pale"'],
    ],
)
def test_white_and_tiny_text_is_marked(properties):
    """Red: orders in white letters reach the model as if they were print."""
    document = docx.Document()
    style = document.styles.add_style("Pale", docx.enum.style.WD_STYLE_TYPE.CHARACTER)
    style.font.color.rgb = docx.shared.RGBColor(255, 255, 255)
    append(document, f"<w:p>{run('seen ')}{run('unseen', *properties)}{run('again')}</w:p>")
    assert lines(document) == [("¶ 1", "seen again"), ("¶ 2 (invisible)", "unseen")]
    assert read_docx(saved(document)).warnings == ("invisible: text kept and marked",)


def test_white_text_on_a_ground_is_print():
    """Red: the heads of half of all tables are said to be invisible."""
    white = run("white", WHITE)
    cell = f"<w:tc><w:tcPr><w:{BLUE}/></w:tcPr><w:p>{white}</w:p></w:tc>"
    box = (
        f"<w:p><w:r><w:pict><w:txbxContent><w:p>{white}</w:p></w:txbxContent></w:pict></w:r></w:p>"
    )
    shaded = f"<w:p><w:pPr><w:{BLUE}/></w:pPr>{white}</w:p>"
    body = [
        f"<w:p>{run('white', WHITE, BLUE)}</w:p>",
        f"<w:p>{run('white', WHITE, HIGHLIGHT)}</w:p>",
        shaded,
        f"<w:tbl><w:tr>{cell}</w:tr></w:tbl>",
        box,
    ]
    for xml in body:
        document = docx.Document()
        append(document, xml)
        ((where, text),) = lines(document)
        assert text == "white" and "invisible" not in where, xml
    document = docx.Document()
    table = document.add_table(1, 1, style="Medium Shading 1 Accent 1")
    table.cell(0, 0).paragraphs[0].add_run("white").font.color.rgb = docx.shared.RGBColor(
        255, 255, 255
    )
    assert lines(document) == [("¶ 1", "white")]
    append(document, f"<w:p>{white}</w:p>")
    assert lines(document)[1] == ("¶ 2 (invisible)", "white")
    document.element.insert(0, parse_xml(f'<w:background {W} w:color="000000"/>'))
    assert lines(document)[1] == ("¶ 2", "white")


def test_headers_and_footers_come_last_marked_and_once():
    """Red: running heads shift the count of paragraphs, or are lost."""
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Confidential"
    document.add_paragraph("body")
    document.add_section().header.is_linked_to_previous = False
    document.sections[1].header.paragraphs[0].text = "Confidential"
    document.sections[0].footer.paragraphs[0].text = "Port Ellery"
    assert lines(document) == [
        ("¶ 1", "body"),
        ("¶ 2 (header)", "Confidential"),
        ("¶ 3 (footer)", "Port Ellery"),
    ]


def test_notes_follow_the_paragraph_that_refers_to_them_and_none_is_lost():
    """Red: what a text says in its notes is lost, or a note that cites itself never ends."""
    document = docx.Document()
    add_part(
        document,
        "footnotes",
        f'<w:footnotes {W}><w:footnote w:id="0" w:type="separator">{paragraph("---")}</w:footnote>'
        '<w:footnote w:id="2"><w:p><w:r><w:t>the note</w:t><w:footnoteReference w:id="2"/></w:r>'
        f'</w:p></w:footnote><w:footnote w:id="7">{paragraph("orphan")}</w:footnote></w:footnotes>',
    )
    add_part(
        document,
        "endnotes",
        f'<w:endnotes {W}><w:endnote w:id="2">{paragraph("at the end")}</w:endnote></w:endnotes>',
    )
    append(
        document,
        '<w:p><w:r><w:t>claim</w:t><w:footnoteReference w:id="2"/>'
        '<w:endnoteReference w:id="2"/></w:r></w:p>',
    )
    document.add_paragraph("next")
    assert lines(document) == [
        ("¶ 1", "claim[footnote 1][endnote 1]"),
        ("¶ 2 (footnote 1)", "the note"),
        ("¶ 3 (endnote 1)", "at the end"),
        ("¶ 4", "next"),
        ("¶ 5 (footnote 2)", "orphan"),
    ]


def test_a_long_chain_of_notes_is_read():
    """Red: notes that cite notes exhaust the stack."""
    document = docx.Document()
    notes = "".join(
        f'<w:footnote w:id="{index}"><w:p><w:r><w:t>n{index}</w:t>'
        f'<w:footnoteReference w:id="{index + 1}"/></w:r></w:p></w:footnote>'
        for index in range(500)
    )
    add_part(document, "footnotes", f"<w:footnotes {W}>{notes}</w:footnotes>")
    append(document, '<w:p><w:r><w:t>claim</w:t><w:footnoteReference w:id="0"/></w:r></w:p>')
    assert {line.partition("[")[0] for _, line in lines(document)} == {
        "claim",
        *(f"n{i}" for i in range(500)),
    }


def test_comments_follow_their_paragraph_with_their_author():
    """Red: what reviewers said is left out, or passes for the text of the document."""
    document = docx.Document()
    first = document.add_paragraph("text")
    document.add_comment(first.runs, text="why?", author="Ann")
    document.add_paragraph("more")
    assert lines(document) == [
        ("¶ 1", "text[comment 1]"),
        ("¶ 2 (comment 1)", "Ann: why?"),
        ("¶ 3", "more"),
    ]


def test_descriptions_and_charts_are_read():
    """Red: what a picture or a chart says in words is lost."""
    chart = (
        '<c:chartSpace xmlns:c="urn:c" xmlns:a="urn:a"><c:title><a:p><a:r><a:t>Cost</a:t></a:r>'
        '</a:p></c:title><c:ser><c:tx><c:strRef><c:strCache><c:pt idx="0"><c:v>2017</c:v></c:pt>'
        '</c:strCache></c:strRef></c:tx><c:cat><c:pt idx="0"><c:v>East</c:v></c:pt></c:cat>'
        '<c:val><c:pt idx="0"><c:v>4.5</c:v></c:pt></c:val></c:ser></c:chartSpace>'
    )
    body = (
        f'<w:document {W} xmlns:r="{RELATIONS}" xmlns:c="urn:c" xmlns:wp="urn:wp"><w:body><w:p>'
        '<w:r><w:t>see</w:t><w:drawing><wp:docPr descr="a bridge"/><c:chart r:id="rId1"/>'
        "</w:drawing></w:r></w:p></w:body></w:document>"
    )
    data = packed(
        {
            "_rels/.rels": relations(rId1="officeDocument word/document.xml"),
            "word/document.xml": body,
            "word/_rels/document.xml.rels": relations(rId1="chart charts/chart1.xml"),
            "word/charts/chart1.xml": chart,
        }
    )
    assert shown(read_docx(data)) == [
        ("¶ 1", "see"),
        ("¶ 2 (alt text)", "a bridge"),
        ("¶ 3 (chart)", "Cost"),
        ("¶ 4 (chart)", "\t2017"),
        ("¶ 5 (chart)", "East\t4.5"),
    ]


def test_formulas_keep_their_structure():
    """Red: one half is read as 12, and ten to the sixth as 106."""
    m = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'

    def part(name, text):
        return f"<m:{name}><m:r><m:t>{text}</m:t></m:r></m:{name}>"

    document = docx.Document()
    append(
        document,
        f"<w:p><m:oMath {m}><m:f>{part('num', '1')}{part('den', 'a+b')}</m:f><m:r><m:t> = </m:t>"
        f"</m:r><m:sSup>{part('e', '10')}{part('sup', '-6')}</m:sSup><m:r><m:t>, </m:t></m:r>"
        f"<m:rad>{part('deg', '')}{part('e', 'x')}</m:rad></m:oMath></w:p>",
    )
    assert lines(document) == [("¶ 1", "\\frac{1}{a+b} = 10^{-6}, \\sqrt{x}")]


def test_pictures_are_counted():
    """Red: a letter that was scanned into a document counts as read."""
    body = f"<w:document {W}><w:body>{paragraph('see')}</w:body></w:document>"
    data = packed(
        {
            "_rels/.rels": relations(rId1="officeDocument word/document.xml"),
            "word/document.xml": body,
            "word/_rels/document.xml.rels": relations(rId1="image media/scan.png"),
            "word/media/scan.png": b"png",
        }
    )
    assert read_docx(data).warnings == ("1 pictures are not read",)


def test_numbers_that_word_shows_are_read():
    """Red: a contract cites § 3.2, and no paragraph has that number."""
    levels = "".join(
        f'<w:lvl w:ilvl="{level}"><w:start w:val="1"/><w:numFmt w:val="{style}"/>'
        f'<w:lvlText w:val="{text}"/></w:lvl>'
        for level, style, text in [
            (0, "decimal", "§ %1"),
            (1, "decimal", "%1.%2"),
            (2, "lowerLetter", "(%3)"),
            (3, "upperRoman", "%4."),
            (4, "bullet", "x"),
        ]
    )
    numbering = (
        f'<w:numbering {W}><w:abstractNum w:abstractNumId="7">{levels}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num><w:num w:numId="2">'
        '<w:abstractNumId w:val="7"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/>'
        "</w:lvlOverride></w:num></w:numbering>"
    )
    content = [
        (1, 0, "Costs", "§ 1 Costs"),
        (1, 1, "bridge", "1.1 bridge"),
        (1, 2, "steel", "(a) steel"),
        (1, 2, "stone", "(b) stone"),
        (1, 3, "grey", "I. grey"),
        (1, 1, "ferry", "1.2 ferry"),
        (1, 0, "Dates", "§ 2 Dates"),
        (1, 1, "spring", "2.1 spring"),
        (1, 4, "dot", "        - dot"),
        (2, 0, "Again", "§ 5 Again"),
        (9, 0, "no such list", "no such list"),
        (1, 99, "no such level", "no such level"),
    ]
    body = "".join(
        paragraph(
            text,
            f'<w:pPr><w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{key}"/></w:numPr></w:pPr>',
        )
        for key, level, text, _ in content
    )
    data = packed(
        {
            "_rels/.rels": relations(rId1="officeDocument word/document.xml"),
            "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": relations(rId1="numbering numbering.xml"),
            "word/numbering.xml": numbering,
        }
    )
    assert texts(read_docx(data)) == [expected for *_, expected in content]


def test_embedded_files_are_members():
    """Red: a contract inside a letter is never read, and nobody learns of it."""
    document = docx.Document()
    document.add_paragraph("see the sheet")
    name = PackURI("/word/embeddings/costs.xlsx")
    part = Part(name, "application/octet-stream", b"PK sheet", document.part.package)
    document.part.relate_to(part, f"{RELATIONS}/package")
    (member,) = read_docx(saved(document)).members
    assert (member.name, member.data) == ("costs.xlsx", b"PK sheet")


def test_iso_strict_documents_open():
    """Red: "Strict Open XML" documents are called broken."""
    document = docx.Document()
    document.add_heading("Strict", 1)
    document.sections[0].header.paragraphs[0].text = "head"
    strict = {}
    for name, content in unpacked(saved(document)).items():
        for transitional, namespace in STRICT:
            content = content.replace(transitional.encode(), namespace.encode())
        strict[name] = content
    reading = read_docx(packed(strict))
    assert shown(reading) == [("¶ 1", "# Strict"), ("¶ 2 (header)", "head")]
    assert reading.blocks[0].headings == ("Strict",)


def test_a_document_without_text_is_empty():
    """Red: an empty form counts as read."""
    assert refusal(read_docx, saved(docx.Document())).reason is Reason.EMPTY


def test_broken_packages_are_unreadable():
    """Red: a download that was cut off ends the run."""
    document = docx.Document()
    document.add_paragraph("text")
    data = saved(document)
    for broken in (
        data[:200],
        b"not a zip",
        repacked(data, {"word/document.xml": b"<open"}),
        repacked(data, {"_rels/.rels": relations()}),
        packed({}),
    ):
        assert refusal(read_docx, broken).reason is Reason.UNREADABLE


def test_a_broken_side_part_costs_a_warning_only():
    """Red: damaged comments take the whole document with them."""
    document = docx.Document()
    first = document.add_paragraph("text")
    document.add_comment(first.runs, text="why?", author="Ann")
    reading = read_docx(repacked(saved(document), {"word/comments.xml": b"<w:"}))
    assert texts(reading) == ["text"]
    assert len(reading.warnings) == 1 and "word/comments.xml" in reading.warnings[0]


def test_a_locked_file_is_told_from_an_old_one():
    """Red: people with a locked file are told that it is broken."""
    ole = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(512)
    locked = refusal(read_docx, ole + "EncryptedPackage".encode("utf-16-le"))
    assert locked.reason is Reason.ENCRYPTED
    old = refusal(read_docx, ole + "WordDocument".encode("utf-16-le"))
    assert old.reason is Reason.UNSUPPORTED and "save it as .docx" in old.detail


def test_a_zip_bomb_is_stopped_while_it_inflates():
    """Red: 100 KB of file take gigabytes of memory."""
    space = b" " * 40_000_000
    bomb = repacked(saved(docx.Document()), {"word/document.xml": b"<w/>" + space})
    assert len(bomb) < 300_000
    error = refusal(read_docx, bomb)
    assert error.reason is Reason.TOO_LARGE and "MiB" in error.detail


@pytest.mark.parametrize("entity", ['"laugh"', 'SYSTEM "file:///etc/hostname"'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(entity, encoding):
    """Red: a few hundred bytes of nested entities fill the memory, or a local file is read."""
    document = docx.Document()
    document.add_paragraph("MARK")
    data = saved(document)
    xml = unpacked(data)["word/document.xml"].decode()
    head, _, body = xml.partition("?>")
    head = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY e {entity}>]>'
    hostile = (head + body.replace("MARK", "a&e;b")).encode(encoding)
    error = refusal(read_docx, repacked(data, {"word/document.xml": hostile}))
    assert error.reason is Reason.UNREADABLE and "'e'" in error.detail


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cn", "Co"]), min_size=1
).map(lambda text: f"x{text}x")


@settings(max_examples=10, deadline=None)
@given(st.lists(st.one_of(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_whatever_is_written_comes_out_in_order_where_its_locator_says(content):
    """Red: text is lost, reordered or cited at the wrong paragraph."""
    document = docx.Document()
    expected = []
    for entry in content:
        if isinstance(entry, str):
            document.add_paragraph(entry)
            expected.append(entry)
        else:
            table = document.add_table(1, len(entry))
            for cell, text in zip(table.rows[0].cells, entry, strict=True):
                cell.text = text
            expected.append("\t".join(entry))
    assert lines(document) == [(f"¶ {index}", text) for index, text in enumerate(expected, 1)]


def test_raised_lowered_and_struck_letters_have_their_signs():
    """Red: two million is read as 2×106, and a fee that was struck out as the fee."""
    document = docx.Document()
    runs = document.add_paragraph("2×10")
    for text, look in (
        ("", "superscript"),
        ("6", "superscript"),
        (" kg of CO", ""),
        ("2", "subscript"),
        (" for ", ""),
        ("950 ", "strike"),
        ("900", ""),
    ):
        run = runs.add_run(text)
        if look:
            setattr(run.font, look, True)
    second = document.add_paragraph("10")
    for digit in "12":
        second.add_run(digit).font.superscript = True
    assert lines(document) == [
        ("¶ 1", "2×10^{6} kg of CO_{2} for ~~950~~ 900"),
        ("¶ 2", "10^{12}"),
    ]


def test_items_of_lists_have_their_sign_and_level_and_links_their_target():
    """Red: a duty of the tenant's passes for the landlord's; nobody learns which terms."""
    document = docx.Document()
    document.add_paragraph("pay rent", "List Bullet")
    item = document.add_paragraph("by the ", "List Bullet 2")
    key = document.part.relate_to("https://example.org/terms", f"{RELATIONS}/hyperlink", True)
    item._p.append(
        parse_xml(
            f'<w:hyperlink {W} xmlns:r="{RELATIONS}" r:id="{key}"><w:r><w:t>terms</w:t></w:r>'
            "</w:hyperlink>"
        )
    )
    assert lines(document) == [
        ("¶ 1", "- pay rent"),
        ("¶ 2", "  - by the terms"),
        ("¶ 3 (links)", "terms: https://example.org/terms"),
    ]


def test_boxes_that_are_ticked_and_signs_of_other_fonts_are_read():
    """Red: a form tells neither yes nor no, a dose of at most 5 becomes one of any."""
    document = docx.Document()
    field = (
        '<w:p><w:r><w:fldChar w:fldCharType="begin"><w:ffData>{}</w:ffData></w:fldChar></w:r>'
        "<w:r><w:t> {}</w:t></w:r></w:p>"
    )
    box = "<w:checkBox><w:default w:val='0'/>{}</w:checkBox>"
    choice = "<w:ddList><w:result w:val='1'/><w:listEntry w:val='Oslo'/><w:listEntry w:val='Rome'/>"
    sign = "<w:r><w:sym w:font='{}' w:char='{}'/></w:r>"
    symbols = "<w:r><w:rPr><w:rFonts w:ascii='Symbol'/></w:rPr><w:t>{}</w:t></w:r>"
    for xml in (
        field.format(box.format("<w:checked/>"), "insured"),
        field.format(box.format(""), "smoker"),
        field.format(f"{choice}</w:ddList>", "office"),
        f"<w:p>{sign.format('Wingdings', 'F0FE')}{sign.format('Wingdings', 'F0A8')}"
        f"{sign.format('Acme', 'F041')}</w:p>",
        f"<w:p>{symbols.format('&#xF0A3;')}<w:r><w:t>5 </w:t></w:r>{symbols.format('m')}</w:p>",
        "<w:p><w:r><w:ruby><w:rt><w:r><w:t>kanji</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>漢字"
        "</w:t></w:r></w:rubyBase></w:ruby></w:r></w:p>",
    ):
        append(document, xml)
    expected = ["☒ insured", "☐ smoker", "Rome office", "☑☐[Acme 41]", "≤5 μ", "漢字"]
    assert [text for _, text in lines(document)] == expected


def test_rows_that_begin_further_right_and_links_in_fields():
    """Red: values slip to the left edge of a table; a link that Word wrote as a field leads
    nowhere."""
    document = docx.Document()
    cell = "<w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>"
    row = "<w:tr><w:trPr><w:gridBefore w:val='2'/></w:trPr>{}</w:tr>"
    header = "<w:tr>" + "".join(map(cell.format, "ABC")) + "</w:tr>"
    append(document, f"<w:tbl>{header}{row.format(cell.format('9'))}</w:tbl>")
    mark = "<w:r><w:fldChar w:fldCharType='{}'/></w:r>"
    address = "https://example.org/prices"
    append(
        document,
        f'<w:p>{mark.format("begin")}<w:r><w:instrText> HYPERLINK "{address}" </w:instrText></w:r>'
        f"{mark.format('separate')}<w:r><w:t>our prices</w:t></w:r>{mark.format('end')}</w:p>",
    )
    found = [text for _, text in lines(document)]
    assert found == ["A\tB\tC", "\t\t9", "our prices", f"our prices: {address}"]


def test_a_name_over_several_columns_stands_over_each():
    """Red: which year the second Q1 is of can only be guessed."""
    document = docx.Document()
    cell = (
        "<w:tc><w:tcPr><w:gridSpan w:val='{}'/></w:tcPr><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>"
    )
    rows = (
        [(1, "Region"), (2, "2023")],
        [(1, "all"), (1, "Q1"), (1, "Q2")],
        [(2, "Sum"), (1, "5")],
    )
    xml = "".join(f"<w:tr>{''.join(cell.format(*one) for one in row)}</w:tr>" for row in rows)
    append(document, f"<w:tbl>{xml}</w:tbl>")
    found = [text for _, text in lines(document)]
    assert found == ["Region\t2023\t2023", "all\tQ1\tQ2", "Sum\t\t5"]
