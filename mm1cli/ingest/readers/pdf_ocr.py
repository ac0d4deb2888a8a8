"""Scanned pages through an installed tesseract, which is run only when the user asks for OCR.

ocrmypdf is made of the same tesseract; it would add files on disk, which the sandbox forbids. The
page goes to tesseract's stdin as a grey image and its text comes back on stdout.
"""

import shutil
import subprocess

from mm1cli.ingest.readers.pdf_pdfium import PdfiumDocument
from mm1cli.ingest.readers.pdf_text import clean

DOTS_PER_INCH = 200
_PAGE_S = 120


def is_installed() -> bool:
    return shutil.which("tesseract") is not None


def ocr_page(pdf: PdfiumDocument, index: int) -> str:
    """The text that tesseract sees on page `index`; raises OSError where it fails."""
    width, height, greys = pdf.render(index, DOTS_PER_INCH)
    image = b"P5 %d %d 255\n" % (width, height) + greys
    try:
        done = subprocess.run(
            ["tesseract", "stdin", "stdout", "--dpi", str(DOTS_PER_INCH)],
            input=image,
            capture_output=True,
            timeout=_PAGE_S,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"tesseract: {error}") from None
    return clean(done.stdout.decode("utf-8", "replace"))
