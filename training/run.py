"""The loop of every stage: seeded, logged, and going on after a kill as if there had been none.

What a step does depends on its number alone, so a run resumed from a checkpoint takes the same
steps as one that was never interrupted.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from engine.model import Model
from training import saved
from training.data import Sequences
from training.schedule import Schedule

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
        """Adds `weight` times the gradient of one sequence's loss; returns the loss."""
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
    on_progress: OnProgress = lambda _done, _total: None,
) -> Outcome:
    """Trains `stage.parameters` in place, from the checkpoint in `directory` if there is one.

    `inputs` are JSON facts that a resumed run must share with the one it continues; with others,
    or another schedule or seed, ValueError is raised. `directory` gets checkpoints and log.jsonl.
    """
    recipe = json.loads(json.dumps({**asdict(schedule), "seed": seed, **inputs}))
    optimizer = _optimizer(stage, schedule)
    step = resumed_from = _restore(stage, optimizer, directory, recipe)
    log = _Log(directory / "log.jsonl", step)
    tokens, flops = schedule.tokens_per_step, stage.flops_per_sequence(schedule.sequence_tokens)
    with _signals() as caught:
        if step == 0:
            log.write({"step": 0, "recipe": recipe, "held_out": stage.judge(held_out)})
        while step < schedule.steps and not caught:
            on_progress(step * tokens, schedule.steps * tokens)
            began = time.perf_counter()
            loss = _update(stage, optimizer, data, schedule, seed, step)
            step += 1
            facts: dict[str, Any] = {
                "step": step,
                "loss": loss,
                "rate": schedule.rate(step - 1),
                "tokens": step * tokens,
                "flops": step * schedule.batch_sequences * flops,
                "step_s": time.perf_counter() - began,
            }
            if step % schedule.evaluate_every == 0 or step == schedule.steps:
                facts["held_out"] = stage.judge(held_out)
            log.write(facts)
            if step % schedule.save_every == 0 or step == schedule.steps or caught:
                saved.save(directory, step, _tensors(stage, optimizer), {"recipe": recipe})
        on_progress(step * tokens, schedule.steps * tokens)
    return Outcome(step, resumed_from, caught[0] if caught else None, log.path)


def _update(
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    data: Sequences,
    schedule: Schedule,
    seed: int,
    step: int,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step) * group["factor"]
    optimizer.zero_grad()
    total = 0.0
    for index in _indices(data, schedule, seed, step):
        weight = 1 / schedule.batch_sequences
        total += weight * stage.learn(*data.at(index), weight)
    if not abs(total) < float("inf"):
        raise FloatingPointError(f"the loss of step {step + 1} is {total}")
    for parameters in stage.clip_groups:
        nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return total


def _indices(data: Sequences, schedule: Schedule, seed: int, step: int) -> Iterator[int]:
    for place in range(step * schedule.batch_sequences, (step + 1) * schedule.batch_sequences):
        epoch, offset = divmod(place, len(data))
        yield data.order(seed, epoch)[offset]


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
) -> int:
    found = saved.load(directory)
    if found is None:
        return 0
    facts, tensors = found
    before = facts.get("recipe", {})
    if changed := sorted(k for k in {*recipe, *before} if recipe.get(k) != before.get(k)):
        key = changed[0]
        raise ValueError(
            f"{directory} holds a run with {key} = {before.get(key)!r}, not {recipe.get(key)!r}; "
            "use the same settings or another folder"
        )
    step = int(facts["step"])
    for name, parameter in stage.parameters.items():
        parameter.data.copy_(tensors[f"parameter.{name}"])
        state: dict[str, Tensor] = {"step": torch.tensor(float(step))}
        state |= {moment: tensors[f"{moment}.{name}"].clone() for moment in _MOMENTS}
        optimizer.state[parameter] = state
    return step


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
