"""What the reading order promises, for any graph and any change to one file."""

from itertools import pairwise

from corpora import corpus as texts
from hypothesis import given
from hypothesis import strategies as st

from mm1cli.code.graph import Graph, components
from mm1cli.code.topological import reading_order, reordered
from mm1cli.ingest.corpus import Corpus, Document

NAMES = [f"{folder}{letter}.py" for folder in ("", "a/", "é/") for letter in "abcd"]
edges = st.frozensets(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=30)
corpora = st.permutations(NAMES).map(
    lambda names: Corpus(tuple(Document(n, "python", 1, "0" * 64, "text", ()) for n in names))
)


def graph_from(now, later=frozenset()):
    def grouped(pairs):
        found = {}
        for source, target in sorted(pairs):
            if source != target:
                found.setdefault(source, []).append(target)
        return {source: tuple(targets) for source, targets in found.items()}

    return Graph(grouped(now), grouped(later - now))


def ordered(corpus, graph):
    return [corpus.documents[number].path for number in reading_order(corpus, graph)]


def reachable(graph, start):
    found, waiting = set(), [start]
    while waiting:
        for target in graph.used_by(waiting.pop()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def cycle_of(graph, path):
    """Every file that `path` reaches and that reaches it, by brute force."""
    return cycles_of(graph)[path]


def cycles_of(graph):
    reached = {path: reachable(graph, path) for path in NAMES}
    return {
        path: {path} | {other for other in reached[path] if path in reached[other]}
        for path in NAMES
    }


@given(corpora, edges, edges)
def test_every_document_once_and_definitions_before_uses(corpus, now, later):
    """Red: a file is lost or read twice, or comes before one that it imports for no reason."""
    graph = graph_from(now, later)
    order = ordered(corpus, graph)
    assert sorted(order) == sorted(NAMES)
    at = {path: number for number, path in enumerate(order)}
    for graph_of_all in (graph, Graph(graph.uses)):
        cycles = cycles_of(graph_of_all)
        for path in NAMES:
            for target in graph_of_all.used_by(path):
                assert at[target] < at[path] or target in cycles[path]


@given(corpora, edges, edges)
def test_a_cycle_is_read_in_one_piece(corpus, now, later):
    """Red: files that belong together are torn apart."""
    graph = graph_from(now, later)
    order = ordered(corpus, graph)
    for group in cycles_of(graph).values():
        places = sorted(order.index(member) for member in group)
        assert places == list(range(places[0], places[0] + len(group)))


@given(corpora, corpora, edges)
def test_the_order_of_the_corpus_does_not_matter(one, other, now):
    """Red: the same repository, named in another way, shares no prefix with its saved context."""
    assert ordered(one, graph_from(now)) == ordered(other, graph_from(now))


@given(corpora, edges, edges, edges, edges, st.sampled_from(NAMES))
def test_one_changed_file_leaves_the_prefix_before_it(corpus, now, later, now_2, later_2, changed):
    """Red: an edit to one file's imports makes the model read again what was before it."""
    before = graph_from(now, later)
    new = {edge for edge in now_2 if edge[0] == changed}
    new_later = {edge for edge in later_2 if edge[0] == changed}
    after = graph_from(
        frozenset({edge for edge in now if edge[0] != changed} | new),
        frozenset({edge for edge in later if edge[0] != changed} | new_later),
    )
    old, fresh = ordered(corpus, before), ordered(corpus, after)
    touched = cycle_of(before, changed) | cycle_of(after, changed)
    safe = min(min(old.index(path), fresh.index(path)) for path in touched)
    assert old[:safe] == fresh[:safe]


def test_without_imports_the_order_is_that_of_path_bytes():
    """Red: a folder's order depends on the locale, or on how it was found."""
    names = ["b.py", "Z.py", "a/b.py", "a b.py", "é.py", "a.py"]
    corpus = Corpus(tuple(Document(n, "python", 1, "0" * 64, "text", ()) for n in names))
    assert ordered(corpus, Graph()) == sorted(names, key=str.encode)


def test_deferred_imports_are_given_up_first():
    """Red: a cycle that a late import breaks is read in the order of the alphabet."""
    corpus = texts("a", "b", "c")
    late = Graph({"0.md": ("2.md",), "1.md": ("0.md",)}, {"2.md": ("1.md",)})
    assert ordered(corpus, late) == ["2.md", "0.md", "1.md"]
    assert ordered(corpus, Graph({**late.uses, **late.deferred})) == ["0.md", "1.md", "2.md"]


def test_documents_of_one_path_are_all_kept():
    """Red: an archive with two members of one name loses one of them."""
    twin = Document("a.zip/x.py", "python", 1, "0" * 64, "text", ())
    corpus = Corpus((twin, *texts("y").documents, twin))
    order = reading_order(corpus, Graph())
    assert sorted(order) == [0, 1, 2]
    assert reordered(corpus, order).documents == (*texts("y").documents, twin, twin)


def test_a_long_chain_needs_no_recursion():
    """Red: a repository with a deep import chain ends in a RecursionError."""
    names = [f"{number:06}" for number in range(20_000)]
    chain = dict(pairwise(names))
    groups = components(names, lambda name: [chain[name]] if name in chain else [])
    assert len(groups) == len(names)
    chain[names[-1]] = names[0]
    assert components(names, lambda name: [chain[name]]) == [names]
