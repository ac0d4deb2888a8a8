import pptx
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from office import packed, refusal, repacked, saved, shown, texts, unpacked
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.pptx import read_pptx

TITLE_AND_BODY, TITLE_ONLY, BLANK = 1, 5, 6
BOX = (Inches(1), Inches(1), Inches(3), Inches(1))


def deck(*titles):
    presentation = pptx.Presentation()
    for title in titles:
        slide = presentation.slides.add_slide(presentation.slide_layouts[TITLE_ONLY])
        slide.shapes.title.text = title
    return presentation


def add_text(slide, text, box=BOX):
    shape = slide.shapes.add_textbox(*box)
    shape.text_frame.text = text
    return shape


def read(presentation):
    return shown(read_pptx(saved(presentation)))


def test_slides_come_in_the_order_they_are_shown():
    """Red: the order of the file's parts passes for the order of the talk."""
    presentation = deck("one", "two", "three")
    listed = presentation.slides._sldIdLst
    listed.insert(0, listed[2])
    blocks = read_pptx(saved(presentation)).blocks
    assert [(str(block.place), block.headings) for block in blocks] == [
        ("slide 1", ("three",)),
        ("slide 2", ("one",)),
        ("slide 3", ("two",)),
    ]


def test_shapes_tables_and_groups_are_read_with_the_title_first():
    """Red: only text boxes are read, or the title comes after its text."""
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[TITLE_AND_BODY])
    add_text(slide, "box\nsecond line")
    slide.shapes.title.text = "the title"
    slide.placeholders[1].text = "bullet"
    tree = slide.shapes._spTree
    tree.append(slide.shapes.title._element)
    table = slide.shapes.add_table(2, 2, *BOX).table
    for index, text in enumerate(["a", "b", "", "d"]):
        table.cell(index // 2, index % 2).text = text
    outer = slide.shapes.add_group_shape()
    outer.shapes.add_group_shape().shapes.add_textbox(*BOX).text_frame.text = "deep"
    assert [line for _, line in read(presentation)] == [
        "# the title",
        "- bullet",
        "box",
        "second line",
        "a\tb",
        "\td",
        "deep",
    ]


def test_notes_hidden_slides_and_what_is_off_the_slide_are_marked():
    """Red: what the speaker says, or hid, passes for what the audience saw."""
    presentation = deck("seen", "kept back")
    first, second = presentation.slides
    first.notes_slide.notes_text_frame.text = "say this\nslowly"
    second._element.set("show", "0")
    add_text(first, "outside", (Inches(50), 0, Inches(1), Inches(1)))
    ghost = add_text(first, "ghost")
    ghost._element.nvSpPr.cNvPr.set("hidden", "1")
    assert read(presentation) == [
        ("slide 1", "# seen"),
        ("slide 1 (off page)", "outside"),
        ("slide 1 (hidden)", "ghost"),
        ("slide 1 (notes)", "say this"),
        ("slide 1 (notes)", "slowly"),
        ("slide 2 (hidden slide)", "# kept back"),
    ]


def test_charts_give_their_numbers_and_pictures_their_description():
    """Red: the figures of a talk are lost."""
    presentation = deck("Sales")
    slide = presentation.slides[0]
    data = CategoryChartData()
    data.categories = ["East", "West"]
    data.add_series("2017", (1.5, 2))
    data.add_series("2018", (3, None))
    frame = slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *BOX, data)
    frame._element.nvGraphicFramePr.cNvPr.set("descr", "sales by coast")
    assert read(presentation)[1:] == [
        ("slide 1 (chart)", "\t2017\t2018"),
        ("slide 1 (chart)", "East\t1.5\t3"),
        ("slide 1 (chart)", "West\t2"),
        ("slide 1 (alt text)", "sales by coast"),
    ]


def test_categories_in_groups_carry_the_name_of_their_group():
    """Red: of "Europe: London" only one half is read."""
    presentation = deck("Sales")
    data = CategoryChartData()
    europe, asia = data.add_category("Europe"), data.add_category("Asia")
    for group, towns in ((europe, ("London", "Paris")), (asia, ("Delhi",))):
        for town in towns:
            group.add_sub_category(town)
    data.add_series("2017", (1, 2, 3))
    presentation.slides[0].shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, *BOX, data)
    assert [line for _, line in read(presentation)[2:]] == [
        "Europe London\t1",
        "Europe Paris\t2",
        "Asia Delhi\t3",
    ]


def test_text_on_a_layout_is_read_once_and_its_prompts_are_not():
    """Red: "Strictly confidential" on every slide is lost, or "Click to add text" is read."""
    presentation = deck("one", "two")
    layout = presentation.slide_layouts[TITLE_ONLY]
    box = add_text(presentation.slides[0], "Strictly confidential")
    layout.shapes._spTree.append(box._element)
    assert read(presentation) == [
        ("slide 1", "# one"),
        ("slide 2", "# two"),
        ("¶ 1 (layout)", "Strictly confidential"),
    ]


def test_comments_are_read_with_their_author():
    """Red: a review of the slides is left out."""
    parts = unpacked(saved(deck("one")))
    relations = parts["ppt/_rels/presentation.xml.rels"].decode()
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    parts["ppt/_rels/presentation.xml.rels"] = relations.replace(
        "</Relationships>",
        f'<Relationship Id="rIdA" Type="{office}/commentAuthors" Target="authors.xml"/>'
        "</Relationships>",
    )
    slide = parts["ppt/slides/_rels/slide1.xml.rels"].decode()
    parts["ppt/slides/_rels/slide1.xml.rels"] = slide.replace(
        "</Relationships>",
        f'<Relationship Id="rIdC" Type="{office}/comments" Target="../comments/c.xml"/>'
        "</Relationships>",
    )
    parts["ppt/authors.xml"] = '<l xmlns="urn:p"><cmAuthor id="4" name="Ann"/></l>'
    parts["ppt/comments/c.xml"] = '<l xmlns="urn:p"><cm authorId="4"><text>why?</text></cm></l>'
    reading = read_pptx(packed(parts))
    assert shown(reading) == [("slide 1", "# one"), ("slide 1 (comment)", "Ann: why?")]
    assert reading.blocks[1].headings == ("one",)


def test_slides_without_text_are_named():
    """Red: a deck of pictures counts as read."""
    presentation = deck("one", "", "three", "", "")
    assert read_pptx(saved(presentation)).warnings == ("without text: slide 2, 4-5",)
    assert refusal(read_pptx, saved(deck(""))).reason is Reason.EMPTY


def test_a_broken_slide_costs_a_warning_only():
    """Red: one damaged slide takes the whole deck with it."""
    data = saved(deck("one", "two"))
    reading = read_pptx(repacked(data, {"ppt/slides/slide1.xml": b"<p:sld"}))
    assert texts(reading) == ["# two"]
    assert len(reading.warnings) == 1 and reading.warnings[0].startswith("slide 1 cannot be read")
    assert refusal(read_pptx, data[:300]).reason is Reason.UNREADABLE


def test_groups_in_groups_without_end_do_not_crash():
    """Red: a hostile deck exhausts the stack."""
    presentation = deck("one")
    group = presentation.slides[0].shapes.add_group_shape()
    for _ in range(60):
        group = group.shapes.add_group_shape()
    group.shapes.add_textbox(*BOX).text_frame.text = "deep"
    assert ("slide 1", "deep") in read(presentation)
    xml = etree.tostring(presentation.slides[0]._element).decode()
    bottomless = xml.replace(
        "</p:spTree>", "<p:grpSp>" * 5000 + "</p:grpSp>" * 5000 + "</p:spTree>"
    )
    data = repacked(saved(presentation), {"ppt/slides/slide1.xml": bottomless})
    assert refusal(read_pptx, data).reason is Reason.UNREADABLE


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cn", "Co"]), min_size=1
).map(lambda text: f"x{text}x")


@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(words, min_size=1, max_size=3), min_size=1, max_size=4))
def test_whatever_is_written_comes_out_on_its_slide(slides):
    """Red: text is lost, reordered or cited on the wrong slide."""
    presentation = deck(*("" for _ in slides))
    expected = []
    for index, (slide, content) in enumerate(zip(presentation.slides, slides, strict=True), 1):
        for text in content:
            add_text(slide, text)
            expected.append((f"slide {index}", text))
    assert read(presentation) == expected
