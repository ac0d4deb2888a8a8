"""A tokenizer's vocabulary by the bytes each token writes, as a trie."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tokenizers

ROOT = 0
SPACES = " \t\n\r\u2581"  # the last is SentencePiece's

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Vocabulary:
    """`words[id]` are the bytes token `id` writes, b"" for none.

    Nodes of the trie are numbered level by level: node `e + 1` is where `edges[e]`, parent * 256 +
    byte, leads to. `token_at[node]` is the token that ends there, or -1.
    """

    words: tuple[bytes, ...]
    edges: Ints
    token_at: Ints

    @classmethod
    def build(cls, words: Sequence[bytes], never: Collection[int] = ()) -> Self:
        """Without the ids in `never`; of tokens that write the same bytes the first one counts."""
        ids: dict[bytes, int] = {}
        for token_id, word in enumerate(words):
            if word and token_id not in never:
                ids.setdefault(word, token_id)
        sizes = np.array([len(word) for word in ids], dtype=np.int64)
        letters = np.frombuffer(b"".join(ids), dtype=np.uint8).astype(np.int64)
        starts = np.cumsum(sizes) - sizes
        nodes = np.zeros(len(ids), dtype=np.int64)
        levels: list[Ints] = []
        num_nodes = 1
        for depth in range(int(sizes.max(initial=0))):
            longer = np.flatnonzero(sizes > depth)
            keys = nodes[longer] * 256 + letters[starts[longer] + depth]
            level, inverse = np.unique(keys, return_inverse=True)
            nodes[longer] = num_nodes + inverse.reshape(-1)
            num_nodes += len(level)
            levels.append(level)
        token_at = np.full(num_nodes, -1, dtype=np.int64)
        token_at[nodes] = np.fromiter(ids.values(), dtype=np.int64, count=len(ids))
        edges = np.concatenate(levels) if levels else np.zeros(0, dtype=np.int64)
        return cls(tuple(words), edges, token_at)

    def child(self, node: int, byte: int) -> int | None:
        key = node * 256 + byte
        edge = int(np.searchsorted(self.edges, key))
        return edge + 1 if edge < len(self.edges) and self.edges[edge] == key else None

    def find(self, word: bytes) -> int | None:
        """The node that `word` leads to."""
        node: int | None = ROOT
        for byte in word:
            if node is None:
                return None
            node = self.child(node, byte)
        return node


def token_bytes(tokenizer: "tokenizers.Tokenizer", vocab_size: int) -> list[bytes] | None:
    """The bytes that each id below `vocab_size` writes, b"" for control tokens.

    None where the tokenizer's decoder is one whose bytes are not known here.
    """
    # The kinds of decoder, those in a sequence too, as JSON.
    decoders = b"" if tokenizer.decoder is None else tokenizer.decoder.__getstate__()
    of_added: Callable[[str], bytes]
    if b"ByteLevel" in decoders:
        to_bytes, of_added = _from_letters, str.encode
    elif b"ByteFallback" in decoders:
        to_bytes = of_added = _from_pieces
    else:
        return None
    words = [b""] * vocab_size
    for word, token_id in tokenizer.get_vocab(with_added_tokens=False).items():
        if token_id < vocab_size:
            words[token_id] = to_bytes(word)
    for token_id, token in tokenizer.get_added_tokens_decoder().items():
        if token_id < vocab_size:
            words[token_id] = b"" if token.special else of_added(token.content)
    return words


def is_space_entry(token: Mapping[str, Any]) -> bool:
    """Whether an entry of `added_tokens` is white space, which is text and no markup."""
    return not token.get("special") and not str(token["content"]).strip(SPACES)


@cache
def _letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + number): byte for number, byte in enumerate(hidden)
    }


def _from_letters(word: str) -> bytes:
    letters = _letters()
    try:
        return bytes(letters[letter] for letter in word)
    except KeyError:  # the decoder writes such a word as it is
        return word.encode("utf-8", "replace")


def _from_pieces(word: str) -> bytes:
    """SentencePiece's: ▁ is a space, <0x0A> a byte."""
    if len(word) == 6 and word.startswith("<0x") and word.endswith(">"):
        try:
            return bytes((int(word[3:5], 16),))
        except ValueError:
            pass
    return word.replace("▁", " ").encode("utf-8", "replace")
