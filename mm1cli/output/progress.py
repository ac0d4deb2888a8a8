"""Progress on stderr: a bar that leaves no trace on a terminal, plain lines elsewhere."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm1cli.output.text import Channel, cell_width, clock_time, elide_middle, safe_line

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_ROOM_FOR_CTRL_C = 3  # a full line would wrap at the terminal's echo "^C" and could not be erased


@dataclass(slots=True)
class _Work:
    stage: str
    unit: str
    total: int
    started: float
    first: int  # what was done before, by a resumed run: it says nothing about the rate
    done: int
    tenths_said: int = 0
    done_said: int = -1

    def rate(self, now: float) -> float:
        """Units per second; 0.0 while unknown."""
        elapsed = now - self.started
        return (self.done - self.first) / elapsed if elapsed > 0 else 0.0

    def facts(self, now: float) -> list[str]:
        """What to say beside the bar, the most first, for ever narrower terminals."""
        counts = [f"{self.done:,}/{self.total:,} {self.unit}"]
        if not self.total:
            return [f"{self.done:,} {self.unit}"] * 3
        percent = [f"{self.done * 100 // self.total} %"]
        if rate := self.rate(now):
            left = f"{clock_time((self.total - self.done) / rate)} left"
            counts += [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s", left]
            return ["  ".join(counts), "  ".join([*percent, left]), *percent]
        return [*counts, *percent, *percent]


@dataclass(slots=True)
class Progress:
    """How far the work is: a bar on a terminal, elsewhere a line first and one per 10 %, and
    nothing at all for work that ends within `after_s`. A bar never outlives `stop`."""

    channel: Channel
    clock: Callable[[], float]
    after_s: float
    _work: _Work | None = None
    _live: "Live | None" = None
    _timer: threading.Timer | None = None
    # The timer draws the first bar from its own thread, as one chunk may take longer than that.
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def update(self, stage: str, done: int, total: int, unit: str) -> None:
        """Work goes on, ends (done == total), or, with a new stage, begins. More done than a
        total of 0 is work of which the total is not known: it ends where other work begins."""
        work = self._work
        if work is None or work.stage != stage:
            self.stop()
            work = self._work = _Work(stage, unit, total, self.clock(), done, done)
            if self.channel.is_terminal and done != total:
                self._timer = threading.Timer(self.after_s, self._draw)
                self._timer.daemon = True
                self._timer.start()
        work.done, work.total = min(done, total) if total else done, total
        if not self.channel.is_terminal:
            self._say(work)
        if work.done == total:
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
        is_more = tenths > work.tenths_said if work.total else work.done >= 2 * work.done_said > 0
        is_first = work.done_said < 0 and work.done > work.first
        if (is_more or is_first) and self.clock() - work.started >= self.after_s:
            share = f" {work.done * 100 // work.total} %" if work.total else ""
            of = f" of {work.total:,}" if work.total else ""
            self.channel.write(f"{work.stage}{share} {work.done:,}{of} {work.unit}\n")
            work.done_said = work.done
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
                work.total or None,
                work.done,
                width=left_for_bar,
                complete_style="cyan",
                finished_style="cyan",
            )
            cells.insert(1, bar)
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(*cells)
        return grid
