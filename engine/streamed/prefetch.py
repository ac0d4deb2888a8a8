"""When a part of a layer will be used next, as far as that is known: what to read, what to drop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.streamed.weight_groups import DENSE, GroupKey

# Rounds count the layers from the current one on; a part that nobody expects comes after all.
_NEVER = 2**31


@dataclass(frozen=True, slots=True)
class PrefetchPlan:
    """The moment: `layer` is being computed and will be called `num_calls` times more after this.

    Of it the experts in `todo` are still to come in this call, in that order. `all_experts` says
    that so many tokens are read that all experts are expected; else of other layers those that are
    `predicted`, likeliest first, and the dense parts. After the last layer comes the first.
    `dense_layers` have no experts.
    """

    num_layers: int
    num_experts: int
    layer: int = 0
    num_calls: int = 0
    pending: Sequence[int] = ()
    all_experts: bool = False
    predicted: Mapping[int, Sequence[int]] = field(default_factory=dict)
    dense_layers: frozenset[int] = frozenset()

    def next_use(self, key: GroupKey) -> tuple[int, int]:
        """Smaller is sooner. Dropping what is used last reads least again (Belady, 1966)."""
        if key.layer == self.layer:
            return self._next_use_here(key.expert)
        away = 1 + (key.layer - self.layer) % self.num_layers
        if key.expert == DENSE:
            return (away, 0)
        if self.all_experts:
            return (away, 1 + key.expert)
        expected = self.predicted.get(key.layer, ())
        return (away, 1 + expected.index(key.expert)) if key.expert in expected else (_NEVER, 0)

    def _next_use_here(self, expert: int) -> tuple[int, int]:
        if expert == DENSE:
            return (0, 0)
        if expert in self.pending:
            return (0, 1 + self.pending.index(expert))
        if not self.all_experts:
            return (_NEVER, 0)
        return (1 if self.num_calls else 1 + self.num_layers, 1 + expert)

    def ahead(self) -> Iterator[GroupKey]:
        """What is worth reading before it is asked for, soonest first: up to the next layer."""
        yield from (GroupKey(self.layer, expert) for expert in self.pending)
        if self.all_experts and self.num_calls and self.layer not in self.dense_layers:
            absent = (e for e in range(self.num_experts) if e not in self.pending)
            yield from (GroupKey(self.layer, expert) for expert in absent)
        following = (self.layer + 1) % self.num_layers
        if following == self.layer:
            return
        yield GroupKey(following)
        if following in self.dense_layers:
            return
        if (
            self.all_experts and following
        ):  # another pass may not come, and would begin with few tokens
            yield from (GroupKey(following, expert) for expert in range(self.num_experts))
        elif not self.all_experts:
            yield from (GroupKey(following, expert) for expert in self.predicted.get(following, ()))
