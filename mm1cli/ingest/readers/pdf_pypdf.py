"""PDF through pypdf: who may open it, and the text of pages that pdfium finds none on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Damaged, Reason
from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.readers.markup import local_name, parse_xml
from mm1cli.ingest.readers.pdf_text import Page, clean, message_of
from mm1cli.ingest.readers.reader import ReadError

if TYPE_CHECKING:
    from pypdf import PdfReader


_MOST_FIELDS = 10_000
_NO_DAMAGE = "is not installed"  # a remark about this machine, not about the file


def library() -> str:
    import pypdf

    return f"pypdf {pypdf.__version__}"


class PypdfDocument:
    """Raises ReadError: ENCRYPTED, UNREADABLE. To be used inside `quiet`."""

    def __init__(self, data: bytes) -> None:
        self._pdf = _open(data)
        self._labels = _labels(self._pdf)

    def __len__(self) -> int:
        return len(self._pdf.pages)

    def pages(self) -> Iterator[Page]:
        return map(self.page, range(len(self)))

    def page(self, index: int) -> Page:
        labels = self._labels
        page = Page(index, labels[index] if labels and index < len(labels) else "")
        try:
            text = clean(self._pdf.pages[index].extract_text())
            if text and not text.isspace():
                page.parts = (("", text),)
        except MemoryError:
            raise
        except Exception as error:
            page.error = message_of(error)
        return page


def xfa_data(data: bytes) -> list[str]:
    """What was filled into a form of XFA, as "name: value"; nothing where it cannot be read.

    To be used inside `quiet`.
    """
    try:
        parts = _open(data).xfa or {}
        root = parse_xml(bytes(parts["datasets"]))
    except MemoryError:
        raise
    except Exception:
        return []
    found: list[str] = []
    for element in root.iter():
        text = one_line((element.text or "").strip()) if len(element) == 0 else ""
        if text and len(found) < _MOST_FIELDS:
            found.append(f"{local_name(element)}: {text}")
    return found


class Repairs(logging.Handler):
    """Keeps what pypdf says about a damaged file away from stderr, and counts it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.num_repairs = 0
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if _NO_DAMAGE not in message:
            self.add(one_line(message)[:200])

    def add(self, remark: str) -> None:
        self.num_repairs += 1
        self.first = self.first or remark

    def warnings(self) -> tuple[str, ...]:
        if not self.num_repairs:
            return ()
        told = f"damaged, text may be missing ({self.num_repairs} remarks: {self.first})"
        return (Damaged(told),)


@contextmanager
def quiet() -> Iterator[Repairs]:
    repairs = Repairs()
    logger = logging.getLogger("pypdf")
    logger.addHandler(repairs)
    logger.propagate = False
    try:
        yield repairs
    finally:
        logger.removeHandler(repairs)


def _open(data: bytes) -> "PdfReader":
    from pypdf import PasswordType, PdfReader
    from pypdf.errors import FileNotDecryptedError

    try:
        pdf = PdfReader(BytesIO(data))
        if pdf.is_encrypted and pdf.decrypt("") == PasswordType.NOT_DECRYPTED:
            raise ReadError(Reason.ENCRYPTED)
        num_pages = len(pdf.pages)
    except (ReadError, MemoryError):
        raise
    except FileNotDecryptedError:
        raise ReadError(Reason.ENCRYPTED) from None
    except Exception as error:
        raise ReadError(Reason.UNREADABLE, message_of(error)) from None
    if num_pages == 0:
        raise ReadError(Reason.UNREADABLE, "no page could be found")
    return pdf


def _labels(pdf: "PdfReader") -> list[str] | None:
    """The printed page numbers; None where the file defines none, or none that can be read."""
    try:
        if "/PageLabels" not in pdf.root_object:
            return None
        return [one_line(clean(label)) for label in pdf.page_labels]
    except MemoryError:
        raise
    except Exception:
        return None
