"""The steps in their order, and what each is likely to cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.device import attention, ceilings, checks, experts, graph, layers, lightning, norms
from benchmarks.device.bench import Bench, Row


@dataclass(frozen=True, slots=True)
class Step:
    """`cost_s`: seconds it may take on an H100, compiling included; it is not begun with less.

    `needs` are steps whose numbers it cannot do without.
    """

    name: str
    cost_s: float
    run: Callable[[Bench], object]
    needs: Sequence[str] = ()


STEPS: tuple[Step, ...] = (
    Step("tests", 240, checks.tests),
    Step("ceilings", 20, ceilings.run),
    Step("accuracy", 60, checks.accuracy),
    Step("lightning prefill", 120, lightning.prefill),
    Step("lightning decode", 15, lightning.decode),
    Step("softmax prefill", 60, attention.prefill),
    Step("softmax decode", 30, attention.decode),
    Step("experts, many tokens", 60, experts.many),
    Step("experts, one token", 30, experts.one),
    Step("norms", 20, norms.run),
    Step("recorded steps", 45, graph.run),
    Step("layer lightning bf16", 45, layers.lightning("bf16")),
    Step("layer softmax bf16", 130, layers.softmax("bf16")),
    Step("head", 10, layers.head),
    Step("estimate", 1, layers.estimate, ("layer lightning bf16", "layer softmax bf16", "head")),
    Step("layer lightning int8", 40, layers.lightning("int8")),
    Step("layer lightning int4", 40, layers.lightning("int4")),
    Step("layer softmax int8", 40, layers.softmax("int8")),
    Step("layer softmax int4", 40, layers.softmax("int4")),
)


def reason_to_skip(step: Step, seconds_left: float, known: Mapping[str, Sequence[Row]]) -> str:
    missing = [name for name in step.needs if name not in known]
    if missing:
        return f"needs {', '.join(missing)}"
    if step.cost_s > seconds_left:
        return f"may take {step.cost_s:.0f} s, {max(seconds_left, 0):.0f} s are left"
    return ""
