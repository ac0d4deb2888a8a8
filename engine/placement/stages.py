"""Layers over devices: in order, so that the fullest device is as empty as can be."""

from collections.abc import Sequence
from itertools import pairwise

_STEPS = 50  # of the search for the smallest share of each device that is enough


def split(
    sizes: Sequence[int],
    rooms: Sequence[int | None],
    first_bytes: int,
    last_bytes: int,
    inner_bytes: int,
) -> list[tuple[int, int]]:
    """The layers [first, end) of each device that gets some.

    `sizes` are the layers' bytes, `rooms` the devices'. The first device also takes `first_bytes`,
    the last one that gets layers `last_bytes`, others `inner_bytes`. One device takes everything
    it is given, and so do several where all is too much for them: that is told elsewhere.
    """
    known = [room for room in rooms if room is not None][: len(sizes)]
    if len(known) < 2:
        return [(0, len(sizes))]
    low, high = 0.0, 1.0
    best = _filled(sizes, known, high, first_bytes, last_bytes, inner_bytes)
    if best is None:
        return _evenly(len(sizes), len(known))
    for _ in range(_STEPS):
        share = (low + high) / 2
        found = _filled(sizes, known, share, first_bytes, last_bytes, inner_bytes)
        if found is None:
            low = share
        else:
            best, high = found, share
    return best


def _filled(
    sizes: Sequence[int],
    rooms: Sequence[int],
    share: float,
    first_bytes: int,
    last_bytes: int,
    inner_bytes: int,
) -> list[tuple[int, int]] | None:
    """Each device up to `share` of its room; None if layers are left over."""
    stages: list[tuple[int, int]] = []
    start = 0
    for index, room in enumerate(rooms):
        left = room * share - (first_bytes if index == 0 else inner_bytes)
        end = start
        is_last = index == len(rooms) - 1
        if is_last:
            left -= last_bytes - inner_bytes
        while end < len(sizes) and sizes[end] <= left:
            left -= sizes[end]
            end += 1
        if end > start:
            stages.append((start, end))
        start = end
    return stages if start == len(sizes) and len(stages) == len(rooms) else None


def _evenly(num_layers: int, num_devices: int) -> list[tuple[int, int]]:
    borders = [num_layers * index // num_devices for index in range(num_devices + 1)]
    return [(a, b) for a, b in pairwise(borders) if b > a]
