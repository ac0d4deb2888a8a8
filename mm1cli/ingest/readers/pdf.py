"""PDF through pypdf: one block per page that has text, with the page's index and printed label."""

import logging
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Block, Place, Reason
from mm1cli.ingest.names import one_line
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading
from mm1cli.ingest.readers.text import normalise_newlines

if TYPE_CHECKING:
    from pypdf import PdfReader

_REPLACED: dict[int, str | None] = {
    **dict.fromkeys(set(range(32)) - {ord("\t"), ord("\n")}),
    0xFB00: "ff",
    0xFB01: "fi",
    0xFB02: "fl",
    0xFB03: "ffi",
    0xFB04: "ffl",
    0xFB05: "st",
    0xFB06: "st",
}


def read_pdf(data: bytes) -> Reading:
    """Raises ReadError: ENCRYPTED, NO_TEXT, UNREADABLE."""
    import pypdf

    repairs = _Repairs()
    logger = logging.getLogger("pypdf")
    logger.addHandler(repairs)
    logger.propagate = False
    try:
        pdf = _open(data)
        blocks, warnings = _read_pages(pdf, _labels(pdf))
    finally:
        logger.removeHandler(repairs)
    return Reading(blocks, (*warnings, *repairs.warnings()), f"pypdf {pypdf.__version__}")


def clean(text: str) -> str:
    """`text` with ligatures spelt out, without control characters and lone surrogates."""
    text = normalise_newlines(text).translate(_REPLACED)
    # Through UTF-16, so that two halves of one character become one character.
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip("\n")


def page_ranges(indices: list[int]) -> str:
    """0-based page indices, ascending, as people count: "page 2", "pages 3-7, 9"."""
    ranges: list[list[int]] = []
    for index in indices:
        if ranges and index == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], index]
        else:
            ranges.append([index])
    listed = ", ".join("-".join(str(index + 1) for index in pages) for pages in ranges)
    return f"page {listed}" if len(indices) == 1 else f"pages {listed}"


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
        raise ReadError(Reason.UNREADABLE, _message(error)) from None
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


def _read_pages(
    pdf: "PdfReader", labels: list[str] | None
) -> tuple[tuple[Block, ...], tuple[str, ...]]:
    blocks: list[Block] = []
    blank: list[int] = []
    broken: list[int] = []
    first_error = ""
    for index, text in enumerate(_texts(pdf)):
        if isinstance(text, Exception):
            broken.append(index)
            first_error = first_error or _message(text)
        elif not text or text.isspace():
            blank.append(index)
        else:
            label = labels[index] if labels is not None and index < len(labels) else None
            blocks.append(Block(text, place=Place("page", index, label or "")))
    if not blocks and broken:
        raise ReadError(Reason.UNREADABLE, first_error)
    if not blocks:
        raise ReadError(Reason.NO_TEXT)
    warnings = []
    if blank:
        verb = "has" if len(blank) == 1 else "have"
        warnings.append(f"{page_ranges(blank)} {verb} no text layer")
    if broken:
        warnings.append(f"{page_ranges(broken)} could not be read: {first_error}")
    return tuple(blocks), tuple(warnings)


def _texts(pdf: "PdfReader") -> Iterator[str | Exception]:
    for index in range(len(pdf.pages)):
        try:
            yield clean(pdf.pages[index].extract_text())
        except MemoryError:
            raise
        except Exception as error:
            yield error


def _message(error: Exception) -> str:
    return one_line(str(error).strip() or type(error).__name__)[:200]


class _Repairs(logging.Handler):
    """Keeps what pypdf says about a damaged file away from stderr, and counts it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.num_repairs = 0
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.num_repairs += 1
        self.first = self.first or one_line(record.getMessage())[:200]

    def warnings(self) -> tuple[str, ...]:
        if not self.num_repairs:
            return ()
        return (f"damaged, text may be missing ({self.num_repairs} remarks: {self.first})",)


PDF = Reader(
    name="pdf",
    version=1,
    kinds={".pdf": "pdf"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_pdf,
)
