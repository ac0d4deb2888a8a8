"""The manifest for people: every file as a table, or a summary of what the answer rests on."""

from collections import Counter
from itertools import groupby

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.manifest import Entry, Manifest, ReadingPlan
from mm1cli.output.text import (
    Channel,
    Style,
    cell_width,
    elide_middle,
    pad,
    safe_line,
    wrap,
    write_hanging,
)

_NAMES_SHOWN = 3
_NARROWEST_PATH_COLUMN = 12  # below it the kind gives way
_WIDEST_PATH_COLUMN = 60  # a longer path in a pipe shifts its own row only
_PLAN_WORDS = {ReadingPlan.WHOLE: "read whole", ReadingPlan.RETRIEVAL: "read by retrieval"}
_REVIEW_WORDS = {ReadingPlan.WHOLE: "read whole", ReadingPlan.RETRIEVAL: "read in parts"}


def _write_totals(manifest: Manifest, channel: Channel, *, is_review: bool = False) -> None:
    """Two sentences that add up; of nothing there is none, as an error says so."""
    if not manifest.entries:
        return
    fits = "fits" if manifest.fits else "does not fit"
    files = (
        f"{len(manifest.entries):,} seen = {len(manifest.read):,} read"
        f" + {len(manifest.left_out):,} left out"
    )
    plan = (_REVIEW_WORDS if is_review else _PLAN_WORDS)[manifest.plan]
    tokens = f"{manifest.tokens:,} tokens"
    if manifest.is_saved:
        tokens += ", read when this context was built"
    else:
        tokens += f" of {manifest.budget_tokens:,} budget: {fits}, will be {plan}"
    told = [files, tokens] if manifest.read else [files]
    lines = ["; ".join(told)]
    if channel.is_terminal and len(lines[0]) > channel.columns:
        lines = wrap("\n".join(told), channel.columns)
    for line in lines:
        channel.write(f"{line}\n", Style.BOLD)


def write_table(manifest: Manifest, channel: Channel) -> None:
    """Path, kind and tokens of what was read, the largest first; what was left out, and why. Of
    what was excluded, as was asked for, a few are named and the rest is counted."""
    paths = {entry.path: safe_line(entry.path) for entry in manifest.entries}
    kinds = [entry.kind or "" for entry in manifest.largest]
    counts = [f"{entry.tokens:,}" for entry in manifest.largest]
    kind_width = max(map(cell_width, ["kind", *kinds]))
    count_width = max(map(len, ["tokens", *counts]))
    path_width = max(map(cell_width, ["path", *paths.values()]))
    if not channel.is_terminal:
        path_width = min(path_width, _WIDEST_PATH_COLUMN)
    else:
        room = channel.columns - kind_width - count_width - 4
        if room < _NARROWEST_PATH_COLUMN:
            kinds, kind_width, room = [""] * len(kinds), 0, channel.columns - count_width - 2
        path_width = min(path_width, max(room, 2))
        paths = {path: elide_middle(shown, path_width) for path, shown in paths.items()}

    def row(path: str, kind: str, count: str) -> str:
        kind_cell = f"{pad(kind, kind_width)}  " if kind_width else ""
        return f"{pad(path, path_width)}  {kind_cell}{count:>{count_width}}\n"

    if manifest.read:
        channel.write(row("path", "kind" if kind_width else "", "tokens"), Style.DIM)
    for entry, kind, count in zip(manifest.largest, kinds, counts, strict=True):
        channel.write(row(paths[entry.path], safe_line(kind), count))
        for warning in entry.warnings:
            write_hanging(f"! {safe_line(warning)}", channel, Style.WARNING)
    if manifest.left_out:
        channel.write(("\n" if manifest.read else "") + "left out\n", Style.DIM)
    num_excluded: Counter[str] = Counter()
    for entry in manifest.left_out:
        if entry.reason is Reason.EXCLUDED:
            num_excluded[_reason(entry)] += 1
            if num_excluded[_reason(entry)] > _NAMES_SHOWN:
                continue
        line = f"{pad(paths[entry.path], path_width)}  {_reason(entry)}"
        if channel.is_terminal and cell_width(line) > channel.columns:
            channel.write(f"{paths[entry.path]}\n")
            write_hanging(_reason(entry), channel, Style.PLAIN)
        else:
            channel.write(f"{line}\n")
    for reason, num in num_excluded.items():
        if (more := num - _NAMES_SHOWN) > 0:
            write_hanging(f"and {more:,} more {reason}; --json lists them", channel, Style.PLAIN)
    if manifest.entries:
        channel.write("\n")
    _write_totals(manifest, channel)


def _reason(entry: Entry) -> str:
    return f"{entry.reason} ({safe_line(entry.detail)})" if entry.detail else str(entry.reason)


def write_summary(manifest: Manifest, channel: Channel, *, is_review: bool = False) -> None:
    """The totals, and what a reader of the answer must know: warnings, and what was left out."""

    def shown(entry: Entry) -> str:
        path = safe_line(entry.path)
        return elide_middle(path, channel.columns // 2) if channel.is_terminal else path

    _write_totals(manifest, channel, is_review=is_review)
    for entry in manifest.read:
        for warning in entry.warnings:
            write_hanging(f"! {shown(entry)}: {safe_line(warning)}", channel, Style.WARNING)
    by_reason = sorted(manifest.left_out, key=lambda entry: str(entry.reason))
    for reason, group in groupby(by_reason, key=lambda entry: str(entry.reason)):
        entries = list(group)
        names = [
            f"{shown(entry)} ({safe_line(entry.detail)})" if entry.detail else shown(entry)
            for entry in entries[:_NAMES_SHOWN]
        ]
        more = len(entries) - len(names)
        how = "mm1 tokens --json" if reason == Reason.EXCLUDED else "mm1 tokens"
        rest = f" and {more:,} more ({how} lists them)" if more else ""
        write_hanging(f"{reason}: {', '.join(names)}{rest}", channel, Style.PLAIN)
