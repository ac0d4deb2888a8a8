"""How much of each kind of data a stage reads."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of the sequences: running text, questions on real texts, generated tasks.

    They are taken of what is there: without questions, the rest is shared in their proportion.
    """

    text: float = 0.35
    qa: float = 0.25
    generated: float = 0.4

    def __post_init__(self) -> None:
        shares = (self.text, self.qa, self.generated)
        if not (min(shares) >= 0 and 0 < sum(shares) < float("inf")):
            raise ValueError(f"a mixture of {shares}, expected shares of 0 or more")

    @classmethod
    def parse(cls, text: str) -> "Mixture":
        """From "35,25,40": text, questions, generated."""
        if not re.fullmatch(r"[\d.]+,[\d.]+,[\d.]+", text):
            raise ValueError(f"mixture: {text!r} is not like 35,25,40")
        return cls(*map(float, text.split(",")))

    def counts(self, total: int, *, has_text: bool, has_qa: bool) -> dict[str, int]:
        """How many of `total` sequences are to be of each kind; those with none are left out."""
        shares = {
            "text": self.text * has_text,
            "qa": self.qa * has_qa,
            "generated": self.generated * has_text,
        }
        whole = sum(shares.values())
        counts = {name: round(total * share / whole) for name, share in shares.items() if whole}
        return {name: count for name, count in counts.items() if count}


ALIGNMENT = Mixture(0.65, 0.35, 0.0)
