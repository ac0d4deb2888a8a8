"""PDF: pdfium reads the text, pypdf what pdfium cannot; one block per page and kind of text.

Blocks carry the page's index and printed label, and the outline's headings. What no one can see on
the page is marked, so that neither a model nor a reader of a citation takes it for print.
"""

from dataclasses import replace

from mm1cli.ingest.corpus import Block, Damaged, Place, Reason, Unread
from mm1cli.ingest.readers import pdf_pdfium, pdf_pypdf
from mm1cli.ingest.readers.pdf_garbage import UNREADABLE
from mm1cli.ingest.readers.pdf_ocr import Recogniser, recogniser
from mm1cli.ingest.readers.pdf_pdfium import CannotOpenError, PdfiumDocument
from mm1cli.ingest.readers.pdf_pypdf import PypdfDocument, Repairs, quiet, xfa_data
from mm1cli.ingest.readers.pdf_text import Page, clean, message_of, page_ranges, resolve_hyphens
from mm1cli.ingest.readers.reader import MIB, Member, Reader, ReadError, Reading

__all__ = ["PDF", "PDF_OCR", "PYPDF", "clean", "page_ranges", "read_pdf"]

_END_BYTES = 2048


def read_pdf(data: bytes) -> Reading:
    """Raises ReadError: ENCRYPTED, NO_TEXT, UNREADABLE."""
    return _read(data, None)


def read_pdf_with_ocr(data: bytes) -> Reading:
    """As `read_pdf`, and what an OCR program sees on the pages with an image and no text."""
    return _read(data, recogniser(data))


def read_with_pypdf(data: bytes) -> Reading:
    """As `read_pdf`, by pypdf alone."""
    with quiet() as repairs:
        return _reading(list(PypdfDocument(data).pages()), repairs, pdf_pypdf.library())


def _read(data: bytes, ocr: Recogniser | None) -> Reading:
    try:
        pdf = PdfiumDocument(data)
    except CannotOpenError:
        return read_with_pypdf(data)
    with quiet() as repairs:
        pages = list(pdf.pages())
        members, warnings = pdf.attachments()
        library = pdf_pdfium.library()
        if second := _second_opinion(data, pages):
            library = f"{library}, {pdf_pypdf.library()}"
            pages = second
        if ocr is not None:
            _recognise(pdf, pages, ocr)
        if pdf.has_xfa:
            warnings.append(_read_xfa(data, pages))
        pdf.close()
        if b"%%EOF" not in data[-_END_BYTES:]:
            repairs.add("the end of the file is missing")
        reading = _reading(pages, repairs, library, tuple(members))
        return replace(reading, warnings=(*reading.warnings, *warnings))


def _read_xfa(data: bytes, pages: list[Page]) -> str:
    """Puts the form's data after the first page, whose own text only asks for another program."""
    if fields := xfa_data(data):
        pages[0].parts = (*pages[0].parts, ("form field", "\n".join(fields)))
        return "an XFA form: its data is read, its labels are not; the pages may be placeholders"
    return "an XFA form whose data cannot be read: the text of its pages may be a placeholder"


def _second_opinion(data: bytes, pages: list[Page]) -> list[Page] | None:
    """`pages`, with pypdf's text on those where pdfium found none; None where that is all."""
    if all(page.parts for page in pages):
        return None
    try:
        pdf = PypdfDocument(data)
    except ReadError:
        return None
    for page in pages:
        if not page.parts and page.index < len(pdf):
            other = pdf.page(page.index)
            page.error = other.error or ("" if other.parts else page.error)
            page.parts = other.parts
    return pages


def _recognise(pdf: PdfiumDocument, pages: list[Page], ocr: Recogniser) -> None:
    for page in pages:
        if not page.is_garbled and (page.parts or not page.has_image):
            continue
        try:
            text = ocr(pdf, page.index)
        except OSError as error:
            page.error = message_of(error)
            continue
        if text.strip():
            beside = tuple(part for part in page.parts if part[0] not in {"", UNREADABLE})
            page.parts, page.is_scan = (("OCR", text), *beside), True
            page.is_garbled = False


def _reading(
    pages: list[Page], repairs: Repairs, library: str, members: tuple[Member, ...] = ()
) -> Reading:
    resolve_hyphens(pages)
    broken = [page for page in pages if page.error]
    blank = [page for page in pages if not page.parts and not page.error]
    blocks = tuple(
        Block(
            text,
            place=Place("page", page.index, page.label),
            headings=page.headings,
            mark=mark,
        )
        for page in pages
        for mark, text in page.parts
    )
    if not blocks and broken:
        raise ReadError(Reason.UNREADABLE, broken[0].error)
    if not blocks and not members:
        scanned = sum(page.has_image for page in blank)
        raise ReadError(Reason.NO_TEXT, f"{scanned} scanned, try --ocr" if scanned else "")
    return Reading(
        blocks, (*_warnings(pages, blank, broken), *repairs.warnings()), library, members=members
    )


def _warnings(pages: list[Page], blank: list[Page], broken: list[Page]) -> list[str]:
    warnings: list[str] = []
    if blank:
        verb = "has" if len(blank) == 1 else "have"
        hint = " (--ocr reads scans)" if any(page.has_image for page in blank) else ""
        warnings.append(Unread(f"{_named(blank)} {verb} no text layer{hint}"))
    if scans := [page for page in pages if page.is_scan]:
        warnings.append(f"{_named(scans)}: text recognised from a scan, letters may be wrong")
    if garbled := [page for page in pages if page.is_garbled]:
        told = "unreadable text, its fonts name no letters (--ocr reads the page)"
        warnings.append(Unread(f"{_named(garbled)}: {told}"))
    for mark in ("invisible", "off page"):
        if marked := [page for page in pages if mark in dict(page.parts)]:
            warnings.append(f"{_named(marked)}: {mark} text, kept and marked")
    warnings += [
        type(remark)(f"page {page.index + 1}: {remark}")
        for page in pages
        for remark in page.remarks
    ]
    if broken:
        warnings.append(Damaged(f"{_named(broken)} could not be read: {broken[0].error}"))
    return warnings


def _named(pages: list[Page]) -> str:
    return page_ranges([page.index for page in pages])


PDF = Reader(
    name="pdf",
    version=6,
    kinds={".pdf": "pdf"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_pdf,
    fallback="pypdf",
    with_ocr="pdf-ocr",
)
PYPDF = Reader(
    name="pypdf",
    version=3,
    kinds={},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_with_pypdf,
)
PDF_OCR = Reader(
    name="pdf-ocr",
    version=5,
    kinds={},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_pdf_with_ocr,
    patience=60,
)
