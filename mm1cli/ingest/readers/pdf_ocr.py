"""Scanned pages through an installed program, which is run only when the user asks for OCR.

tesseract reads a page as a grey image on stdin and writes its text to stdout. Where only ocrmypdf
can be found, it is given the whole file, and the text it adds is read from what it gives back.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from mm1cli.ingest.readers.pdf_pdfium import CannotOpenError, PdfiumDocument
from mm1cli.ingest.readers.pdf_text import clean
from mm1cli.ingest.readers.reader import MIB

DOTS_PER_INCH = 200
_PAGE_S = 120
_FILE_S = 3000
_MAX_FILE_BYTES = 1024 * MIB

Recogniser = Callable[[PdfiumDocument, int], str]


def recogniser(data: bytes) -> Recogniser | None:
    """What gives the text seen on a page of the PDF `data`; None where no program is installed.

    It raises OSError for a page that it fails on.
    """
    if shutil.which("tesseract") is not None:
        return with_tesseract
    return WithOcrmypdf(data) if shutil.which("ocrmypdf") is not None else None


def with_tesseract(pdf: PdfiumDocument, index: int) -> str:
    width, height, greys = pdf.render(index, DOTS_PER_INCH)
    image = b"P5 %d %d 255\n" % (width, height) + greys
    command = ["tesseract", "stdin", "stdout", "--dpi", str(DOTS_PER_INCH)]
    return clean(_output(command, image, _PAGE_S).decode("utf-8", "replace"))


class WithOcrmypdf:
    """Runs it once for all pages, at the first one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._pages: dict[int, str] | None = None

    def __call__(self, _pdf: PdfiumDocument, index: int) -> str:
        if self._pages is None:
            self._pages = {}  # a second try would fail alike
            self._pages = self._recognised()
        return self._pages.get(index, "")

    def _recognised(self) -> dict[int, str]:
        # The sandbox lets no file grow, so `tempfile` would find no folder that it can use; one
        # is named for ocrmypdf, whose files go with it.
        above = os.environ.get("TMPDIR") or "/tmp"
        with tempfile.TemporaryDirectory(prefix="mm1-ocr-", dir=above) as folder:
            options = ["--skip-text", "--output-type", "pdf", "--optimize", "0", "--jobs", "1"]
            command = ["ocrmypdf", "--quiet", *options, "-", "-"]
            written = _output(command, self._data, _FILE_S, folder)
        try:
            pdf = PdfiumDocument(written)
        except CannotOpenError as error:
            raise OSError(f"ocrmypdf: {error}") from None
        try:
            return {page.index: "\n".join(text for _, text in page.parts) for page in pdf.pages()}
        finally:
            pdf.close()


def _output(command: list[str], data: bytes, limit_s: int, folder: str = "") -> bytes:
    """What the program writes to stdout; it may write files in `folder` if that is given."""
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            timeout=limit_s,
            check=True,
            env={**os.environ, "TMPDIR": folder} if folder else None,
            preexec_fn=allow_files if folder else None,
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OSError(f"{command[0]}: {said[-1] if said else error}") from None
    except subprocess.SubprocessError as error:
        raise OSError(f"{command[0]}: {error}") from None
    return done.stdout


def allow_files() -> None:
    """This process may write files from here on, which its sandbox lets grow to nothing else."""
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, hard))
