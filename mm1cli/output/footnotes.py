"""What the files with footnotes share: which source a footnote names, and in what order."""

from mm1cli.output.citation_context import flowing
from mm1cli.output.page import Collected
from mm1cli.output.quoted_text import caption_line, shown_text
from mm1cli.result import Answer, Citation, CitationStatus, Form, warning_texts

_STATUS_WORDS = {
    CitationStatus.EXACT: "",
    CitationStatus.NORMALISED: " (spacing or letter forms differ)",
    CitationStatus.NOT_FOUND: " (NOT FOUND in the source)",
}


def place(citation: Citation) -> str:
    """The file and where in it, as a footnote begins."""
    return f"{citation.path}, {citation.locator}{_STATUS_WORDS[citation.status]}"


def words(citation: Citation) -> str:
    """The passage on one line, in quotation marks; behind it what it needs to be understood."""
    text = " ".join(flowing(shown_text(citation)).split())
    caption = caption_line(citation)
    return f"“{text}”" + (f" ({caption})" if caption else "")


def remarks(answer: Answer) -> list[str]:
    """What stands below the text of an answer."""
    found = [f"Computed: {how}" for how in answer.computed]
    found += [f"Warning: {text}" for text in warning_texts(answer)]
    if answer.words.strip():
        carried = "" if answer.is_found else ", which no passage bears out"
        found.insert(0, f"The model's words{carried}: {answer.words.strip()}")
    if answer.form is Form.EXTRACT and answer.citations:
        found.insert(0, f"Word for word from {place(answer.citations[0])}")
    return found


def others(answer: Answer, told: set[int]) -> list[Citation]:
    """The sources that no footnote in the text names."""
    return [one for one in answer.citations if one.number not in told]


def imprint(collected: Collected) -> str:
    """What the file rests on, in one line."""
    manifest, run = collected.manifest, collected.run
    parts = [f"mm1 {collected.version}", f"{collected.made:%d %B %Y, %H:%M}", f"model {run.model}"]
    if manifest is not None:
        left = len(manifest.left_out)
        parts.append(f"{len(manifest.read):,} documents read" + (f", {left:,} not" if left else ""))
    return " · ".join(parts)
