"""The text of a citation as people read it: sentences without a page's line breaks, rows of a table
with the names of their columns. For programs it stays verbatim."""

import re
from itertools import zip_longest

from mm1cli.output.citation_context import flowing
from mm1cli.result import Citation

_HEADER_ROW = re.compile(r"\s*\|\s*(?P<names>.*?)\s*\|\s*")  # of a table in Markdown


def shown_text(citation: Citation) -> str:
    text = citation.text.strip("\n")
    if _has_columns(citation):
        return _named(text, citation.caption, is_sheet=citation.locator.unit == "row")
    if citation.locator.unit == "row":
        return text
    place = citation.locator.place
    is_page = place is not None and place.kind == "page"
    return flowing(text, is_narrow=True) if is_page else text


def caption_line(citation: Citation) -> str:
    """What the text stands under, outside of the place that is named; "" where it is in the text or
    nothing. The header row of a table is told as its columns: it is no line of that place."""
    if _has_columns(citation):
        return ""
    row = _HEADER_ROW.fullmatch(citation.caption)
    return f"columns: {row['names']}" if row else citation.caption


def _has_columns(citation: Citation) -> bool:
    return (citation.locator.unit == "row" and bool(citation.caption)) or "\t" in citation.caption


def _named(rows: str, header: str, *, is_sheet: bool) -> str:
    """Rows with the names of `header`; running text between them stays as it is."""
    names = header.split("\t")
    return "\n".join(
        _named_row(row.split("\t"), names) if is_sheet or "\t" in row else row
        for row in rows.split("\n")
    )


def _named_row(cells: list[str], names: list[str]) -> str:
    pairs = zip_longest(names[: len(cells)], cells, fillvalue="")
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in pairs if cell)
