"""What lies on a PDF page beside its text: remarks, and what was filled into a form."""

import ctypes
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mm1cli.ingest.readers.pdf_text import clean

if TYPE_CHECKING:
    from pypdfium2 import PdfFormEnv, PdfPage

_MOST = 5_000
_LONGEST_BYTES = 1 << 20


def annotation_parts(page: "PdfPage", form: "PdfFormEnv | None") -> Iterator[tuple[str, str]]:
    """("form field", ...) and ("comment", ...), each with all of the page's, one a line.

    `form` knows what fields inherit: of a group of buttons or of boxes with one value, each has it
    once.
    """
    import pypdfium2.raw as c

    texts: dict[str, dict[str, None]] = {"form field": {}, "comment": {}}
    silent = {c.FPDF_ANNOT_LINK, c.FPDF_ANNOT_POPUP}
    for index in range(min(c.FPDFPage_GetAnnotCount(page.raw), _MOST)):
        annotation = c.FPDFPage_GetAnnot(page.raw, index)
        if not annotation:
            continue
        try:
            subtype = c.FPDFAnnot_GetSubtype(annotation)
            if subtype == c.FPDF_ANNOT_WIDGET:
                name, value = _field(annotation, form)
                if value and value != "Off":
                    texts["form field"][f"{name}: {value}" if name else value] = None
            elif subtype not in silent and (text := _value(annotation, b"Contents")):
                texts["comment"][text] = None
        finally:
            c.FPDFPage_CloseAnnot(annotation)
    for mark, lines in texts.items():
        if lines:
            yield mark, "\n".join(lines)


def _field(annotation: object, form: "PdfFormEnv | None") -> tuple[str, str]:
    """The name and value of a field, its own or those of the field it is a part of."""
    import pypdfium2.raw as c

    name, value = _value(annotation, b"T"), _value(annotation, b"V")
    if form is None:
        return name, value
    name = _read(lambda *into: c.FPDFAnnot_GetFormFieldName(form.raw, annotation, *into)) or name
    kind = c.FPDFAnnot_GetFormFieldType(form.raw, annotation)
    if kind in {c.FPDF_FORMFIELD_LISTBOX, c.FPDF_FORMFIELD_COMBOBOX}:
        chosen = [
            _read(lambda *into, at=at: c.FPDFAnnot_GetOptionLabel(form.raw, annotation, at, *into))
            for at in range(min(c.FPDFAnnot_GetOptionCount(form.raw, annotation), _MOST))
            if c.FPDFAnnot_IsOptionSelected(form.raw, annotation, at)
        ]
        if chosen:
            return name, ", ".join(chosen)
    if kind in {c.FPDF_FORMFIELD_CHECKBOX, c.FPDF_FORMFIELD_RADIOBUTTON}:
        # The buttons of a group all give the value of the group.
        state = _value(annotation, b"AS")
        return name, value or ("" if state == "Off" else state)
    inherited = _read(lambda *into: c.FPDFAnnot_GetFormFieldValue(form.raw, annotation, *into))
    return name, inherited or value


def _value(annotation: object, key: bytes) -> str:
    import pypdfium2.raw as c

    return _read(lambda *into: c.FPDFAnnot_GetStringValue(annotation, key, *into))


def _read(ask: Callable[..., int]) -> str:
    """What pdfium writes into a buffer of the size that it asks for."""
    import pypdfium2.raw as c

    num_bytes = ask(None, 0)
    if not 2 < num_bytes <= _LONGEST_BYTES:
        return ""
    buffer = ctypes.create_string_buffer(num_bytes)
    ask(ctypes.cast(buffer, ctypes.POINTER(c.FPDF_WCHAR)), num_bytes)
    return clean(buffer.raw[: num_bytes - 2].decode("utf-16-le", "surrogatepass")).strip()
