"""Answers on a terminal while they are written: lines end between words."""

import io

import pytest

from mm1cli.output.flow import Flow
from mm1cli.output.text import Channel

CASES = {
    "The landlord is Anna Berg and the notice": "The landlord\nis Anna Berg\nand the\nnotice",
    "one two\n\n  three four five": "one two\n\n  three four\nfive",
    "of abcdefghijklmnopq end": "of\nabcdefghijkl\nmnopq end",
    "港の歴史は長い": "港の歴史は長\nい",
    "```\na b c d e f g h\n```\na b c d e f g": "```\na b c d e f g h\n```\na b c d e f\ng",
    "exactly 12ch\nnext": "exactly 12ch\nnext",
}


@pytest.mark.parametrize("size", [1, 3, 99])
@pytest.mark.parametrize("text", CASES)
def test_a_terminal_breaks_between_words_however_the_text_arrives(text: str, size: int):
    """Red: a streamed answer is cut inside a word, loses one, or code between fences is broken."""
    shown, piped = io.StringIO(), io.StringIO()
    flows = Flow(Channel(shown, is_terminal=True, width=12)), Flow(Channel(piped, width=12))
    for flow in flows:
        for start in range(0, len(text), size):
            flow.write(text[start : start + size])
        flow.end()
    assert shown.getvalue() == CASES[text]
    assert piped.getvalue() == text, "what is no terminal gets the text as it is"
