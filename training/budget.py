"""A run that must end in time: how many more steps fit, from the steps taken so far.

The rate follows the share of the way that is behind, so it reaches its end however slow the machine
is. What fits is planned anew at each checkpoint, and the plan is saved in it: from there on the
rate of a step depends on its number alone, in the run that made the plan as in one that resumes.
"""

import time
from collections.abc import Callable

from training.schedule import Plan, Schedule

_MARGIN = 0.97  # of what is left; steps are not all alike


class Budget:
    """`seconds` for a run (None: no limit), `used_s` of which earlier processes took."""

    def __init__(
        self,
        seconds: float | None,
        used_s: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self._now = now
        self._began = now() - used_s
        self._mark: tuple[int, float] | None = None
        self._last_s = 0.0  # the longest that judging and saving took

    @property
    def used_s(self) -> float:
        return self._now() - self._began

    @property
    def is_spent(self) -> bool:
        return self.seconds is not None and self.used_s + self._last_s >= self.seconds

    def note_step(self, step: int) -> None:
        """`step` updates are made. The first of a process is not counted: it also prepares."""
        if self._mark is None:
            self._mark = (step, self.used_s)

    def note_pause(self, seconds: float) -> None:
        """So long no step was taken, as it will be once more at the end."""
        self._last_s = max(self._last_s, seconds)

    def plan(self, schedule: Schedule, plan: Plan, step: int) -> Plan:
        """`plan`, or from `step` on a new one that ends in time."""
        if self.seconds is None or step < schedule.warmup_steps or self._mark is None:
            return plan
        first, began_s = self._mark
        if step == first:
            return plan
        step_s = (self.used_s - began_s) / (step - first)
        left_s = _MARGIN * (self.seconds - self.used_s - self._last_s)
        more = max(int(left_s / step_s), 0)
        return Plan(step, plan.share_at(step), min(step + more, schedule.steps))
