"""What belongs to a PDF beside its pages: files inside it, fields of forms; and bad parts of it."""

from io import BytesIO

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
