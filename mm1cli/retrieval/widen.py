"""What is read of the passages that were found: as many as there is room for, each with what stands
beside it, so that the sentence after the one that was found is read as well."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mm1cli.retrieval.passages import Passage

BESIDE_CHARS = 350  # of whole sentences, on either side: half a passage


@dataclass(frozen=True, slots=True)
class Selection:
    """`passages`, the best first, take `num_tokens`. `left` were found and have no room, or are
    more than was asked for."""

    passages: tuple[Passage, ...]
    num_tokens: int
    left: tuple[Passage, ...] = ()


def select(
    ranked: Sequence[Passage],
    room_tokens: int,
    num_tokens: Callable[[Passage], int],
    *,
    most: int | None = None,
    beside_chars: int = BESIDE_CHARS,
) -> Selection:
    """The best of `ranked`, at most `most` of them, each widened within its section; where one has
    no room like that, as it is. What is left of the room widens all of them again, the best first.

    Passages that come to touch are one, where the better of them would be.
    """
    chosen: list[Passage] = []
    costs: dict[tuple[int, int, int], int] = {}
    used = 0

    def cost(passage: Passage) -> int:
        key = id(passage.block), passage.start, passage.end
        if key not in costs:
            costs[key] = num_tokens(passage)
        return costs[key]

    def place(passage: Passage) -> bool:
        """Takes it in, joined with what it touches, if there is room."""
        nonlocal chosen, used
        touched = [one for one in chosen if beside_chars and passage.touches(one)]
        others = [one for one in chosen if one not in touched]
        joined = passage.at(
            min(one.start for one in (passage, *touched)), max(o.end for o in (passage, *touched))
        )
        now = sum(map(cost, others)) + cost(joined)
        if now > room_tokens:
            return False
        at = chosen.index(touched[0]) if touched else len(chosen)
        chosen, used = [*others[:at], joined, *others[at:]], now
        return True

    left: list[Passage] = []
    for number, passage in enumerate(ranked):
        is_asked = most is None or number < most
        if _inside(passage, chosen):
            continue
        if not is_asked or not (place(_widened(passage, beside_chars)) or place(passage)):
            left.append(passage)
    _grow(lambda: chosen, place, beside_chars)
    return Selection(tuple(chosen), used, tuple(p for p in left if not _inside(p, chosen)))


def _grow(
    chosen: Callable[[], Sequence[Passage]], place: Callable[[Passage], bool], chars: int
) -> None:
    """Until the sections end, or the room."""
    grows = chars > 0
    while grows:
        grows = False
        for passage in tuple(chosen()):
            wider = _widened(passage, chars)
            if wider != passage and passage in chosen() and place(wider):
                grows = True


def _widened(passage: Passage, chars: int) -> Passage:
    """By whole sentences of its section, at least one on either side if there is one."""
    first, last = passage.section
    start, end = passage.start, passage.end
    if chars:
        for sentence, _ in reversed(passage.sentences(first, start)):
            if start < passage.start and passage.start - sentence > chars:
                break
            start = sentence
        for _, sentence in passage.sentences(end, last):
            if end > passage.end and sentence - passage.end > chars:
                break
            end = sentence
    return passage.at(start, end)


def _contains(outer: Passage, inner: Passage) -> bool:
    same = outer.block is inner.block and outer.document is inner.document
    return same and outer.start <= inner.start and inner.end <= outer.end


def _inside(passage: Passage, chosen: Iterable[Passage]) -> bool:
    return any(_contains(one, passage) for one in chosen)
