"""PDF through pdfium: text page by page, with what a reader of the page cannot see set apart.

pdfium is not thread-safe; the sandbox's child reads one file at a time, in one thread.
"""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from mm1cli.ingest.corpus import Damaged
from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.readers.attachments import Attachments
from mm1cli.ingest.readers.pdf_annotations import annotation_parts
from mm1cli.ingest.readers.pdf_fractions import may_have_fractions
from mm1cli.ingest.readers.pdf_garbage import UNREADABLE, is_garbled
from mm1cli.ingest.readers.pdf_hidden import Survey, survey
from mm1cli.ingest.readers.pdf_layout import arranged, has_ligatures, is_crowded, may_have_layout
from mm1cli.ingest.readers.pdf_raised import runs_of, with_signs
from mm1cli.ingest.readers.pdf_rules import grids
from mm1cli.ingest.readers.pdf_struck import struck_rules
from mm1cli.ingest.readers.pdf_text import Page, clean, message_of
from mm1cli.ingest.readers.pdf_turned import (
    may_be_turned,
    quarters_of,
    turned_box,
    turned_rule,
)
from mm1cli.ingest.readers.reader import Member, installed

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

_DEEPEST_HEADING = 6
_MOST_HEADINGS = 20_000
_XFA_FORMS = frozenset({2, 3})  # FORMTYPE_XFA_FULL, FORMTYPE_XFA_FOREGROUND


@cache
def library() -> str:
    return installed("pypdfium2")


class CannotOpenError(Exception):
    """pdfium will not open the file: it is damaged, locked, or no PDF."""


class PdfiumDocument:
    def __init__(self, data: bytes) -> None:
        import pypdfium2

        try:
            self._pdf: PdfDocument = pypdfium2.PdfDocument(data)
            # Before anything is asked of the pages; a form that fails is no reason to read none.
            with suppress(pypdfium2.PdfiumError):
                self._pdf.init_forms()
            self._form = self._pdf.formenv
            self.has_xfa = self._pdf.get_formtype() in _XFA_FORMS
            self._num_pages = len(self._pdf)
        except pypdfium2.PdfiumError as error:
            raise CannotOpenError(message_of(error)) from None
        if self._num_pages == 0:
            raise CannotOpenError("no page could be found")

    def __len__(self) -> int:
        return self._num_pages

    def pages(self) -> Iterator[Page]:
        headings = self._headings()
        path: tuple[str, ...] = ()
        for index in range(len(self)):
            page = self._page(index)
            on_page = headings.get(index, [])
            # A page that begins inside a section is in that section.
            page.headings = path or (on_page[0] if on_page else ())
            if on_page:
                page.headings = on_page[0]
                path = on_page[-1]
            yield page

    def attachments(self) -> tuple[list[Member], list[str]]:
        """The files inside, and a warning for each that cannot be taken out."""
        import pypdfium2

        found = Attachments()
        warnings: list[str] = []
        for index in range(self._pdf.count_attachments()):
            name = f"attachment {index + 1}"
            try:
                attachment = self._pdf.get_attachment(index)
                name = one_line(attachment.get_name()) or name
                data = bytes(attachment.get_data())
            except (pypdfium2.PdfiumError, UnicodeDecodeError, ValueError) as error:
                warnings.append(Damaged(f"{name} cannot be taken out: {message_of(error)}"))
                continue
            if not found.add(name, data):
                break
        return found.members, warnings

    def render(self, index: int, dots_per_inch: int) -> tuple[int, int, bytes]:
        """Width, height and 8-bit greys, row by row, of one page."""
        import pypdfium2

        page = self._pdf[index]
        bitmap = page.render(scale=dots_per_inch / 72, grayscale=True, rev_byteorder=False)
        try:
            assert bitmap.format == pypdfium2.raw.FPDFBitmap_Gray
            rows = bytes(bitmap.buffer)
            stride, width, height = bitmap.stride, bitmap.width, bitmap.height
            lines = (rows[at : at + width] for at in range(0, stride * height, stride))
            return width, height, b"".join(lines)
        finally:
            bitmap.close()
            page.close()

    def close(self) -> None:
        self._pdf.close()

    def _page(self, index: int) -> Page:
        import pypdfium2

        page = Page(index, self._label(index))
        try:
            raw = self._pdf[index]
        except pypdfium2.PdfiumError as error:
            page.error = message_of(error)
            return page
        try:
            seen = survey(raw)
            page.has_image = seen.has_image
            page.is_scan = seen.is_scan
            page.parts = tuple(_text_parts(raw, seen, page.remarks))
            page.is_garbled = any(mark == UNREADABLE for mark, _ in page.parts)
        except pypdfium2.PdfiumError as error:
            page.error = message_of(error)
        try:
            page.parts = (*page.parts, *annotation_parts(raw, self._form))
        except (pypdfium2.PdfiumError, ValueError, UnicodeDecodeError) as error:
            page.remarks.append(Damaged(f"remarks or form fields: {message_of(error)}"))
        finally:
            raw.close()
        return page

    def _label(self, index: int) -> str:
        return one_line(clean(self._pdf.get_page_label(index) or ""))

    def _headings(self) -> dict[int, list[tuple[str, ...]]]:
        """By page, the outline's entries that begin on it, each as the path that leads to it."""
        import pypdfium2

        found: dict[int, list[tuple[str, ...]]] = {}
        path: list[str] = []
        try:
            for number, entry in enumerate(self._pdf.get_toc(max_depth=_DEEPEST_HEADING)):
                if number >= _MOST_HEADINGS:
                    break
                path[entry.level :] = [one_line(clean(entry.get_title() or ""))[:200]]
                destination = entry.get_dest()
                index = destination.get_index() if destination else None
                if index is not None:
                    found.setdefault(index, []).append(tuple(filter(None, path)))
        except (pypdfium2.PdfiumError, ctypes.ArgumentError, ValueError, UnicodeDecodeError):
            pass
        return found


def _text_parts(page: "PdfPage", seen: Survey, remarks: list[str]) -> Iterator[tuple[str, str]]:
    text_page = page.get_textpage()
    try:
        runs = list(runs_of(text_page, seen.raised)) if seen.raised else []
        quarters = 0
        rules, boxes = seen.rules, seen.text_boxes
        if may_be_turned(boxes, page.get_rotation()) and (quarters := quarters_of(text_page)):
            rules = [turned_rule(rule, quarters) for rule in rules]
            boxes = [turned_box(box, quarters) for box in boxes]
        ruled = list(grids(rules))
        bars = rules if may_have_fractions(boxes, rules) else ()
        struck = struck_rules(boxes, rules)
        has_layout = bool(bars or struck) or may_have_layout(boxes, ruled)
        if has_layout and is_crowded(text_page, boxes):
            remarks.append("too much text to look for tables; rows may be broken")
            has_layout = False
        if has_layout:
            found = arranged(text_page, seen.marks, ruled, runs, bars, struck, quarters=quarters)
        elif seen.is_suspicious:
            found = arranged(text_page, seen.marks, (), runs, is_plain=True)
        elif runs:
            found = [("", with_signs(text_page, runs))]
        else:
            found = [("", text_page.get_text_range(errors="surrogatepass"))]
            if has_ligatures(found[0][1]):
                found = arranged(text_page, seen.marks, (), is_plain=True)
        is_lost = is_garbled(text_page, "".join(text for mark, text in found if not mark))
    finally:
        text_page.close()
    for mark, text in found:
        cleaned = clean(text)
        if cleaned and not cleaned.isspace():
            yield mark or (UNREADABLE if is_lost else ""), cleaned
