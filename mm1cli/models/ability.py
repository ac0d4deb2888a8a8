"""What was measured of a model's answers, by the weights and not by a name or a size.

Figures are those of `python -m benchmarks.answers` and of benchmarks/LOG.md. A model that nobody
measured has none: another file of the same name is another model.
"""

from dataclasses import dataclass
from typing import Final

from engine.api import FAST, RetrievalHead


@dataclass(frozen=True, slots=True)
class Ability:
    """Of answerable questions `num_right` sentences were right, `num_wrong` wrong, read by hand;
    the rest it refused.

    `head` looks at the sentences of a passage that a question is about (the one that selects, see
    calibration.py, at the distance of a passage); None where none is known.

    Below `min_margin` (nats per token of the question; `Evidence.score_margin`) most questions had
    no answer; None where that was not measured.
    """

    name: str
    fingerprints: tuple[str, ...]  # of its weights as this mm1 and earlier ones laid them down
    num_right: int
    num_wrong: int
    min_margin: float | None = None
    head: RetrievalHead | None = None

    @property
    def reliability(self) -> float:
        """The share of its sentences that are right."""
        return self.num_right / (self.num_right + self.num_wrong)


# The tokenizer's rules are written in other words since GGUF files are read where they lie.
MINI: Final = (
    "cedb066c89e1faefca549d1f709fa2345dd570a774c4bb23957558eb9e09c9bd",
    "15774900bd74e70b003b2de0c121f8dbfce3aebbc107e2a43503b6f811c6e560",
)
SMALL: Final = ("f5b56b7d1659c7d2c3846212e31d400bb10040fe70543700507fb6e1104c6f59",)
ABILITIES: Final = (
    Ability(
        "mini",
        MINI,
        num_right=12,
        num_wrong=14,
        min_margin=0.8,
        head=RetrievalHead(layer=18, kv_head=2, distance=200),
    ),
    Ability(
        "small",
        SMALL,
        num_right=17,
        num_wrong=2,
        min_margin=1.1,
        head=RetrievalHead(layer=9, kv_head=1, distance=400),
    ),
    Ability(
        "coder",
        ("44f3534f9dd6ad86c20f6987a693ac77649cfe89e4fd8631ae4b4d258da90e52",),
        num_right=18,
        num_wrong=6,
    ),
)
_BY_FINGERPRINT = {known: one for one in ABILITIES for known in one.fingerprints}


def measured(fingerprint: str) -> Ability | None:
    """`fingerprint` is `Engine.fingerprint`; --fast changes too little to be measured by itself."""
    return _BY_FINGERPRINT.get(fingerprint.removesuffix(FAST))
