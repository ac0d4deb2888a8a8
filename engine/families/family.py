from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.config import ModelConfig

Sources = dict[str, tuple[str, ...]]


NumRows = Callable[[str], int | None]  # of a tensor of the checkpoint; None if that is not there


def _as_it_says(config: ModelConfig, _num_rows: NumRows) -> ModelConfig:
    return config


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of checkpoints is read.

    A checkpoint is of the family if its config names one of `architectures`, or, where it names
    none, one of `model_types`. `read_config` turns a parsed config.json into ours. `sources` names,
    for every parameter of our model, the checkpoint tensors whose rows, stacked in that order, are
    its rows. `by_tensors` corrects a config that says otherwise than its tensors and the published
    code.
    """

    name: str
    architectures: tuple[str, ...]
    model_types: tuple[str, ...]
    read_config: Callable[[Mapping[str, Any]], ModelConfig]
    sources: Callable[[ModelConfig], Sources]
    by_tensors: Callable[[ModelConfig, NumRows], ModelConfig] = _as_it_says
