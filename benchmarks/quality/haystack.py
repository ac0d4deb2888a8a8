"""Books as haystacks: tokens of a given number, and places where a sentence may be put in."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.tokenizer import Tokenizer

SHARED = Path(__file__).parents[2].parent / "shared"
_FRONT_MATTER_SHARE = 0.01  # title page and contents are not prose
_LOOK_BACK_TOKENS = 128


@dataclass(frozen=True)
class Haystack:
    """The books in `folder`, the largest first, one after the other."""

    folder: Path

    @cached_property
    def text(self) -> str:
        """Raises ValueError where there is no book."""
        paths = sorted(self.folder.glob("*.txt.gz"), key=lambda path: -path.stat().st_size)
        if not paths:
            raise ValueError(f"no book (*.txt.gz) in {self.folder}")
        return "\n".join(_prose(path) for path in paths)

    def token_ids(self, tokenizer: Tokenizer, num_tokens: int) -> list[int]:
        """The first `num_tokens` of the text. Raises ValueError if the books are shorter."""
        num_chars = 6 * num_tokens + 1000  # no tokenizer of ours takes so many for a token of prose
        ids = tokenizer.encode(self.text[:num_chars])
        if len(ids) < num_tokens:
            ids = tokenizer.encode(self.text)
        if len(ids) < num_tokens:
            raise ValueError(f"{self.folder}: {len(ids):,} tokens of books, {num_tokens:,} wanted")
        return ids[:num_tokens]


def _prose(path: Path) -> str:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        text = file.read()
    start = text.find("\n\n", int(len(text) * _FRONT_MATTER_SHARE))
    return text[max(start, 0) :].strip()


def cut(tokenizer: Tokenizer, token_ids: Sequence[int], depth: float) -> int:
    """Where to insert at `depth` (0 the beginning, 1 the end): after a sentence if one ends near.

    At most 128 tokens, and a twentieth of the text, before the exact place.
    """
    at = round(depth * len(token_ids))
    if at in (0, len(token_ids)):
        return at
    lowest = max(at - min(_LOOK_BACK_TOKENS, len(token_ids) // 20), 0)
    for place in range(at, lowest, -1):
        if tokenizer.decode(token_ids[place - 1 : place]).rstrip(" ”\"'").endswith((".", "!", "?")):
            return place
    return at
