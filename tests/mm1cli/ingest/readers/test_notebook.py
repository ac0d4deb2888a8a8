import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from office import refusal, shown, texts

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.notebook import read_notebook

PNG = base64.b64encode(bytes(3000)).decode()


def notebook(*cells):
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


def code(source, *outputs):
    return {"cell_type": "code", "source": source, "outputs": outputs, "metadata": {}}


def markdown(source, **more):
    return {"cell_type": "markdown", "source": source, "metadata": {}, **more}


def stream(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


def test_cells_are_cited_by_number_and_line():
    """Red: a citation cannot say which cell, or counts its lines from the top of the file."""
    reading = read_notebook(
        notebook(
            markdown(["# Load\n", "the data"]),
            code("x = 1\nprint(x)", stream(["1\n"])),
            markdown("```\n# no heading\n```\n## Fit ##\n"),
            code("", stream("only output")),
        )
    )
    assert shown(reading) == [
        ("cell 1, line 1", "# Load"),
        ("cell 1, line 2", "the data"),
        ("cell 2, line 1", "x = 1"),
        ("cell 2, line 2", "print(x)"),
        ("cell 2, line 1 (output)", "1"),
        ("cell 3, line 1", "```"),
        ("cell 3, line 2", "# no heading"),
        ("cell 3, line 3", "```"),
        ("cell 3, line 4", "## Fit ##"),
        ("cell 4, line 1 (output)", "only output"),
    ]
    assert [block.headings for block in reading.blocks[:2]] == [("Load",)] * 2
    assert reading.blocks[-1].headings == ("Load", "Fit")
    assert [block.place.label for block in reading.blocks[:2]] == ["markdown", "code"]


def test_outputs_are_what_people_saw():
    """Red: colour codes, redrawn progress bars and markup fill the context."""
    reading = read_notebook(
        notebook(
            code("a", stream("10%\r50%\r100%\ndone\r\n")),
            code(
                "b",
                {
                    "output_type": "error",
                    "ename": "ValueError",
                    "evalue": "no",
                    "traceback": ["\x1b[0;31mTraceback\x1b[0m", "ValueError: no"],
                },
            ),
            code(
                "c",
                {
                    "output_type": "execute_result",
                    "data": {"text/plain": "   x\n0  1", "text/html": "<table></table>"},
                },
            ),
            code(
                "d",
                {
                    "output_type": "display_data",
                    "data": {
                        "text/plain": "<IPython.core.display.HTML object>",
                        "text/html": "<p>seen</p><script>no</script>",
                    },
                },
            ),
        )
    )
    outputs = [block.text for block in reading.blocks if block.mark == "output"]
    assert outputs == ["100%\ndone", "Traceback\nValueError: no", "   x\n0  1", "seen"]


def test_pictures_are_dropped_and_counted():
    """Red: 4 KB of base64 for every figure."""
    figure = {
        "output_type": "display_data",
        "data": {"image/png": PNG, "text/plain": "<Figure size 640x480>"},
    }
    reading = read_notebook(
        notebook(
            code("plot()", figure),
            markdown(f"see ![x](data:image/png;base64,{PNG}) here", attachments={"a": {}}),
        )
    )
    assert texts(reading) == ["plot()", "<Figure size 640x480>", "see ![x]() here"]
    assert reading.warnings == ("3 pictures are not read",)


def test_long_outputs_are_cut_and_named():
    """Red: a million lines of log crowd out the notebook, or vanish without a word."""
    reading = read_notebook(
        notebook(code("a", stream("x\n" * 5000)), code("b", stream("y" * 50_000)))
    )
    first, second = (block for block in reading.blocks if block.mark == "output")
    assert first.text.count("\n") == 99 and len(second.text) == 10_000
    assert reading.warnings == ("output cut after 100 lines: cell 1-2",)


def test_format_three_is_read():
    """Red: notebooks of ten years ago are empty."""
    old = {
        "nbformat": 3,
        "worksheets": [
            {
                "cells": [
                    {"cell_type": "heading", "level": 1, "source": "Old"},
                    {
                        "cell_type": "code",
                        "input": "x",
                        "outputs": [{"output_type": "pyout", "text": "1", "png": PNG}],
                    },
                ]
            }
        ],
    }
    reading = read_notebook(json.dumps(old).encode())
    assert texts(reading) == ["Old", "x", "1"]
    assert reading.blocks[-1].headings == ("Old",)


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"cells": 1}', b"[" * 100_000])
def test_what_is_no_notebook_is_unreadable(data):
    """Red: a broken file ends the run."""
    assert refusal(read_notebook, data).reason is Reason.UNREADABLE


def test_an_empty_notebook_is_empty():
    """Red: it counts as read."""
    assert refusal(read_notebook, notebook()).reason is Reason.EMPTY
    assert refusal(read_notebook, notebook(code(" \n"))).reason is Reason.EMPTY


values = st.recursive(
    st.none() | st.integers() | st.text(st.characters(max_codepoint=0xE000), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["cell_type", "source", "outputs", "data", "text", "text/plain", "level"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(values, max_size=4))
def test_no_notebook_breaks_the_reader(cells):
    """Red: a field of the wrong type is a crash, or a lone surrogate reaches the model."""
    try:
        reading = read_notebook(json.dumps({"cells": cells}).encode())
    except Exception as error:
        assert getattr(error, "reason", None) is Reason.EMPTY, error
        return
    for block in reading.blocks:
        block.text.encode()
        assert "\0" not in block.text and "\r" not in block.text
