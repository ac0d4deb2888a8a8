"""The sink for people: the answer on stdout, everything else on stderr.

Citations, too, go to stderr: they are evidence about the answer, and a pipe wants the answer. A
manifest that was asked for IS the answer, so that goes to stdout.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from mm1cli.ingest.manifest import Entry, Manifest
from mm1cli.output.sink import RunInfo
from mm1cli.output.text import (
    Channel,
    Style,
    cell_width,
    clock_time,
    duration,
    elide_middle,
    pad,
    safe,
    safe_line,
    wrap,
    write_hanging,
    write_parts,
)
from mm1cli.result import Answer, Citation, CitationStatus, ReadingPlan, Usage

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

PROGRESS_AFTER_S = 2.0
_NAMES_SHOWN = 3
_ROOM_FOR_CTRL_C = 3  # a full line would wrap at the terminal's echo "^C" and could not be erased
_NARROWEST_PATH_COLUMN = 12  # below it the kind gives way
_WIDEST_PATH_COLUMN = 60  # a longer path in a pipe shifts its own row only
_COMPLETE = frozenset({"end", "stop", "stop text"})
_STATUS_WORDS = {
    CitationStatus.EXACT: "",
    CitationStatus.NORMALISED: " (spacing or letter forms differ)",
    CitationStatus.NOT_FOUND: " (NOT FOUND in the source)",
}
_PLAN_WORDS = {ReadingPlan.WHOLE: "read whole", ReadingPlan.FOCUS: "read by focus"}


class Terminal:
    """Implements `Sink`. Both channels are given, so nothing here looks at the environment."""

    def __init__(
        self,
        stdout: Channel,
        stderr: Channel,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        progress_after_s: float = PROGRESS_AFTER_S,
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._quiet = quiet
        self._progress = Progress(stderr, clock, progress_after_s)
        self._shares_screen = stdout.is_terminal and stderr.is_terminal
        self._model = ""
        self._line_is_open = False
        self._needs_gap = False  # something stands on the screen right above the answer to come
        self._has_cited = False
        self._has_answered = False

    @classmethod
    def from_environment(cls, quiet: bool) -> "Terminal":
        return cls(
            Channel.from_environment(sys.stdout, os.environ),
            Channel.from_environment(sys.stderr, os.environ),
            quiet=quiet,
        )

    def init(self, run: RunInfo) -> None:
        self._model = run.model

    def manifest(self, manifest: Manifest, *, show: bool) -> None:
        if show:
            self._progress.stop()
            _write_table(manifest, self._stdout)
        elif not self._quiet:
            with self._aside():
                _write_summary(manifest, self._stderr)

    def note(self, text: str) -> None:
        if self._quiet:
            return
        with self._aside():
            self._stderr.write("note: ", Style.DIM)
            self._stderr.write(f"{safe_line(text)}\n")

    def progress(self, stage: str, done: int, total: int, unit: str) -> None:
        if not self._quiet:
            self._progress.update(stage, done, total, unit)

    def question(self, question: str, index: int, count: int) -> None:
        self._end_line()
        self._has_cited = self._has_answered = False
        if count == 1:
            return
        self._progress.stop()
        if index > 0:
            self._needs_gap = False
            self._stdout.write("\n")
        self._leave_gap()
        self._stdout.write(f"## {safe_line(' '.join(question.split()))}\n", Style.BOLD)

    def token(self, text: str) -> None:
        if not text:
            return
        self._progress.stop()
        self._leave_gap()
        self._stdout.write(text)
        self._line_is_open = not text.endswith("\n")

    def citation(self, citation: Citation) -> None:
        with self._aside():
            if not self._has_cited:
                self._stderr.write("\n")
            self._has_cited = True
            _write_citation(citation, self._stderr)

    def answer(self, answer: Answer) -> None:
        self._progress.stop()
        if not answer.text:
            self._line_is_open = True
        self._end_line()
        if not self._quiet:
            self._stderr.write("\n")
            write_parts(_usage_parts(answer, self._model), self._stderr)
        self._has_cited = self._needs_gap = False
        self._has_answered = True

    def error(self, message: str, exit_code: int) -> None:  # noqa: ARG002 - the app exits with it
        self._progress.stop()
        self._end_line()
        self._stderr.write("error: ", Style.ERROR)
        self._stderr.write(f"{safe_line(message)}\n")

    def close(self) -> None:
        self._progress.stop()
        self._end_line()

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Write to stderr without touching the answer on stdout, nor the bar below."""
        with self._progress.hidden():
            if self._line_is_open and self._shares_screen:
                self._stderr.write("\n")
                self._line_is_open = False
            if self._has_answered:
                self._stderr.write("\n")
                self._has_answered = False
            yield
        self._needs_gap = True

    def _leave_gap(self) -> None:
        if self._needs_gap and self._shares_screen:
            self._stderr.write("\n")
        self._needs_gap = False

    def _end_line(self) -> None:
        if self._line_is_open:
            self._line_is_open = False
            self._stdout.write("\n")


@dataclass(slots=True)
class _Work:
    stage: str
    unit: str
    total: int
    started: float
    first: int  # what was done before, by a resumed run: it says nothing about the rate
    done: int
    tenths_said: int = 0

    def rate(self, now: float) -> float:
        """Units per second; 0.0 while unknown."""
        elapsed = now - self.started
        return (self.done - self.first) / elapsed if elapsed > 0 else 0.0

    def facts(self, now: float) -> list[str]:
        """What to say beside the bar, the most first, for ever narrower terminals."""
        counts = [f"{self.done:,}/{self.total:,} {self.unit}"]
        percent = [f"{self.done * 100 // max(self.total, 1)} %"]
        if rate := self.rate(now):
            left = f"{clock_time((self.total - self.done) / rate)} left"
            counts += [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s", left]
            return ["  ".join(counts), "  ".join([*percent, left]), *percent]
        return [*counts, *percent, *percent]


@dataclass(slots=True)
class Progress:
    """How far the work is: a bar on a terminal, a line per 10 % elsewhere, and nothing at all for
    work that ends within `after_s`. A bar never outlives `stop`."""

    channel: Channel
    clock: Callable[[], float]
    after_s: float
    _work: _Work | None = None
    _live: "Live | None" = None
    _timer: threading.Timer | None = None
    # The timer draws the first bar from its own thread, as one chunk may take longer than that.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def update(self, stage: str, done: int, total: int, unit: str) -> None:
        """Work goes on, ends (done == total), or, with a new stage, begins."""
        work = self._work
        if work is None or work.stage != stage:
            self.stop()
            work = self._work = _Work(stage, unit, total, self.clock(), done, done)
            if self.channel.is_terminal and done < total:
                self._timer = threading.Timer(self.after_s, self._draw)
                self._timer.daemon = True
                self._timer.start()
        work.done, work.total = min(done, total), total
        if not self.channel.is_terminal:
            self._say(work)
        if done >= total:
            self.stop()

    def stop(self) -> None:
        """The work is over or given up: take the bar away."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._work = self._timer = None
            self._erase()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """The bar is out of the way inside, and back after."""
        with self._lock:
            was_drawn = self._live is not None
            self._erase()
            yield
            if was_drawn:
                self._draw()

    def _say(self, work: _Work) -> None:
        tenths = work.done * 10 // work.total if work.total else 0
        if tenths > work.tenths_said and self.clock() - work.started >= self.after_s:
            self.channel.write(
                f"{work.stage} {work.done * 100 // work.total} % "
                f"{work.done:,} of {work.total:,} {work.unit}\n"
            )
        work.tenths_said = max(tenths, work.tenths_said)

    def _erase(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        from rich.console import Console
        from rich.live import Live

        with self._lock:
            work = self._work
            if work is None or self._live is not None:
                return
            console = Console(
                file=self.channel.stream,
                force_terminal=True,
                force_interactive=True,
                color_system="standard" if self.channel.color else None,
                width=self.channel.width,
                legacy_windows=False,
            )
            self._live = Live(
                console=console,
                get_renderable=lambda: self._bar(work),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)

    def _bar(self, work: _Work) -> "Table":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        room = self.channel.columns - _ROOM_FOR_CTRL_C
        stage = safe_line(work.stage)
        for facts, bar_width in zip(work.facts(self.clock()), (10, 4, 0), strict=True):
            left_for_bar = room - cell_width(f"{stage} {facts} ")
            if left_for_bar >= bar_width:
                break
        else:
            stage, left_for_bar = elide_middle(stage, room - cell_width(facts) - 1), 0
        cells: list[Text | ProgressBar] = [Text(stage), Text(facts)]
        if left_for_bar > 0:
            bar = ProgressBar(
                work.total,
                work.done,
                width=left_for_bar,
                complete_style="cyan",
                finished_style="cyan",
            )
            cells.insert(1, bar)
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(*cells)
        return grid


def _usage_parts(answer: Answer, model: str) -> list[str]:
    usage: Usage = answer.usage
    wrote = f"wrote {usage.output_tokens:,} tokens"
    if answer.stop_reason not in _COMPLETE:
        wrote += f" (stopped: {answer.stop_reason})"
    decode = f"decode {duration(usage.decode_s)}"
    if usage.decode_s > 0:
        decode += f" ({usage.output_tokens / usage.decode_s:,.0f} tok/s)"
    return [
        f"read {usage.read_tokens:,} of {usage.corpus_tokens:,} tokens ({answer.plan})",
        f"reused {usage.reused_tokens:,} of {usage.context_tokens:,}",
        wrote,
        f"prefill {duration(usage.prefill_s)}, {decode}",
        model,
    ]


def _write_citation(citation: Citation, channel: Channel) -> None:
    head = f"[{citation.number}] "
    is_found = citation.status is not CitationStatus.NOT_FOUND
    channel.write(head, Style.MARK)
    channel.write(f"{safe_line(citation.path)}, {safe_line(str(citation.locator))}", Style.BOLD)
    channel.write(_STATUS_WORDS[citation.status], Style.DIM if is_found else Style.ERROR)
    channel.write("\n")
    margin = " " * len(head)
    bar = channel.glyph("│", "|")
    for line in wrap(safe(citation.text.strip("\n")), channel.columns - len(head) - 2):
        channel.write(f"{margin}{bar}", Style.MARK)
        channel.write(f" {line}\n" if line else "\n")


def _write_totals(manifest: Manifest, channel: Channel) -> None:
    """Two sentences that add up."""
    fits = "fits" if manifest.fits else "does not fit"
    files = (
        f"{len(manifest.entries):,} seen = {len(manifest.read):,} read"
        f" + {len(manifest.left_out):,} left out"
    )
    tokens = (
        f"{manifest.tokens:,} tokens of {manifest.budget_tokens:,} budget:"
        f" {fits}, will be {_PLAN_WORDS[manifest.plan]}"
    )
    lines = [f"{files}; {tokens}"]
    if channel.is_terminal and len(lines[0]) > channel.columns:
        lines = wrap(f"{files}\n{tokens}", channel.columns)
    for line in lines:
        channel.write(f"{line}\n", Style.BOLD)


def _write_table(manifest: Manifest, channel: Channel) -> None:
    """Path, kind and tokens of what was read; path and reason of what was left out."""
    paths = {entry.path: safe_line(entry.path) for entry in manifest.entries}
    kinds = [entry.kind or "" for entry in manifest.read]
    counts = [f"{entry.tokens:,}" for entry in manifest.read]
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
    for entry, kind, count in zip(manifest.read, kinds, counts, strict=True):
        channel.write(row(paths[entry.path], safe_line(kind), count))
        for warning in entry.warnings:
            write_hanging(f"! {safe_line(warning)}", channel, Style.WARNING)
    if manifest.left_out:
        channel.write(("\n" if manifest.read else "") + "left out\n", Style.DIM)
    for entry in manifest.left_out:
        line = f"{pad(paths[entry.path], path_width)}  {_reason(entry)}"
        if channel.is_terminal and cell_width(line) > channel.columns:
            channel.write(f"{paths[entry.path]}\n")
            write_hanging(_reason(entry), channel, Style.PLAIN)
        else:
            channel.write(f"{line}\n")
    if manifest.entries:
        channel.write("\n")
    _write_totals(manifest, channel)


def _reason(entry: Entry) -> str:
    return f"{entry.reason} ({safe_line(entry.detail)})" if entry.detail else str(entry.reason)


def _write_summary(manifest: Manifest, channel: Channel) -> None:
    """The totals, and what a reader of the answer must know: warnings, and what was left out."""

    def shown(entry: Entry) -> str:
        path = safe_line(entry.path)
        return elide_middle(path, channel.columns // 2) if channel.is_terminal else path

    _write_totals(manifest, channel)
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
        rest = f" and {more:,} more (--dry-run lists them)" if more else ""
        write_hanging(f"{reason}: {', '.join(names)}{rest}", channel, Style.PLAIN)
