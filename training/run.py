"""The loop of every stage: seeded, logged, and going on after a kill as if there had been none.

What a step does depends on its number alone, so a run resumed from a checkpoint takes the same
steps as one that was never interrupted. Under a limit of time (`training.budget`) it depends on the
plan as well, which is in the checkpoint.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.model import Model
from training import checkpointing
from training.budget import Budget
from training.data import Sequences
from training.device import Place
from training.schedule import Plan, Schedule

OnProgress = Callable[[int, int], None]

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Stage(Protocol):
    """What is trained and how it is judged.

    `parameters` are those of `model` that learn, by name; each list of `clip_groups` is clipped to
    norm 1 by itself.
    """

    model: Model
    parameters: dict[str, nn.Parameter]
    clip_groups: list[list[nn.Parameter]]

    def learn(self, token_ids: Tensor, is_answer: Tensor, weight: float) -> float:
        """Adds `weight` times the gradient of the loss, averaged over sequences; returns the loss.

        Both are [T] for one sequence, else [T, B] with a sequence in each column.
        """
        ...

    def judge(self, held_out: Sequences) -> dict[str, Any]:
        """Measures on held-out text, as JSON; changes nothing."""
        ...

    def flops_per_sequence(self, num_tokens: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """`step` updates were made; `stopped_by` is the signal that ended the run early, if one did."""

    step: int
    resumed_from: int
    stopped_by: int | None
    log: Path


def train(
    stage: Stage,
    data: Sequences,
    held_out: Sequences,
    schedule: Schedule,
    directory: Path,
    *,
    seed: int,
    inputs: Mapping[str, Any],
    place: Place | None = None,
    minutes: float | None = None,
    now: Callable[[], float] = time.monotonic,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Outcome:
    """Trains `stage.parameters` in place, from the checkpoint in `directory` if there is one.

    `inputs` are JSON facts that a resumed run must share with the one it continues; with others,
    or another schedule or seed, ValueError is raised. `directory` gets checkpoints and log.jsonl.
    With `minutes` the run, what it was resumed from included, ends by then, the rate at its end.
    """
    place = place or Place(torch.device("cpu"))
    recipe = json.loads(json.dumps({**schedule.as_json(), "seed": seed, **inputs}))
    optimizer = _optimizer(stage, schedule)
    facts = _restore(stage, optimizer, directory, recipe)
    step = resumed_from = int(facts.get("step", 0))
    plan = Plan(*facts["plan"]) if "plan" in facts else schedule.plan
    budget = Budget(None if minutes is None else 60 * minutes, facts.get("used_s", 0.0), now)
    log = _Log(directory / "log.jsonl", step)
    data, held_out = _on(place, data), _on(place, held_out)
    steps = _Steps(stage, optimizer, data, schedule, seed, place)
    tokens, flops = schedule.tokens_per_step, stage.flops_per_sequence(schedule.sequence_tokens)

    def judged() -> dict[str, Any]:
        began = now()
        with place.autocast():
            found = stage.judge(held_out)
        budget.note_pause(now() - began)
        return found

    with _signals() as caught:
        if step == 0:
            log.write({"step": 0, "recipe": recipe, "held_out": judged()})
        while step < plan.end and not caught and not budget.is_spent:
            on_progress(step * tokens, plan.end * tokens)
            began = time.perf_counter()
            rate = schedule.rate(step, plan)
            loss = steps.take(step, rate)
            step += 1
            line: dict[str, Any] = {
                "step": step,
                "loss": loss,
                "rate": rate,
                "tokens": step * tokens,
                "flops": step * schedule.batch_sequences * flops,
                "step_s": time.perf_counter() - began,
            }
            budget.note_step(step)
            is_due = step % schedule.save_every == 0
            if minutes is not None and (is_due or step == schedule.warmup_steps + 2):
                plan, is_due = budget.plan(schedule, plan, step), True
                line["plan"] = [plan.step, plan.share, plan.end]
            is_over = step >= plan.end or budget.is_spent
            if step % schedule.evaluate_every == 0 or is_over:
                line["held_out"] = judged()
            log.write(line)
            if is_due or is_over or caught:
                began = now()
                kept: dict[str, Any] = {"recipe": recipe}
                if minutes is not None:
                    kept |= {"plan": [plan.step, plan.share, plan.end], "used_s": budget.used_s}
                checkpointing.save(directory, step, _tensors(stage, optimizer), kept)
                budget.note_pause(now() - began)
        on_progress(step * tokens, step * tokens if not caught else plan.end * tokens)
    return Outcome(step, resumed_from, caught[0] if caught else None, log.path)


class _Steps:
    """The updates of a run, each from its number."""

    def __init__(
        self,
        stage: Stage,
        optimizer: torch.optim.Optimizer,
        data: Sequences,
        schedule: Schedule,
        seed: int,
        place: Place,
    ) -> None:
        self.stage, self.optimizer, self.data = stage, optimizer, data
        self.schedule, self.seed, self.place = schedule, seed, place
        self._at_once = schedule.micro_batch_sequences
        self._order: tuple[int, list[int]] = (-1, [])

    def take(self, step: int, rate: float) -> float:
        """Update number `step`, counted from 0; returns the loss.

        If a GPU's memory is too small for a micro-batch, it is halved and the step begun anew.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        while True:
            self.optimizer.zero_grad()
            try:
                total = self._learn(step)
                break
            except torch.cuda.OutOfMemoryError:
                if self._at_once == 1:
                    raise
                self._at_once //= 2
            torch.cuda.empty_cache()
        if not abs(total) < float("inf"):
            raise FloatingPointError(f"the loss of step {step + 1} is {total}")
        for parameters in self.stage.clip_groups:
            nn.utils.clip_grad_norm_(parameters, 1.0)
        self.optimizer.step()
        return total

    def _learn(self, step: int) -> float:
        total = 0.0
        batch, num_sequences = list(self._indices(step)), self.schedule.batch_sequences
        for first in range(0, num_sequences, self._at_once):
            indices = batch[first : first + self._at_once]
            weight = len(indices) / num_sequences
            with self.place.autocast():
                total += weight * self.stage.learn(*self._beside(indices), weight)
        return total

    def _beside(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """The tokens [T, B] of those sequences, and whether they are answers; [T] of one alone."""
        rows = [self.data.at(index) for index in indices]
        if len(rows) == 1:
            return rows[0]
        token_ids, is_answer = zip(*rows, strict=True)
        return torch.stack(token_ids, dim=1), torch.stack(is_answer, dim=1)

    def _indices(self, step: int) -> Iterator[int]:
        size = self.schedule.batch_sequences
        for place in range(step * size, (step + 1) * size):
            epoch, offset = divmod(place, len(self.data))
            if self._order[0] != epoch:
                self._order = (epoch, self.data.order(self.seed, epoch))
            yield self._order[1][offset]


def _on(place: Place, sequences: Sequences) -> Sequences:
    token_ids, is_answer = sequences.token_ids, sequences.is_answer
    return replace(
        sequences, token_ids=token_ids.to(place.device), is_answer=is_answer.to(place.device)
    )


def _optimizer(stage: Stage, schedule: Schedule) -> torch.optim.AdamW:
    norms = {name for name in stage.parameters if "norm" in name}
    groups = [
        {"params": [p for n, p in stage.parameters.items() if (n in norms) is is_norm], "factor": f}
        for is_norm, f in ((False, 1.0), (True, schedule.norm_factor))
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=schedule.peak_rate, betas=(0.9, 0.95), weight_decay=0.0)


def _tensors(stage: Stage, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, parameter in stage.parameters.items():
        tensors[f"parameter.{name}"] = parameter
        for moment in _MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    return tensors


def _restore(
    stage: Stage, optimizer: torch.optim.Optimizer, directory: Path, recipe: dict[str, Any]
) -> dict[str, Any]:
    found = checkpointing.load(directory)
    if found is None:
        return {}
    facts, tensors = found
    before = facts.get("recipe", {})
    if changed := sorted(k for k in {*recipe, *before} if recipe.get(k) != before.get(k)):
        key = changed[0]
        raise ValueError(
            f"{directory} holds a run with {key} = {before.get(key)!r}, not {recipe.get(key)!r}; "
            "use the same settings or another folder"
        )
    for name, parameter in stage.parameters.items():
        parameter.data.copy_(tensors[f"parameter.{name}"])
        state: dict[str, Tensor] = {"step": torch.tensor(float(facts["step"]))}
        state |= {
            moment: tensors[f"{moment}.{name}"].to(parameter.device, copy=True)
            for moment in _MOMENTS
        }
        optimizer.state[parameter] = state
    return facts


class _Log:
    """One JSON object a line; what a killed run wrote after its last checkpoint is dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if step and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [
                line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step
            ]
        path.write_text("".join(kept), encoding="utf-8")

    def write(self, facts: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(facts) + "\n")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM end the run after the step at hand; a second one ends it at once."""
    caught: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
