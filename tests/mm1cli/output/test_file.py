"""`-o FILE`: each ending gives a file another program can read, with the sources in it."""

import csv
import io
import json
import re
import zipfile
from dataclasses import replace

import pytest
import sample_run

from mm1cli.errors import UsageError
from mm1cli.ingest.readers.docx import read_docx
from mm1cli.output.file import ANSWERS, OutputFile
from mm1cli.result import Answer

HOSTILE = replace(
    sample_run.ANSWER,
    text="=1+1 ![x](http://a.b/?q) <img src=x> \x00\x1b[31m",
    claims=(),
    unverified=(),
)


def written(tmp_path, name: str, *answers: Answer) -> bytes:
    path = tmp_path / name
    sink = OutputFile(path, made=sample_run.MADE, version="0.1.0")
    sample_run.play(sink, *answers)
    assert sink.has_answers
    sink.write()
    return path.read_bytes()


@pytest.mark.parametrize("ending", ANSWERS)
def test_every_form_has_the_answer_its_sources_and_replaces_only_its_own(tmp_path, ending: str):
    """Red: a file loses the evidence, cannot be written twice, or costs the user a file."""
    for _ in range(2):
        content = written(tmp_path, f"out{ending}", sample_run.ANSWER, sample_run.NOT_FOUND)
    if ending == ".docx":
        package = zipfile.ZipFile(io.BytesIO(content))
        content = b"".join(package.read(name) for name in package.namelist())
    text = re.sub(r"\\(?=\W)|<[^>]*>", "", content.decode("utf-8", "replace"))
    for words in ("The crossing cost 48.2 million", "council-minutes.docx", "Not found in the 4"):
        assert words in text, words
    has_thinking = ending in {".html", ".json", ".jsonl"}
    assert ("The minutes give the cost" in text) is has_thinking, "thinking is no answer"
    other = tmp_path / f"thesis{ending}"
    other.write_bytes(b"years of work")
    with pytest.raises(UsageError, match="mm1 did not write"):
        written(tmp_path, other.name, sample_run.ANSWER)
    assert other.read_bytes() == b"years of work"


def test_an_unknown_ending_says_which_there_are(tmp_path):
    with pytest.raises(UsageError, match=r"\.md, \.docx, \.html"):
        written(tmp_path, "out.pdf", sample_run.ANSWER)


def test_a_word_document_has_each_source_as_a_footnote(tmp_path):
    """Red: Word opens an answer whose footnotes are missing, doubled, or of another sentence."""
    content = written(tmp_path, "out.docx", sample_run.ANSWER, HOSTILE)
    reading = read_docx(content)
    texts = [block.text for block in reading.blocks]
    package = zipfile.ZipFile(io.BytesIO(content))
    body = package.read("word/document.xml").decode()
    notes = package.read("word/footnotes.xml").decode()
    referred = [int(one) for one in re.findall(r'footnoteReference w:id="(\d+)"', body)]
    assert referred == list(range(1, len(referred) + 1)), "Word numbers them in this order"
    assert re.findall(r'<w:footnote w:id="(\d+)"', notes) == [str(one) for one in referred]
    assert sample_run.COST in " ".join(texts)
    first = body.index("more than was planned")
    assert body.index('w:id="1"') > first < body.index("It opened on 21"), "behind its sentence"
    between = body[body.index('w:id="1"') : body.index('w:id="2"')]
    assert ">, <" in between, "notes 1 and 2 are not read as 12"
    assert "\\x1b[31m" in " ".join(texts), "what XML cannot hold is spelled out"


def test_markdown_has_footnotes_and_nothing_foreign_means_anything(tmp_path):
    """Red: a document's text becomes an image that is loaded, or a tag."""
    text = written(tmp_path, "out.md", sample_run.ANSWER, HOSTILE).decode()
    assert r"planned.[^1-1][^1-2]" in text and "\n[^1-2]: **" in text
    assert not re.search(r"(?<!\\)(\[x|<img|\x1b)", text)
    assert text.count("[^2-1]: ") == 1


def test_a_spreadsheet_has_columns_and_no_formulas(tmp_path):
    """Red: a cell of a document is calculated, or the rows of a table are one text."""
    value = {
        "columns": ["Document", "Cost"],
        "rows": [
            {
                "Document": {"text": "a.pdf", "citations": [], "is_found": True},
                "Cost": {"text": "=HYPERLINK(1)", "citations": [1], "is_found": True},
            }
        ],
    }
    table = replace(sample_run.FILLED, value=value)
    rows = list(csv.reader(io.StringIO(written(tmp_path, "a.csv", table).decode("utf-8-sig"))))
    assert rows[0] == ["Document", "Cost", "sources"]
    assert rows[1][:2] == ["a.pdf", "'=HYPERLINK(1)"] and "council-minutes" in rows[1][2]
    fields = replace(sample_run.STRUCTURED, value={"n": -5, "late": None, "tags": ["a", "b"]})
    rows = list(csv.reader(io.StringIO(written(tmp_path, "b.csv", fields).decode("utf-8-sig"))))
    assert rows[0] == ["question", "n", "late", "tags", "sources"]
    assert rows[1][1:4] == ["-5", "", "a; b"]


def test_json_files_are_those_of_json(tmp_path):
    told = json.loads(written(tmp_path, "out.json", sample_run.ANSWER))
    assert told["answer"] == sample_run.ANSWER.text and told["citations"][0]["number"] == 1
    lines = written(tmp_path, "out.jsonl", sample_run.ANSWER).decode().splitlines()
    assert json.loads(lines[-1])["type"] == "result"
