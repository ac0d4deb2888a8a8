"""The import graph among the files of a corpus, and its strongly connected components."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

_NONE: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """`uses[path]` are the files that `path` imports, `deferred[path]` those that it imports only
    later than it is loaded; no file stands in both, none imports itself. Every list is sorted by
    path bytes, files without imports have no entry."""

    uses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    deferred: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def used_by(self, path: str) -> tuple[str, ...]:
        return (*self.uses.get(path, _NONE), *self.deferred.get(path, _NONE))

    def cycles(self) -> tuple[tuple[str, ...], ...]:
        """Groups of two and more files that import each other, deferred imports left aside."""
        nodes = sorted(self.uses, key=lambda path: path.encode("utf-8", "surrogateescape"))
        groups = components(nodes, lambda path: self.uses.get(path, _NONE))
        return tuple(tuple(group) for group in groups if len(group) > 1)


def components(nodes: Sequence[str], targets: Callable[[str], Iterable[str]]) -> list[list[str]]:
    """Strongly connected components (Tarjan 1972) of the graph among `nodes`, without recursion.

    Each keeps the order of `nodes`, and they stand in the order of their first node. Targets that
    are not in `nodes` are passed over.
    """
    rank = {node: at for at, node in enumerate(nodes)}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    open_nodes: list[str] = []
    is_open: set[str] = set()
    found: list[list[str]] = []
    for root in nodes:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        open_nodes.append(root)
        is_open.add(root)
        path = [(root, iter(targets(root)))]
        while path:
            node, left = path[-1]
            for target in left:
                if target not in rank:
                    continue
                if target not in index:
                    index[target] = low[target] = len(index)
                    open_nodes.append(target)
                    is_open.add(target)
                    path.append((target, iter(targets(target))))
                    break
                if target in is_open:
                    low[node] = min(low[node], index[target])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    low[above] = min(low[above], low[node])
                if low[node] == index[node]:
                    group: list[str] = []
                    while not group or group[-1] != node:
                        group.append(open_nodes.pop())
                    is_open.difference_update(group)
                    found.append(sorted(group, key=rank.__getitem__))
    return sorted(found, key=lambda group: rank[group[0]])
