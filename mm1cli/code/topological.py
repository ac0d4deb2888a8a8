"""The order in which a model reads a repository: what is defined before what uses it.

Of all files whose imports have been read, the one with the smallest path comes next. Nothing but
imports and paths decides, so an edit inside a file changes no order, and when the imports of one
file change, the order stays as it was up to the first file of the cycle that it is in, before or
after; the saved context up to there is used again.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush

from mm1cli.code.graph import Graph, components
from mm1cli.code.repo_index import by_path
from mm1cli.ingest.corpus import Corpus


def reading_order(corpus: Corpus, graph: Graph) -> tuple[int, ...]:
    """The numbers of `corpus.documents` in the order to read them, each once.

    Files that import each other stay together; among them deferred imports are given up first,
    and what then still goes in a circle is in the order of path bytes. Documents without imports
    take part by their path alone.
    """
    numbers: dict[str, list[int]] = {}
    for number, document in enumerate(corpus.documents):
        numbers.setdefault(document.path, []).append(number)
    ordered = _ordered(by_path(numbers), graph)
    return tuple(number for path in ordered for number in numbers[path])


def reordered(corpus: Corpus, order: Iterable[int]) -> Corpus:
    return Corpus(tuple(corpus.documents[number] for number in order), corpus.omissions)


def _ordered(paths: tuple[str, ...], graph: Graph) -> list[str]:
    result = []
    for group in _after_their_targets(paths, graph.used_by):
        if len(group) == 1:
            result += group
            continue
        for inner in _after_their_targets(group, lambda path: graph.uses.get(path, ())):
            result += inner
    return result


def _after_their_targets(
    paths: Sequence[str], targets: Callable[[str], Iterable[str]]
) -> Iterator[list[str]]:
    """The components of the graph among `paths`, which are sorted, in topological order."""
    groups = components(paths, targets)
    group_of = {path: number for number, group in enumerate(groups) for path in group}
    num_waiting = [0] * len(groups)
    users: list[list[int]] = [[] for _ in groups]
    for number, group in enumerate(groups):
        before = {
            group_of[target] for path in group for target in targets(path) if target in group_of
        }
        before.discard(number)
        num_waiting[number] = len(before)
        for target in before:
            users[target].append(number)
    # A group's number is the rank of its smallest path.
    ready = [number for number, waiting in enumerate(num_waiting) if not waiting]
    heapify(ready)
    while ready:
        number = heappop(ready)
        yield groups[number]
        for user in users[number]:
            num_waiting[user] -= 1
            if not num_waiting[user]:
                heappush(ready, user)
