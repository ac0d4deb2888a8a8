from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """What to build: the tokens, where documents end, and files to keep beside them by name."""

    token_ids: Sequence[int]
    document_ends: Collection[int] = ()
    attachments: Mapping[str, bytes] = field(default_factory=dict)
