from office import packed, refusal, repacked, shown, texts

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.epub import read_epub

XHTML = "application/xhtml+xml"
CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
)


def page(body, title=""):
    head = f"<head><title>{title}</title></head>" if title else "<head><title/></head>"
    return f'<html xmlns="http://www.w3.org/1999/xhtml">{head}<body>{body}</body></html>'


def book(pages, spine, extra=(), **parts):
    items = "".join(f'<item id="{n}" href="{n}" media-type="{XHTML}"/>' for n in pages)
    refs = "".join(f'<itemref idref="{name}"/>' for name in spine)
    opf = (
        f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}{"".join(extra)}'
        f"</manifest><spine>{refs}</spine></package>"
    )
    return packed(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER,
            "OEBPS/book.opf": opf,
            **{f"OEBPS/{name}": content for name, content in pages.items()},
            **parts,
        }
    )


def test_chapters_come_in_the_order_of_the_spine():
    """Red: a novel starts with its last chapter."""
    data = book(
        {"a.xhtml": page("<h1>End</h1><p>last"), "b.xhtml": page("<h1>Start</h1><p>first</p>")},
        ["b.xhtml", "a.xhtml"],
    )
    reading = read_epub(data)
    assert shown(reading) == [
        ("ch. “Start”, ¶ 1", "# Start"),
        ("ch. “Start”, ¶ 2", "first"),
        ("ch. “End”, ¶ 1", "# End"),
        ("ch. “End”, ¶ 2", "last"),
    ]
    assert [block.place.index for block in reading.blocks] == [0, 1]


def test_titles_come_from_the_table_of_contents():
    """Red: chapters are called by their file, or by a heading inside them."""
    nav = page(
        '<nav epub:type="toc" xmlns:epub="urn:e"><a href="text/a.xhtml#s">The\n Storm</a></nav>'
    )
    extra = [
        f'<item id="nav" href="nav.xhtml" properties="nav" media-type="{XHTML}"/>',
    ]
    pages = {"text/a.xhtml": page("<h2>one</h2><p>wind</p>")}
    data = book(pages, ["text/a.xhtml"], extra, **{"OEBPS/nav.xhtml": nav})
    reading = read_epub(data)
    assert reading.warnings == ()
    assert shown(reading)[1] == ("ch. “The Storm”, ¶ 2", "wind")
    assert reading.blocks[0].headings == ("one",)
    ncx = (
        '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint><navLabel><text>Wind'
        '</text></navLabel><content src="text/a.xhtml"/></navPoint></navMap></ncx>'
    )
    extra = ['<item id="n" href="t.ncx" media-type="application/x-dtbncx+xml"/>']
    data = book(pages, ["text/a.xhtml"], extra, **{"OEBPS/t.ncx": ncx})
    assert shown(read_epub(data))[1] == ("ch. “Wind”, ¶ 2", "wind")


def test_what_is_not_shown_or_has_no_text_is_named():
    """Red: pages are left out in silence."""
    data = book(
        {
            "cover.xhtml": page("<img src='x'/>"),
            "a.xhtml": page("<p>text</p>"),
            "b.xhtml": page("b"),
        },
        ["cover.xhtml", "a.xhtml"],
    )
    reading = read_epub(data)
    assert texts(reading) == ["text"]
    assert reading.warnings == (
        "without text: chapter 1",
        "1 pages that the book does not show are not read",
    )


def test_contents_beside_the_reading_order_are_no_chapter():
    """Red: every heading of the book is found twice, first in a list of links."""
    extra = [f'<item id="nav" href="nav.xhtml" properties="nav" media-type="{XHTML}"/>']
    pages = {"a.xhtml": page("<p>wind</p>"), "note.xhtml": page("<p>note</p>")}
    nav = page('<nav><a href="a.xhtml">Storm</a></nav>')
    order = 'nav"/><itemref linear="no" idref="note.xhtml"/><itemref idref="a.xhtml'
    for linear, expected in (("no", ["note", "wind"]), ("yes", ["Storm", "note", "wind"])):
        spine = [f'{order}" linear="yes'.replace('nav"', f'nav" linear="{linear}"')]
        data = book(pages, spine, extra, **{"OEBPS/nav.xhtml": nav})
        reading = read_epub(data)
        assert texts(reading) == expected and not reading.warnings


def test_a_missing_chapter_costs_a_warning_only():
    """Red: one broken link takes the book with it, or is passed over."""
    data = book({"a.xhtml": page("<p>text</p>")}, ["a.xhtml", "gone"], ())
    data = repacked(data, {"OEBPS/book.opf": opf_with_missing_page()})
    reading = read_epub(data)
    assert texts(reading) == ["text"]
    assert len(reading.warnings) == 1 and "chapter 2 cannot be read" in reading.warnings[0]


def opf_with_missing_page():
    return (
        f'<package><manifest><item id="a" href="a.xhtml" media-type="{XHTML}"/>'
        f'<item id="b" href="b%20c.xhtml" media-type="{XHTML}"/></manifest>'
        '<spine><itemref idref="a"/><itemref idref="b"/></spine></package>'
    )


def test_locked_books_are_told_from_books_with_scrambled_fonts():
    """Red: noise is read from a book with a lock, or a free book is refused."""
    lock = (
        '<encryption xmlns:e="urn:e"><e:EncryptedData><e:CipherData>'
        '<e:CipherReference URI="{}"/></e:CipherData></e:EncryptedData></encryption>'
    )
    data = book({"a.xhtml": page("<p>text</p>")}, ["a.xhtml"])
    name = "META-INF/encryption.xml"
    assert texts(read_epub(repacked(data, {name: lock.format("OEBPS/font.otf")}))) == ["text"]
    locked = repacked(data, {name: lock.format("OEBPS/a.xhtml")})
    assert refusal(read_epub, locked).reason is Reason.ENCRYPTED


def test_paths_lead_nowhere_outside_the_book():
    """Red: a book reads files of the machine."""
    opf = (
        f'<package><manifest><item id="a" href="../../../../etc/hostname" media-type="{XHTML}"/>'
        '</manifest><spine><itemref idref="a"/></spine></package>'
    )
    data = repacked(book({}, []), {"OEBPS/book.opf": opf})
    assert refusal(read_epub, data).reason is Reason.UNREADABLE


def test_broken_books_are_unreadable():
    """Red: a download that was cut off ends the run."""
    data = book({"a.xhtml": page("<p>text</p>")}, ["a.xhtml"])
    for broken in (data[:60], packed({"mimetype": "application/epub+zip"})):
        assert refusal(read_epub, broken).reason is Reason.UNREADABLE
    assert refusal(read_epub, book({"a.xhtml": page("")}, ["a.xhtml"])).reason is Reason.EMPTY
    laughs = '<!DOCTYPE x [<!ENTITY a "ha">]><package><manifest>&a;</manifest><spine/></package>'
    hostile = repacked(data, {"OEBPS/book.opf": laughs})
    assert refusal(read_epub, hostile).reason is Reason.UNREADABLE
