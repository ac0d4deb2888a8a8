"""Readers, one file per format, and the choice of one: by extension first, then by content."""

from pathlib import PurePath

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.archive import ARCHIVE, is_tar
from mm1cli.ingest.readers.columns import COLUMNS
from mm1cli.ingest.readers.delimited import DELIMITED
from mm1cli.ingest.readers.docx import DOCX
from mm1cli.ingest.readers.encoding import looks_binary
from mm1cli.ingest.readers.epub import EPUB
from mm1cli.ingest.readers.html import HTML
from mm1cli.ingest.readers.mail import MAIL, MBOX
from mm1cli.ingest.readers.markdown import MARKDOWN
from mm1cli.ingest.readers.mhtml import MHTML
from mm1cli.ingest.readers.notebook import NOTEBOOK
from mm1cli.ingest.readers.odf import ODF
from mm1cli.ingest.readers.office97 import OFFICE97
from mm1cli.ingest.readers.outlook import MSG, WINMAIL
from mm1cli.ingest.readers.package import OLE_MAGIC
from mm1cli.ingest.readers.pdf import PDF, PDF_OCR, PYPDF
from mm1cli.ingest.readers.pptx import PPTX
from mm1cli.ingest.readers.reader import Reader, ReadError, Reading
from mm1cli.ingest.readers.rtf import RTF
from mm1cli.ingest.readers.text import TEXT, kind_of
from mm1cli.ingest.readers.tnef import TNEF_MAGIC
from mm1cli.ingest.readers.unsupported import kind_by_content, kind_by_extension
from mm1cli.ingest.readers.xls import XLS
from mm1cli.ingest.readers.xlsx import XLSX

HEAD_BYTES = 4096
READERS = {
    reader.name: reader
    for reader in (
        TEXT,
        MARKDOWN,
        PDF,
        PYPDF,
        PDF_OCR,
        DOCX,
        PPTX,
        XLSX,
        XLS,
        ODF,
        EPUB,
        HTML,
        DELIMITED,
        COLUMNS,
        NOTEBOOK,
        MAIL,
        MHTML,
        MBOX,
        MSG,
        WINMAIL,
        RTF,
        ARCHIVE,
        OFFICE97,
    )
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second is that of an empty one
# Stored first and uncompressed, or as the names of the first parts.
_IN_ZIP = (
    (b"mimetypeapplication/epub+zip", EPUB, "epub"),
    (b"mimetypeapplication/vnd.oasis.opendocument.text", ODF, "odt"),
    (b"mimetypeapplication/vnd.oasis.opendocument.presentation", ODF, "odp"),
    (b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", ODF, "ods"),
    (b"word/", DOCX, "docx"),
    (b"ppt/", PPTX, "pptx"),
    (b"xl/", XLSX, "xlsx"),
)
# Whose extension is not believed when the content is plainly another format.
_BINARY = frozenset(reader.name for reader in (PDF, DOCX, PPTX, XLSX, XLS, ODF, EPUB, RTF))
_COLUMNS = (b"PAR1", b"PARE", b"ARROW1", b"FEA1")
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")

__all__ = ["HEAD_BYTES", "READERS", "ReadError", "Reader", "Reading", "choose"]


def choose(name: str, head: bytes, *, converts: bool = False) -> tuple[Reader, str]:
    """The reader for a file called `name` that starts with `head`, and the document's kind.

    `head` is the file's first `HEAD_BYTES`. An extension decides, unless it promises a package and
    the content is plainly another format. With `converts` an installed program may be started for
    it. Raises ReadError: UNSUPPORTED.
    """
    extension = PurePath(name).suffix.lower()
    by_content = _by_content(head)
    if converts and extension in OFFICE97.kinds and head.startswith(OLE_MAGIC):
        return OFFICE97, OFFICE97.kinds[extension]
    for reader in READERS.values():
        if extension in reader.kinds and not reader.is_converter:
            is_other = by_content is not None and by_content[0] not in (reader, ARCHIVE)
            if reader is XLS and (extension == ".xlsb" or head.startswith(OLE_MAGIC)):
                return XLS, XLS.kinds[extension]
            if by_content and is_other and reader.name in _BINARY:
                return by_content
            if reader is XLS and not by_content and not looks_binary(head):
                return DELIMITED, "csv"  # many programs name tables of text so
            if reader is MSG and not head.startswith(OLE_MAGIC) and not looks_binary(head):
                return TEXT, kind_of(name)  # a program's messages in other languages
            return reader, kind_of(name) if reader is TEXT else reader.kinds[extension]
    unsupported = kind_by_extension(extension)
    if by_content and not (unsupported and by_content[0] is ARCHIVE):
        return by_content
    if found := kind_by_content(head, extension):
        raise ReadError(Reason.UNSUPPORTED, found)
    if unsupported and (looks_binary(head) or by_content):
        raise ReadError(Reason.UNSUPPORTED, unsupported)
    return TEXT, kind_of(name)


def _by_content(head: bytes) -> tuple[Reader, str] | None:
    """The reader and kind that `head` itself calls for, if it does."""
    if b"%PDF-" in head[:1024]:
        return PDF, "pdf"
    if head.startswith(_ZIP):
        for sign, reader, kind in _IN_ZIP:
            if sign in head:
                return reader, kind
        return ARCHIVE, "archive"
    if head.startswith(_COMPRESSED) or is_tar(head):
        return ARCHIVE, "archive"
    if head.startswith(TNEF_MAGIC):
        return WINMAIL, "e-mail"
    if head.startswith(_COLUMNS):
        return COLUMNS, "table"
    if head.startswith(b"{\\rtf"):
        return RTF, "rtf"
    if head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        return HTML, "html"
    return None
