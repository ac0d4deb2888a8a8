"""Which tokens continue a text somewhere in a corpus: a walk along the vocabulary's trie."""

from collections.abc import Iterator

import numpy as np

from engine.constraints.suffix_array import Ints, Range, SuffixArray
from engine.constraints.vocabulary import ROOT, Vocabulary

_FEW = 8  # places per child up to which they are read one by one: a search takes some 30 steps


def allowed_tokens(
    suffixes: SuffixArray, vocabulary: Vocabulary, range: Range, node: int = ROOT
) -> Ints:
    """The nodes of the trie below `node` whose further bytes come next at a place of `range`.

    Ascending. The work grows with the number of such nodes times log n, not with the places.
    """
    return np.unique(
        np.concatenate([np.zeros(0, np.int64), *_walk(suffixes, vocabulary, range, node)])
    )


def _walk(suffixes: SuffixArray, vocabulary: Vocabulary, range: Range, node: int) -> Iterator[Ints]:
    edges, order = vocabulary.edges, suffixes.order
    nodes = np.array([node] if range else [], dtype=np.int64)
    firsts = np.array([range.first] * len(nodes), dtype=np.int64)
    lasts = np.array([range.last] * len(nodes), dtype=np.int64)
    # Beside ranges with many places, single places that are followed by themselves.
    single_nodes = single_places = np.zeros(0, dtype=np.int64)
    depth = range.depth
    while len(nodes) or len(single_nodes):
        first_edges = np.searchsorted(edges, nodes * 256)
        counts = np.searchsorted(edges, nodes * 256 + 256) - first_edges
        few = lasts - firsts <= _FEW * counts
        which, at = _spread(firsts[few], lasts[few] - firsts[few])
        single_nodes = np.concatenate([single_nodes, nodes[few][which]])
        single_places = np.concatenate([single_places, order[at].astype(np.int64)])
        which, at = _spread(first_edges[~few], counts[~few])
        wanted = (edges[at] & 255).astype(np.uint8)
        firsts, lasts = suffixes.narrow_all(firsts[~few][which], lasts[~few][which], depth, wanted)
        there = firsts < lasts
        nodes, firsts, lasts = at[there] + 1, firsts[there], lasts[there]
        yield nodes

        keys = single_nodes * 256 + suffixes.bytes_at(single_places + depth)
        at = np.searchsorted(edges, keys)
        there = edges[np.minimum(at, len(edges) - 1)] == keys
        single_nodes, single_places = at[there] + 1, single_places[there]
        yield single_nodes
        depth += 1


def _spread(firsts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """The numbers from each of `firsts` on, as many as `counts` says, and which one they are of."""
    which = np.repeat(np.arange(len(firsts)), counts)
    before = np.cumsum(counts) - counts
    return which, np.arange(len(which)) - before[which] + firsts[which]
