"""How long, how fast and on how much: the numbers of a run."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """The way from peak to final rate: `share` of it is behind at `step`, all of it at `end`."""

    step: int
    share: float
    end: int

    def share_at(self, step: int) -> float:
        part = (step - self.step) / max(self.end - self.step, 1)
        return self.share + (1 - self.share) * min(part, 1.0)


@dataclass(frozen=True, slots=True)
class Schedule:
    """`steps` updates of `batch_sequences` x `sequence_tokens` tokens.

    The rate rises for `warmup_steps` to `peak_rate` and falls as a cosine to `final_rate`; norm
    weights learn `norm_factor` times as fast. `micro_batch_sequences` are in memory at a time.
    """

    steps: int
    batch_sequences: int
    sequence_tokens: int
    peak_rate: float
    final_rate: float
    warmup_steps: int
    norm_factor: float
    save_every: int
    evaluate_every: int
    num_held_out: int
    micro_batch_sequences: int = 1

    def __post_init__(self) -> None:
        counts = ("steps", "batch_sequences", "save_every", "evaluate_every", "num_held_out")
        for name in (*counts, "micro_batch_sequences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.sequence_tokens < 2:
            raise ValueError(f"sequence_tokens is {self.sequence_tokens}, expected 2 or more")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_sequences * self.sequence_tokens

    @property
    def plan(self) -> Plan:
        """Where nothing is known of the time it takes."""
        return Plan(self.warmup_steps, 0.0, self.steps)

    def rate(self, step: int, plan: Plan | None = None) -> float:
        """The learning rate of update `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        share = (1 + math.cos(math.pi * (plan or self.plan).share_at(step))) / 2
        return self.final_rate + (self.peak_rate - self.final_rate) * share

    def as_json(self) -> dict[str, Any]:
        """What was set; a run from before an option came to be has its default."""
        defaults = {field.name: field.default for field in fields(self)}
        return {name: x for name, x in asdict(self).items() if x != defaults[name]}
