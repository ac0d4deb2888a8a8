"""Readers, one file per format, and the choice of one: by extension first, then by content."""

from pathlib import PurePath

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.docx import DOCX
from mm1cli.ingest.readers.encoding import looks_binary
from mm1cli.ingest.readers.markdown import MARKDOWN
from mm1cli.ingest.readers.pdf import PDF, PDF_OCR, PYPDF
from mm1cli.ingest.readers.reader import Reader, ReadError, Reading
from mm1cli.ingest.readers.text import TEXT, kind_of
from mm1cli.ingest.readers.unsupported import kind_by_content, kind_by_extension

HEAD_BYTES = 4096
READERS = {reader.name: reader for reader in (TEXT, MARKDOWN, PDF, PYPDF, PDF_OCR, DOCX)}

__all__ = ["HEAD_BYTES", "READERS", "ReadError", "Reader", "Reading", "choose"]


def choose(name: str, head: bytes) -> tuple[Reader, str]:
    """The reader for a file called `name` that starts with `head`, and the document's kind.

    `head` is the file's first `HEAD_BYTES`. Raises ReadError: UNSUPPORTED.
    """
    extension = PurePath(name).suffix.lower()
    for reader in READERS.values():
        if extension in reader.kinds:
            return reader, kind_of(name) if reader is TEXT else reader.kinds[extension]
    if b"%PDF-" in head[:1024]:
        return PDF, "pdf"
    if head.startswith(b"PK\x03\x04") and b"word/" in head:
        return DOCX, "docx"
    if unsupported := kind_by_content(head, extension):
        raise ReadError(Reason.UNSUPPORTED, unsupported)
    if (unsupported := kind_by_extension(extension)) and looks_binary(head):
        raise ReadError(Reason.UNSUPPORTED, unsupported)
    return TEXT, kind_of(name)
