"""The text of a citation as people read it: sentences without a page's line breaks, rows of a table
with the names of their columns. For programs it stays verbatim."""

from itertools import zip_longest

from mm1cli.output.citation_context import flowing
from mm1cli.result import Citation


def shown_text(citation: Citation) -> str:
    text = citation.text.strip("\n")
    if citation.locator.unit == "row":
        return _named(text, citation.caption) if citation.caption else text
    place = citation.locator.place
    is_page = place is not None and place.kind == "page"
    return flowing(text, is_narrow=True) if is_page else text


def caption_line(citation: Citation) -> str:
    """What stands above the text; "" where it is in the text or nothing."""
    return "" if citation.locator.unit == "row" else citation.caption


def _named(rows: str, header: str) -> str:
    names = header.split("\t")
    return "\n".join(_named_row(row.split("\t"), names) for row in rows.split("\n"))


def _named_row(cells: list[str], names: list[str]) -> str:
    pairs = zip_longest(names[: len(cells)], cells, fillvalue="")
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in pairs if cell)
