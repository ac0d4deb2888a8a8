"""Answers as a Word document: each source is a footnote of the sentence that it carries.

python-docx writes the document. It knows no footnotes, so their part is made here, as ECMA-376
17.11 has it: two separators, then a note for each reference, numbered by Word itself.
"""

import io
import re
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

import docx
from docx.opc.constants import CONTENT_TYPE, RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Pt, RGBColor

from mm1cli.output import footnotes
from mm1cli.output.answer_text import AnswerText, Block, Piece
from mm1cli.output.page import Collected
from mm1cli.output.text import safe
from mm1cli.result import Answer, Citation

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WARNING = RGBColor(0xA0, 0x50, 0x00)
_MOST_LEFT_OUT = 200  # named, of the files that were not read


def word_document(collected: Collected) -> bytes:
    return _Writer(collected).bytes()


class _Writer:
    def __init__(self, collected: Collected) -> None:
        self._document = docx.Document()
        self._notes: list[str] = []
        properties = self._document.core_properties
        properties.author = properties.last_modified_by = "mm1"
        properties.created = properties.modified = collected.made.replace(tzinfo=None)
        properties.comments = ""
        properties.title = (
            _clean(collected.answers[0].question)[:250] if collected.answers else "mm1"
        )
        self._small(footnotes.imprint(collected))
        for error in collected.errors:
            self._warning(f"The run ended with an error: {error}")
        for answer in collected.answers:
            self._answer(answer)
        self._left_out(collected)

    def bytes(self) -> bytes:
        self._write_notes()
        out = io.BytesIO()
        self._document.save(out)
        return out.getvalue()

    def _answer(self, answer: Answer) -> None:
        self._document.add_heading(_clean(" ".join(answer.question.split())), level=1)
        sources = {one.number: one for one in answer.citations}
        told: dict[int, int] = {}  # source -> number of its footnote
        if answer.is_json:
            self._code(answer.text)
        else:
            for block, rows in AnswerText(answer).layout():
                self._block(block, rows, sources, told)
        for text in footnotes.remarks(answer):
            if text.startswith("Warning"):
                self._warning(text)
            else:
                self._document.add_paragraph(_clean(text))
        if others := footnotes.others(answer, set(told)):
            label = "Evidence:" if answer.is_found else "Not found; these passages come nearest:"
            paragraph = self._document.add_paragraph(label)
            for one in others:
                paragraph.add_run(" ")
                self._refer(paragraph, one.number, sources, told)

    def _block(
        self,
        block: Block,
        rows: Sequence[Sequence[Sequence[Piece]]],
        sources: dict[int, Citation],
        told: dict[int, int],
    ) -> None:
        if block.kind == "table":
            table = self._document.add_table(len(rows), len(rows[0]), style="Table Grid")
            for row, cells in zip(rows, table.rows, strict=True):
                for pieces, cell in zip(row, cells.cells, strict=False):
                    self._pieces(cell.paragraphs[0], pieces, sources, told)
            for run in (run for cell in table.rows[0].cells for run in cell.paragraphs[0].runs):
                run.bold = True
            self._document.add_paragraph()
        elif block.kind == "code":
            self._code("".join(piece.text for piece in rows[0][0]))
        elif block.kind == "heading":
            self._pieces(self._document.add_heading(level=2), rows[0][0], sources, told)
        else:
            is_item = block.kind == "item"
            style = (
                ("List Number" if block.lead[:1].isdigit() else "List Bullet") if is_item else None
            )
            self._pieces(self._document.add_paragraph(style=style), rows[0][0], sources, told)

    def _pieces(
        self,
        paragraph: Any,  # noqa: ANN401 - python-docx has no types
        pieces: Sequence[Piece],
        sources: dict[int, Citation],
        told: dict[int, int],
    ) -> None:
        for piece in pieces:
            run = paragraph.add_run(_clean(piece.text.replace("\n", " ")))
            run.bold = "strong" in piece.classes or None
            if "code" in piece.classes:
                run.font.name = "Consolas"
            if piece.flag:
                flag = paragraph.add_run(f" ({piece.flag})")
                flag.italic, flag.font.color.rgb = True, _WARNING
            for index, number in enumerate(piece.refs):
                if index:  # 1 and 2 are not 12
                    paragraph.add_run(", ").font.superscript = True
                self._refer(paragraph, number, sources, told)

    def _refer(
        self,
        paragraph: Any,  # noqa: ANN401
        number: int,
        sources: dict[int, Citation],
        told: dict[int, int],
    ) -> None:
        """A footnote where a source is named first, its number where it is named again."""
        run = paragraph.add_run()
        run.font.superscript = True
        if number in told:
            run.text = str(told[number])
            return
        source = sources[number]
        self._notes.append(_note(len(self._notes) + 1, source))
        told[number] = len(self._notes)
        reference = OxmlElement("w:footnoteReference")
        reference.set(qn("w:id"), str(told[number]))
        run._r.append(reference)

    def _code(self, text: str) -> None:
        run = self._document.add_paragraph().add_run(_clean(text))
        run.font.name, run.font.size = "Consolas", Pt(9)

    def _small(self, text: str) -> None:
        self._document.add_paragraph().add_run(_clean(text)).font.size = Pt(9)

    def _warning(self, text: str) -> None:
        self._document.add_paragraph().add_run(_clean(text)).font.color.rgb = _WARNING

    def _left_out(self, collected: Collected) -> None:
        left = collected.manifest.left_out if collected.manifest is not None else ()
        if not left:
            return
        self._document.add_heading("Not read", level=2)
        for entry in left[:_MOST_LEFT_OUT]:
            self._small(f"{entry.path}: {entry.reason}")
        if (more := len(left) - _MOST_LEFT_OUT) > 0:
            self._small(f"and {more:,} more")

    def _write_notes(self) -> None:
        separators = "".join(
            f'<w:footnote w:type="{kind}" w:id="{number}"><w:p><w:r><w:{tag}/></w:r></w:p>'
            "</w:footnote>"
            for number, kind, tag in (
                (-1, "separator", "separator"),
                (0, "continuationSeparator", "continuationSeparator"),
            )
        )
        content = (
            '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
            f'<w:footnotes xmlns:w="{_W}">{separators}{"".join(self._notes)}</w:footnotes>'
        )
        part = self._document.part
        notes = Part(
            PackURI("/word/footnotes.xml"),
            CONTENT_TYPE.WML_FOOTNOTES,
            content.encode(),
            part.package,
        )
        part.relate_to(notes, RELATIONSHIP_TYPE.FOOTNOTES)


def _note(number: int, source: Citation) -> str:
    small = '<w:rPr><w:sz w:val="18"/></w:rPr>'
    bold = '<w:rPr><w:b/><w:sz w:val="18"/></w:rPr>'
    mark = '<w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:footnoteRef/>'

    def run(text: str, look: str) -> str:
        return f'<w:r>{look}<w:t xml:space="preserve">{escape(_clean(text))}</w:t></w:r>'

    return (
        f'<w:footnote w:id="{number}"><w:p><w:r>{mark}</w:r>'
        f"{run(' ' + footnotes.place(source), bold)}"
        f"{run(': ' + footnotes.words(source), small)}</w:p></w:footnote>"
    )


def _clean(text: str) -> str:
    """`text` with what XML cannot hold spelled out."""
    text = safe(text)
    return _NOT_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
