"""What the kernels are meant to reach on one H100, beside what they reached."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.device import ceilings, lightning
from benchmarks.device.bench import Row


@dataclass(frozen=True, slots=True)
class Target:
    """`reached` is None where it was not measured; `note` says what stands in its way."""

    name: str
    wanted: float
    reached: float | None
    is_share: bool = True
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.reached is None:
            return "not measured"
        return "met" if self.reached >= self.wanted else "missed"

    def row(self) -> Row:
        return asdict(self) | {"verdict": self.verdict}

    def line(self) -> str:
        reached = "" if self.reached is None else self._spelled(self.reached)
        verdict = f"{self.verdict}; {self.note}" if self.note else self.verdict
        return f"| {self.name} | {self._spelled(self.wanted)} | {reached} | {verdict} |"

    def _spelled(self, value: float) -> str:
        return f"{value:.0%}" if self.is_share else f"{value:.2f} x"


_LONG = "1048576 tokens"


def _bound(tflops: float, gb_s: float) -> str:
    """The most a prefill can reach if it moves q, k, v and its output once and nothing else."""
    if not tflops or not gb_s:
        return ""
    flops = lightning.flops_of(1, lightning.HEADS, lightning.HEAD_DIM)
    num_bytes = 4 * lightning.HEADS * lightning.HEAD_DIM * 2
    share = flops / (tflops * 1e12) / (num_bytes / (gb_s * 1e9))
    return f"memory allows {share:.0%} at most" if share < 1 else ""


def of(known: Mapping[str, Sequence[Row]]) -> list[Target]:
    tflops, gb_s = ceilings.of(dict(known))

    def number(step: str, case: str, key: str) -> float | None:
        for row in known.get(step, ()):
            if row["case"] == case and isinstance(value := row.get(key), int | float):
                return float(value)
        return None

    def share(step: str, case: str, key: str) -> float | None:
        ceiling, value = tflops if key == "tflops" else gb_s, number(step, case, key)
        return value / ceiling if value is not None and ceiling else None

    prefill = "lightning prefill"
    compared = (
        (peer / own, tokens)
        for tokens in (_LONG, "262144 tokens", "65536 tokens")
        if (own := number(prefill, tokens, "ms"))
        and (peer := number(prefill, f"{tokens}, chunk_simple_gla", "ms"))
    )
    ratio, length = next(compared, (None, ""))
    return [
        Target(
            "Lightning prefill over chunk_simple_gla, 1M tokens", 1.2, ratio, False,
            f"at {length}" if length and length != _LONG else "",
        ),
        Target(
            "Lightning prefill, 1M tokens, of the product rate", 0.6,
            share(prefill, _LONG, "tflops"),
            note=_bound(tflops, gb_s),
        ),
        Target(
            "Lightning decode, of the copy", 0.8, share("lightning decode", "one token", "gb_s")
        ),
        *(
            Target(
                f"split-KV decode {kind}, 1M keys, of the copy", 0.8,
                share("softmax decode", f"1048576 keys, {kind}", "gb_s"),
            )
            for kind in ("bf16", "int8")
        ),
        Target(
            "grouped bf16 experts, 16K tokens, of the product rate", 0.7,
            share("experts, many tokens", "16384 tokens, bf16", "tflops"),
        ),
        Target(
            "int4 experts, one token, of the copy", 0.7,
            share("experts, one token", "one token, int4", "gb_s"),
        ),
    ]  # fmt: skip
