"""Sizes as people write them: 512G, 1M, 79.5Gi. The one place that reads them."""

import re
from fractions import Fraction

from mm1cli.errors import UsageError

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*([kmgtp]?)(i?)b?", re.IGNORECASE | re.ASCII)
_LARGEST = 2**62


def parse(text: str, what: str) -> int:
    """A whole number: k, M, G, T, P are powers of 1,000, Ki to Pi of 1,024; a B may follow.

    Raises UsageError that names `what`.
    """
    match = _SIZE.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if match is not None:
        number, unit, binary = match.groups()
        power = (1024 if binary else 1000) ** _POWERS[unit.lower()]
        value: int = round(Fraction(number) * power)
        if 0 < value <= _LARGEST and (unit or not binary):
            return value
    raise UsageError(f"{what} is a size such as 512G, 80Gi or 1M, not {ascii(text)[:40]}")
