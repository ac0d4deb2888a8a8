"""The normalisation quotes are compared in, and the way back."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from mm1cli.grounding.normalize import NormalizedText, normalize

odd = (
    st.text()
    | st.text(alphabet="ab \t\n.")
    | st.text(alphabet="a ﬁ\u0301\u0327e\u00a0\n½①각ㄱ\u1100\u1161\u11a8\u09c7\u09be…")
)


@given(odd)
def test_folding_twice_is_folding_once(text: str):
    """Red: a quote taken from the folded text is not found in it."""
    assert normalize(normalize(text)) == normalize(text)
    assert "\n" not in normalize(text) and "  " not in normalize(text)


@given(odd, st.data())
def test_a_span_is_where_the_folded_text_is_from(text: str, data):
    """Red: a citation shows other words than were quoted."""
    folded = NormalizedText(text)
    if not folded.text:
        return
    start = data.draw(st.integers(0, len(folded.text) - 1))
    end = data.draw(st.integers(start + 1, len(folded.text)))
    span = folded.span(start, end)
    if span is None:
        assert not unicodedata.is_normalized("NFKC", text), "only joined characters may fail"
        return
    first, last = span
    assert 0 <= first < last <= len(text)
    assert normalize(folded.text[start:end]) in normalize(text[first:last])
    if text.isascii():
        assert normalize(folded.text[start:end]) == normalize(text[first:last])


def test_korean_and_indic_letters_that_join_are_found():
    """Red: text typed in pieces, as some systems do, cannot be cited."""
    for word in ("한국어", "কোন", "café", "ﬁnal"):
        text = f"So: {unicodedata.normalize('NFD', word)}, yes"
        folded = NormalizedText(text)
        at = folded.text.index(normalize(word))
        span = folded.span(at, at + len(normalize(word)))
        assert span is not None and normalize(text[slice(*span)]) == normalize(word)
