"""From every token of a folder of mixed files back to the place it was read from."""

import io
import json
import zipfile

import docx
import openpyxl
import pptx
import pytest
from office import saved
from reportlab.pdfgen.canvas import Canvas

from engine.tokenizer import Tokenizer
from mm1cli.ingest import read_corpus
from mm1cli.ingest.pack import document_text, pack

NOTEBOOK = {
    "nbformat": 4,
    "metadata": {},
    "cells": [
        {"cell_type": "markdown", "source": "about cells"},
        {"cell_type": "code", "source": "first = 1\nsecond = 2", "outputs": []},
    ],
}
RAW = {
    "a.md": b"# Title\r\n\r\nplain words\r\n## Inner\r\nmore words\r\n",
    "b.txt": "Gr\u00fc\u00dfe aus K\u00f6ln \u6e2f\n\nzweite Zeile\n".encode("utf-16"),
    "c.py": b"def build():\n    return 1\n",
    "d.csv": b"name,cost\nbridge,48\nferry,9\n",
    "e.html": b"<html><body><h1>Head</h1><p>body text</p></body></html>",
    "f.ipynb": json.dumps(NOTEBOOK).encode(),
    "g.eml": b"From: a@b.c\nSubject: tides\nContent-Type: text/plain\n\nhigh water\n",
    "h.rtf": rb"{\rtf1\ansi rich words\par more rich words}",
}
# For a word of each place, where a citation of it must lead.
PLACES = {
    "a.md": {"plain": "line 3", "more": "line 5"},
    "b.txt": {"zweite": "line 3", "K\u00f6ln": "line 1", "\u6e2f": "line 1"},
    "c.py": {"return": "line 2"},
    "d.csv": {"ferry": "A3:B3"},
    "f.ipynb": {"about": "cell 1, line 1", "second": "cell 2, line 2"},
    "i.pdf": {"front": "p. i", "back": "p. ii"},
    "j.docx": {"before": "\u00b6 1", "cell": "\u00b6 2"},
    "k.pptx": {"slide words": "slide 1"},
    "l.xlsx": {"total": "Budget!A2:B2"},
    "m.zip/n.txt": {"packed": "line 2"},
}


def drawn():
    output = io.BytesIO()
    canvas = Canvas(output, invariant=1)
    canvas.addPageLabel(0, style="ROMAN_LOWER", start=1)
    for text in ("front page", "back page"):
        canvas.drawString(72, 700, text)
        canvas.showPage()
    canvas.save()
    return output.getvalue()


def zipped(name, content):
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr(name, content)
    return output.getvalue()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    word, slides, book = docx.Document(), pptx.Presentation(), openpyxl.Workbook()
    word.add_paragraph("before the table")
    word.add_table(1, 1).cell(0, 0).text = "cell words"
    slides.slides.add_slide(slides.slide_layouts[5]).shapes.title.text = "slide words"
    book.active.title = "Budget"
    for row in (["item", "cost"], ["total", 57]):
        book.active.append(row)
    files = RAW | {
        "i.pdf": drawn(),
        "j.docx": saved(word),
        "k.pptx": saved(slides),
        "l.xlsx": saved(book),
        "m.zip": zipped("n.txt", "one\npacked line\n"),
    }
    folder = tmp_path_factory.mktemp("mixed")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return read_corpus([str(folder)])


@pytest.fixture(scope="module")
def packed(mixed, llama):
    return pack(mixed, Tokenizer(llama))


def origins(packed):
    """By the name of its file, what each token leads to, once for a character of several tokens."""
    found = {}
    for number, document in enumerate(packed.corpus.documents):
        first = len(packed.contents_ids) + sum(map(len, packed.token_ids[:number]))
        spans = packed.encoder.offsets(document_text(document))
        name = document.path.partition("mixed0/")[2]
        for at, span in enumerate(spans):
            origin = packed.locate(first + at)
            assert origin.document is document
            if at == 0 or span != spans[at - 1]:
                found.setdefault(name, []).append(origin)
    return found


def test_every_token_leads_to_text_that_has_it(packed):
    """Red: a quote is looked for where it does not stand, or a part of a file leads nowhere."""
    by_name = origins(packed)
    assert all(packed.locate(index) is None for index in range(len(packed.contents_ids)))
    for document in packed.corpus.documents:
        name = document.path.partition("mixed0/")[2]
        read = "".join(block.text for block in document.blocks)
        assert "".join(origin.text for origin in by_name.get(name, [])) == read
        assert bool(read) is (name != "m.zip")
        for origin in by_name.get(name, []):
            assert any(origin.text in block.text for block in document.blocks)
    for index, token in enumerate(packed.ids()):
        spelled, origin = packed.encoder.decode([token]), packed.locate(index)
        if origin is not None and "\ufffd" not in spelled:
            assert origin.text in spelled


def test_the_tokens_of_a_word_lead_to_its_place(packed):
    """Red: a citation made of tokens names another page, sheet, slide, paragraph or line."""
    by_name = origins(packed)
    for name, words in PLACES.items():
        placed = [(text, origin) for origin in by_name[name] for text in origin.text]
        read = "".join(text for text, _ in placed)
        for word, place in words.items():
            start = read.index(word)
            places = {str(origin.locator) for _, origin in placed[start : start + len(word)]}
            assert places == {place}, (name, word)


@pytest.mark.parametrize("name", ["a.md", "b.txt", "c.py"])
def test_tokens_of_text_lead_to_its_very_characters(packed, name):
    """Red: an editor that is sent to a quote marks other characters than those quoted."""
    decoded = RAW[name].decode("utf-16" if name == "b.txt" else "utf-8")
    for origin in origins(packed)[name]:
        if origin.locator is None:
            continue
        start, end = origin.locator.source_start, origin.locator.source_end
        assert start is not None and end is not None
        assert decoded[start:end].replace("\r\n", "\n").rstrip("\r") == origin.text.rstrip("\r")
