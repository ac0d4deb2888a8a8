"""What lies on a PDF page beside its text: remarks, and what was filled into a form."""

import ctypes
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mm1cli.ingest.readers.pdf_text import clean

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

_MOST = 5_000
_LONGEST_BYTES = 1 << 20


def annotation_parts(page: "PdfPage") -> Iterator[tuple[str, str]]:
    """("form field", ...) and ("comment", ...), each with all of the page's, one a line."""
    import pypdfium2.raw as c

    texts: dict[str, list[str]] = {"form field": [], "comment": []}
    silent = {c.FPDF_ANNOT_LINK, c.FPDF_ANNOT_POPUP}
    for index in range(min(c.FPDFPage_GetAnnotCount(page.raw), _MOST)):
        annotation = c.FPDFPage_GetAnnot(page.raw, index)
        if not annotation:
            continue
        try:
            subtype = c.FPDFAnnot_GetSubtype(annotation)
            if subtype == c.FPDF_ANNOT_WIDGET:
                name, value = _value(annotation, b"T"), _value(annotation, b"V")
                if value and value != "Off":
                    texts["form field"].append(f"{name}: {value}" if name else value)
            elif subtype not in silent and (text := _value(annotation, b"Contents")):
                texts["comment"].append(text)
        finally:
            c.FPDFPage_CloseAnnot(annotation)
    for mark, lines in texts.items():
        if lines:
            yield mark, "\n".join(lines)


def _value(annotation: object, key: bytes) -> str:
    import pypdfium2.raw as c

    num_bytes = c.FPDFAnnot_GetStringValue(annotation, key, None, 0)
    if not 2 < num_bytes <= _LONGEST_BYTES:
        return ""
    buffer = ctypes.create_string_buffer(num_bytes)
    pointer = ctypes.cast(buffer, ctypes.POINTER(c.FPDF_WCHAR))
    c.FPDFAnnot_GetStringValue(annotation, key, pointer, num_bytes)
    return clean(buffer.raw[: num_bytes - 2].decode("utf-16-le", "surrogatepass")).strip()
