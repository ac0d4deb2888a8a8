"""What to do with documents that do not fit the context, when the user says what to do.

By default nothing is dropped: `analyze` then retrieves the passages that fit each question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

from mm1cli.errors import BudgetError
from mm1cli.ingest.corpus import Block, Document, Omission, Reason, Unread
from mm1cli.ingest.pack import Encoder, Packed, Packer, document_text

Policy = Literal["focus", "select", "fail", "drop-largest", "head"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
_NAMED = 3


def fit(packed: Packed, budget_tokens: int, policy: Policy, encoder: Encoder) -> Packed:
    """`packed`, or as much of it as `policy` keeps within `budget_tokens`.

    focus: all of it, as the passages for each question are chosen later. select: all of it, as the
    budget is that of a context to select from, or as fail. fail: BudgetError, which
    names the largest files. drop-largest: whole documents go, the largest first. head: documents
    stay from the first one on; the one that does not fit is cut at a line, all after it go. What
    goes is an omission, what is cut has a warning.
    """
    if policy == "focus" or packed.num_tokens <= budget_tokens:
        return packed
    if policy in ("fail", "select"):
        raise BudgetError(_too_much(packed, budget_tokens))
    if policy == "drop-largest":
        return _without_largest(packed, budget_tokens, encoder)
    return _head(packed, budget_tokens, encoder)


def largest(packed: Packed) -> list[tuple[Document, int]]:
    """The documents with their tokens, the largest first; of equals, the first one first."""
    counts = zip(packed.corpus.documents, map(len, packed.token_ids), strict=True)
    return sorted(counts, key=lambda pair: -pair[1])


def _too_much(packed: Packed, budget_tokens: int) -> str:
    named = [pair for pair in largest(packed)[:_NAMED] if pair[1]]
    shares = ", ".join(f"{document.path} ({count:,})" for document, count in named)
    over = packed.num_tokens - budget_tokens
    excluded: list[str] = []
    sum_excluded = 0
    for document, count in largest(packed):
        if sum_excluded >= over or len(excluded) == len(packed.token_ids) - 1:
            break
        excluded.append(document.path)
        sum_excluded += count
    many = len(excluded) > _NAMED or sum_excluded < over
    advice = "" if many else " ".join(f"--exclude '{path}'" for path in excluded) + " is enough, or"
    return (
        f"{packed.num_tokens:,} tokens do not fit the budget of {budget_tokens:,}; the largest: "
        f"{shares}; {advice or 'leave some out with --exclude,'} use --fit drop-largest, or "
        "--fit focus to read the passages that fit each question"
    )


def _without_largest(packed: Packed, budget_tokens: int, encoder: Encoder) -> Packed:
    left = packed.num_tokens
    dropped: dict[int, int] = {}
    for document, count in largest(packed):
        if left <= budget_tokens:
            break
        dropped[id(document)] = count
        left -= count
    kept = [one for one in packed.corpus.documents if id(one) not in dropped]
    gone = [
        _dropped(one, dropped[id(one)], "one of the largest")
        for one in packed.corpus.documents
        if id(one) in dropped
    ]
    return _packed_again(packed, kept, gone, encoder)


def _head(packed: Packed, budget_tokens: int, encoder: Encoder) -> Packed:
    kept: list[Document] = []
    gone: list[Omission] = []
    left = budget_tokens
    is_full = False
    for document, ids in zip(packed.corpus.documents, packed.token_ids, strict=True):
        if not is_full and len(ids) <= left:
            kept.append(document)
            left -= len(ids)
            continue
        cut = None if is_full else _cut(document, len(ids), left, encoder, packed.fence)
        is_full = True
        if cut is None:
            gone.append(_dropped(document, len(ids), "after what fits"))
        else:
            kept.append(cut)
    return _packed_again(packed, kept, gone, encoder)


def _dropped(document: Document, num_tokens: int, why: str) -> Omission:
    detail = f"{num_tokens:,} tokens, {why}"
    return Omission(document.path, Reason.OVER_BUDGET, detail, document.num_bytes)


def _packed_again(
    packed: Packed, kept: Sequence[Document], gone: Sequence[Omission], encoder: Encoder
) -> Packed:
    packer = Packer(encoder, len(packed.contents_ids), packed.fence)
    for document in kept:
        packer.add(document)
    return packer.finish((*packed.corpus.omissions, *gone))


def _cut(
    document: Document, num_tokens: int, left: int, encoder: Encoder, fence: str
) -> Document | None:
    """As many of its lines as have at most `left` tokens; None if not even one does."""

    def cost(num_lines: int) -> int:
        part = replace(document, blocks=tuple(_first_lines(document.blocks, num_lines)))
        return len(encoder.encode_batch([document_text(part, fence)])[0])

    low, high = 0, sum(block.text.count("\n") + 1 for block in document.blocks)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= left else (low, middle)
    if low == 0:
        return None
    blocks = tuple(_first_lines(document.blocks, low))
    last = blocks[-1].locate(max(len(blocks[-1].text) - 1, 0), max(len(blocks[-1].text), 1))
    warning = f"cut after {last} by --fit head: {cost(low):,} of {num_tokens:,} tokens are read"
    return replace(document, blocks=blocks, warnings=(*document.warnings, Unread(warning)))


def _first_lines(blocks: Sequence[Block], num_lines: int) -> Iterator[Block]:
    for block in blocks:
        if num_lines <= 0:
            return
        lines = block.text.split("\n")
        if len(lines) <= num_lines:
            yield block
        else:
            text = "\n".join(lines[:num_lines])
            source = tuple(point for point in block.source if point[0] <= len(text))
            outline = tuple(entry for entry in block.outline if entry[0] <= len(text))
            yield replace(block, text=text, source=source, outline=outline)
        num_lines -= len(lines)
