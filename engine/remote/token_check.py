"""Whether the tokens counted here are those the server makes: asked before ids are sent."""

from collections.abc import Sequence
from typing import Final

from engine.protocols import Piece, Tokenizer, Turn
from engine.remote.dialect import Dialect

SAMPLE_CHARS: Final = 2_000
# What tokenizers of one family differ in: spaces, digits, marks, letters of several bytes.
_HARD: Final = (
    'It cost 48.2 million (1,234,567) — in "2017"; don\'t…\n\n  two  spaces\tand a tab\r\n'
    "Straße, naïve café, 東京の橋, мост, 🎈 x=[1]*2 #42 §3 €9,99"
)


def differing(tokenizer: Tokenizer, dialect: Dialect, texts: Sequence[str]) -> str:
    """Where both make other tokens of a text, in words; "" where they agree, or one cannot ask.

    `texts` may be long: head, middle and tail of each are compared. A text that spells a control
    token is passed over, as some servers take it for one.
    """
    samples = [_HARD, *(part for text in texts for part in _parts(text))]
    for text in samples:
        ids = tokenizer.encode(text)
        if tokenizer.encode_markup(text) != ids:
            continue
        told = dialect.tokenize(text, is_markup=False)
        if told is None:
            return "the server tells no tokens"
        if told != ids:
            at = next((n for n, (a, b) in enumerate(zip(told, ids, strict=False)) if a != b), 0)
            return f"token {at} of {text[:40]!r}… is another"
    turns = [Turn("system", ("a",)), Turn("user", ("b",))]
    markup = "".join(piece.text for piece in tokenizer.chat(turns) if piece.is_markup)
    if dialect.tokenize(markup, is_markup=True) != tokenizer.encode_piece(Piece(markup, True)):
        return "the chat template's own words are other tokens"
    return ""


def _parts(text: str) -> list[str]:
    middle = max(len(text) - SAMPLE_CHARS, 0) // 2
    starts = dict.fromkeys((0, middle, max(len(text) - SAMPLE_CHARS, 0)))
    return [text[at : at + SAMPLE_CHARS] for at in starts if text]
