"""What belongs to a PDF beside its pages: files inside it, fields of forms; and bad parts of it."""

from io import BytesIO

import pytest
from pypdf import PdfWriter
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    NameObject,
    NumberObject,
    StreamObject,
    TextStringObject,
)

from mm1cli.ingest.readers.pdf import read_pdf
from mm1cli.ingest.readers.pdf_garbage import looks_written


def named(**entries):
    return DictionaryObject({NameObject(f"/{key}"): value for key, value in entries.items()})


def saved(writer):
    output = BytesIO()
    writer.write(output)
    return output.getvalue()


class Form:
    """A form on the one page of `data`; `field` gives it one with widgets as children."""

    def __init__(self, data):
        self.writer = PdfWriter(clone_from=BytesIO(data))
        self.fields, self.widgets = ArrayObject(), ArrayObject()
        self.entries = named(Fields=self.fields)
        self.writer.root_object[NameObject("/AcroForm")] = self.entries
        self.writer.pages[0][NameObject("/Annots")] = self.widgets

    def field(self, *widgets, **entries):
        parent = self.writer._add_object(named(**entries))
        rectangle = ArrayObject(NumberObject(at) for at in (100, 600, 200, 620))
        kids = ArrayObject(
            self.writer._add_object(
                named(
                    Type=NameObject("/Annot"),
                    Subtype=NameObject("/Widget"),
                    Rect=rectangle,
                    Parent=parent,
                    **widget,
                )
            )
            for widget in widgets
        )
        parent.get_object()[NameObject("/Kids")] = kids
        self.fields.append(parent)
        self.widgets.extend(kids)


def test_values_that_fields_inherit_are_read(make_pdf):
    """Red: a form is read as empty because its values stand in the parents of its boxes."""
    form = Form(make_pdf("a form"))
    form.field(
        {}, FT=NameObject("/Tx"), T=TextStringObject("address"), V=TextStringObject("Pier 9")
    )
    states = [named(N=named(**{state: named(), "Off": named()})) for state in ("F", "M")]
    form.field(
        {"AS": NameObject("/F"), "AP": states[0]},
        {"AS": NameObject("/Off"), "AP": states[1]},
        FT=NameObject("/Btn"),
        Ff=NumberObject(1 << 15),
        T=TextStringObject("sex"),
        V=NameObject("/F"),
    )
    ports = [TextStringObject(port) for port in ("Oslo", "Riga", "Gdynia")]
    form.field(
        {},
        FT=NameObject("/Ch"),
        Ff=NumberObject(1 << 21),
        T=TextStringObject("ports"),
        Opt=ArrayObject(ports),
        V=ArrayObject(ports[::2]),
    )
    blocks = read_pdf(saved(form.writer)).blocks
    assert [(block.mark, block.text) for block in blocks] == [
        ("", "a form"),
        ("form field", "address: Pier 9\nsex: F\nports: Oslo, Gdynia"),
    ]


def xfa(data, datasets):
    form = Form(data)
    stream = StreamObject()
    stream.set_data(datasets)
    packet = ArrayObject([TextStringObject("datasets"), form.writer._add_object(stream)])
    form.entries[NameObject("/XFA")] = packet
    return read_pdf(saved(form.writer))


def test_the_data_of_an_xfa_form_is_read_or_its_page_is_called_a_placeholder(make_pdf):
    """Red: "Please wait" passes for what the form says."""
    page = make_pdf("Please wait...")
    reading = xfa(page, b"<data><name>Eva</name><sum>12</sum><empty/></data>")
    assert (reading.blocks[1].mark, reading.blocks[1].text) == ("form field", "name: Eva\nsum: 12")
    assert any("XFA" in warning for warning in reading.warnings)
    assert any("placeholder" in warning for warning in xfa(page, b"<data>").warnings)


def test_a_file_inside_that_cannot_be_taken_out_is_named(make_pdf):
    """Red: an empty attachment costs all pages."""
    writer = PdfWriter(clone_from=BytesIO(make_pdf("one", "two")))
    writer.add_attachment("empty.txt", b"")
    writer.add_attachment("full.txt", b"text")
    reading = read_pdf(saved(writer))
    assert [block.text for block in reading.blocks] == ["one", "two"]
    assert [member.name for member in reading.members] == ["full.txt"]
    assert any("empty.txt" in warning for warning in reading.warnings)


def with_font(data, **font):
    """The page's font without what says which letters it has."""
    writer = PdfWriter(clone_from=BytesIO(data))
    entries = writer.pages[0]["/Resources"]["/Font"]["/F1"]
    if "Subtype" in font:
        entries.clear()
    entries.update(named(**font))
    return read_pdf(saved(writer))


def test_a_page_without_letters_is_named_and_a_readable_one_is_not(make_pdf):
    """Red: the model is asked about glyph numbers; or a plot is called garbage."""
    page = make_pdf("The quick brown fox jumps over the lazy dog and all that")
    system = named(
        Registry=TextStringObject("Adobe"),
        Ordering=TextStringObject("Identity"),
        Supplement=NumberObject(0),
    )
    descendant = named(
        Type=NameObject("/Font"),
        Subtype=NameObject("/CIDFontType2"),
        BaseFont=NameObject("/Foo"),
        CIDSystemInfo=system,
    )
    garbled = with_font(
        page,
        Type=NameObject("/Font"),
        Subtype=NameObject("/Type0"),
        BaseFont=NameObject("/Foo"),
        Encoding=NameObject("/Identity-H"),
        DescendantFonts=ArrayObject([descendant]),
    )
    assert garbled.blocks[0].mark == "unreadable"
    assert any("page 1: unreadable" in one and "--ocr" in one for one in garbled.warnings)
    names = ArrayObject([NumberObject(32), *(NameObject(f"/g{at}") for at in range(32, 127))])
    readable = with_font(page, Encoding=named(Differences=names))
    assert readable.blocks[0].mark == "" and readable.warnings == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The harbour crossing was planned in spring", True),
        ("Арендатор обязан вносить арендную плату", True),
        ("0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 time [s] 12 14", True),
        ("賃借人は毎月五日までに賃料を支払わなければならない。", True),
        ("הדייר חייב לשלם את שכר הדירה עד החמישי", True),
        ("\ue001\ue002\ue003\ue004" * 10, False),
        ("Wkh txlfn eurzq ira mxpsv ryhu wkh odcb grj", False),
        ("周攠煵楣欠扲潷渠景砠橵浰猠潶敲桥慺礠摯朠", False),
    ],
)
def test_writing_is_told_from_noise(text, expected):
    """Red: languages pass for noise, or a cipher for a language."""
    assert looks_written(text) is expected
