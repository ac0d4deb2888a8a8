"""How long, how fast and on how much: the numbers of a run."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """`steps` updates of `batch_sequences` x `sequence_tokens` tokens.

    The rate rises for `warmup_steps` to `peak_rate` and falls as a cosine to `final_rate`; norm
    weights learn `norm_factor` times as fast.
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

    def __post_init__(self) -> None:
        for name in ("steps", "batch_sequences", "save_every", "evaluate_every", "num_held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.sequence_tokens < 2:
            raise ValueError(f"sequence_tokens is {self.sequence_tokens}, expected 2 or more")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_sequences * self.sequence_tokens

    def rate(self, step: int) -> float:
        """The learning rate of update `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + 1) / self.warmup_steps
        part = (step - self.warmup_steps) / max(self.steps - self.warmup_steps, 1)
        share = (1 + math.cos(math.pi * min(part, 1.0))) / 2
        return self.final_rate + (self.peak_rate - self.final_rate) * share
