"""When a part of a layer will be used next, as far as that is known: what to read, what to drop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.streamed.weight_groups import DENSE, Key

# Rounds count the layers from the current one on; a part that nobody expects comes after all.
_NEVER = 2**31


@dataclass(frozen=True, slots=True)
class Schedule:
    """The moment: `layer` is being computed and will be called `num_calls` times more after this.

    Of it the experts in `todo` are still to come in this call, in that order. `is_wide` says that
    so many tokens are read that all experts are expected; else of other layers those that are
    `foreseen`, likeliest first, and the dense parts. After the last layer comes the first.
    """

    num_layers: int
    num_experts: int
    layer: int = 0
    num_calls: int = 0
    todo: Sequence[int] = ()
    is_wide: bool = False
    foreseen: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def next_use(self, key: Key) -> tuple[int, int]:
        """Smaller is sooner. Dropping what is used last reads least again (Belady, 1966)."""
        if key.layer == self.layer:
            return self._next_use_here(key.expert)
        away = 1 + (key.layer - self.layer) % self.num_layers
        if key.expert == DENSE:
            return (away, 0)
        if self.is_wide:
            return (away, 1 + key.expert)
        expected = self.foreseen.get(key.layer, ())
        return (away, 1 + expected.index(key.expert)) if key.expert in expected else (_NEVER, 0)

    def _next_use_here(self, expert: int) -> tuple[int, int]:
        if expert == DENSE:
            return (0, 0)
        if expert in self.todo:
            return (0, 1 + self.todo.index(expert))
        if not self.is_wide:
            return (_NEVER, 0)
        return (1 if self.num_calls else 1 + self.num_layers, 1 + expert)

    def ahead(self) -> Iterator[Key]:
        """What is worth reading before it is asked for, soonest first: up to the next layer."""
        yield from (Key(self.layer, expert) for expert in self.todo)
        if self.is_wide and self.num_calls:
            absent = (e for e in range(self.num_experts) if e not in self.todo)
            yield from (Key(self.layer, expert) for expert in absent)
        following = (self.layer + 1) % self.num_layers
        if following == self.layer:
            return
        yield Key(following)
        if self.is_wide and following:  # another pass may not come, and would begin with few tokens
            yield from (Key(following, expert) for expert in range(self.num_experts))
        elif not self.is_wide:
            yield from (Key(following, expert) for expert in self.foreseen.get(following, ()))
