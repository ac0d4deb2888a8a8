"""The models under test, by the names the tables show."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.engine import Engine
from mm1cli.models import library

if TYPE_CHECKING:
    from engine.context import Context


@dataclass(frozen=True, slots=True)
class Subject:
    name: str
    engine: Engine

    @property
    def trained_tokens(self) -> int:
        return self.engine.config.max_positions

    def is_beyond(self, num_tokens: int) -> bool:
        """Whether so many tokens are more than the model was trained for."""
        return num_tokens > self.trained_tokens

    def beyond(self, what: str) -> str:
        return f"{what} is beyond the {self.trained_tokens:,} positions {self.name} was trained for"

    def write(self, context: "Context", max_tokens: int) -> str:
        """Greedy text after `context`, which grows; also past the trained length."""
        limit = len(context) + max_tokens
        return "".join(self.engine.decode(context, max_tokens=max_tokens, max_positions=limit))


def load(names: Sequence[str], threads: int) -> list[Subject]:
    """Raises ModelError for a name that is no model, EngineError for one that cannot be loaded."""
    subjects: list[Subject] = []
    for given in names:
        engine = Engine(library.ensure(given, lambda *_: None), threads=threads)
        name = _short(given)
        if any(subject.name == name for subject in subjects):
            name = f"{name} {engine.fingerprint[:6]}"
        subjects.append(Subject(name, engine))
    return subjects


def _short(given: str) -> str:
    """`runs/distil/model` is distil: the stages of training all call their result model."""
    parts = [part for part in Path(given).parts if part not in {"/", "."}]
    informative = parts[:-1] if len(parts) > 1 and parts[-1] == "model" else parts
    return informative[-1] if informative else given
