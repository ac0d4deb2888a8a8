"""The sink for people: answers and what carries them on stdout, everything else on stderr.

What carries an answer is its sources, which of its sentences they carry, and warnings about it: a
file or a pipe that has the one has the other. They stand below the answer, whose text is the
model's alone. An answer in JSON is for a program, and with --answer-only every answer is: what
carries it goes to stderr then. What the model thinks before it answers is dimmed, on stderr. A
manifest that was asked for IS the answer, so that goes to stdout.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mm1cli.ingest.manifest import Manifest
from mm1cli.output.flow import Flow
from mm1cli.output.github_escape import guarded
from mm1cli.output.links import Links
from mm1cli.output.progress import Progress
from mm1cli.output.quoted_text import caption_line, shown_text
from mm1cli.output.table import write_summary, write_table
from mm1cli.output.text import (
    COMPLETE,
    Channel,
    Style,
    cell_width,
    duration,
    elide_end,
    for_json,
    safe,
    safe_line,
    wrap,
    write_led,
    write_parts,
)
from mm1cli.result import (
    Answer,
    Citation,
    CitationStatus,
    Claim,
    Form,
    Mark,
    Usage,
    warning_texts,
)
from mm1cli.review.finding import Review
from mm1cli.sink import (
    CloseEvent,
    ErrorEvent,
    Event,
    ManifestEvent,
    NoteEvent,
    ProgressEvent,
    QuestionEvent,
    RunInfo,
    Sink,
    ThinkingEvent,
    TokenEvent,
    ToolEvent,
)

PROGRESS_AFTER_S = 2.0
_STAGE_WORDS = {"prefill": "model reads"}
_TOOL_COLUMNS = 120  # of what a tool gave
_CLAIM_COLUMNS = 34  # enough to know a sentence by its beginning
_STATUS_WORDS = {
    CitationStatus.EXACT: "",
    CitationStatus.NORMALISED: "(spacing or letter forms differ)",
    CitationStatus.NOT_FOUND: "(NOT FOUND in the source)",
}


class Terminal(Sink):
    """Both channels are given, so nothing here looks at the environment."""

    def __init__(
        self,
        stdout: Channel,
        stderr: Channel,
        *,
        quiet: bool = False,
        answer_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
        progress_after_s: float = PROGRESS_AFTER_S,
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._quiet, self._answer_only = quiet, answer_only
        self._progress = Progress(stderr, clock, progress_after_s)
        self._shares_screen = stdout.is_terminal and stderr.is_terminal
        self._model = self._command = ""
        self._flow, self._thought = Flow(stdout), Flow(stderr, Style.DIM)
        self._line_is_open = False
        self._needs_gap = False  # something stands on the screen right above the answer to come
        self._citations: list[Citation] = []  # of the answer that is not finished
        self._has_answered = False
        self._text = ""
        self._is_json = False  # by its first character
        self._thinking_is_open = False
        self._links: Links | None = None

    @classmethod
    def from_environment(cls, quiet: bool, answer_only: bool = False) -> "Terminal":
        return cls(
            Channel.from_environment(sys.stdout, os.environ),
            guarded(Channel.from_environment(sys.stderr, os.environ)),
            quiet=quiet,
            answer_only=answer_only,
        )

    @classmethod
    def on_stderr(cls, *, quiet: bool) -> "Terminal":
        """For a command whose stdout belongs to a protocol."""
        channel = guarded(Channel(sys.stderr))
        return cls(channel, channel, quiet=quiet)

    def emit(self, event: Event) -> None:
        match event:
            case RunInfo():
                self._model, self._command = event.model, event.command
            case ManifestEvent():
                self._manifest(event.manifest, show=event.show)
            case NoteEvent() if not self._quiet:
                with self._aside():
                    write_led("note", Style.DIM, safe_line(event.text), self._stderr)
            case ProgressEvent() if not self._quiet:
                stage = _STAGE_WORDS.get(event.stage, event.stage)
                self._progress.update(stage, event.done, event.total, event.unit)
            case QuestionEvent():
                self._question(event)
            case ThinkingEvent() if event.text:
                self._progress.stop()
                self._thought.write(event.text)
                self._thinking_is_open = not event.text.endswith("\n")
                self._needs_gap = True
            case ToolEvent() if not self._quiet:
                with self._aside():
                    arguments = json.dumps(dict(event.arguments), ensure_ascii=False)
                    told = f"{event.name} {arguments} = {elide_end(event.result, _TOOL_COLUMNS)}"
                    write_led("tool", Style.DIM, safe_line(told), self._stderr)
            case TokenEvent() if event.text:
                self._token(event.text)
            case Citation():
                self._citations.append(event)
            case Answer():
                self._answer(event)
            case Review():
                self._review(event)
            case ErrorEvent():
                self._progress.stop()
                self._end_thinking()
                self._end_line()
                self._cite(guarded(self._stdout))
                write_led("error", Style.ERROR, safe_line(event.message), self._stderr)
            case CloseEvent():
                self._progress.stop()
                self._end_line()
                self._cite(guarded(self._stdout))

    def _manifest(self, manifest: Manifest, *, show: bool) -> None:
        self._links = Links(manifest)
        if show:
            self._progress.stop()
            write_table(manifest, self._stdout)
        elif not self._quiet:
            with self._aside():
                write_summary(manifest, self._stderr, is_review=self._command == "review")

    def _question(self, event: QuestionEvent) -> None:
        self._end_line()
        self._has_answered = False
        self._text, self._is_json = "", False
        if event.count == 1:
            return
        self._progress.stop()
        if event.index > 0:
            self._needs_gap = False
            self._stdout.write("\n")
        self._leave_gap()
        self._stdout.write(f"## {safe_line(' '.join(event.question.split()))}\n", Style.BOLD)

    def _token(self, text: str) -> None:
        self._end_thinking()
        self._progress.stop()
        self._leave_gap()
        if not self._is_json and not self._text.strip():
            self._is_json = text.lstrip().startswith(("{", "[", '"'))
        self._text += text
        if self._is_json:
            self._stdout.write(for_json(text, self._stdout))
        else:
            self._flow.write(text)
        self._line_is_open = not text.endswith("\n")

    def _end_thinking(self) -> None:
        self._thought.end()
        if self._thinking_is_open:
            self._thinking_is_open = False
            self._stderr.write("\n")

    def _cite(self, channel: Channel) -> None:
        """The sources of the answer so far; there are some left where it was cut off."""
        if self._citations:
            channel.write("\n")
        for citation in self._citations:
            links = self._links
            url = links.url(citation.path, citation.locator) if links is not None else None
            is_told = citation.text == self._text  # an extract, of which this is the place
            _write_citation(citation, url, channel, has_text=not is_told)
        self._citations.clear()

    def _answer(self, answer: Answer) -> None:
        self._progress.stop()
        self._end_thinking()
        if not answer.text:
            self._line_is_open = True
        self._end_line()
        is_apart = self._answer_only or answer.is_json
        channel = self._stderr if is_apart else guarded(self._stdout)
        self._cite(channel)
        _write_claims(answer, channel)
        _write_warnings(answer, channel)
        if not self._quiet:
            self._stderr.write("\n")
            write_parts(_usage_parts(answer, self._model), self._stderr)
        self._needs_gap = False
        self._has_answered = True

    def _review(self, review: Review) -> None:
        from mm1cli.output.review import write_review

        self._progress.stop()
        self._leave_gap()
        write_review(review, guarded(self._stdout))

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Write to stderr without touching the answer on stdout, nor the bar below."""
        self._end_thinking()
        with self._progress.hidden():
            if self._line_is_open and self._shares_screen:
                self._flow.end()
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
        self._flow.end()
        if self._line_is_open:
            self._line_is_open = False
            self._stdout.write("\n")


def _usage_parts(answer: Answer, model: str) -> list[str]:
    usage: Usage = answer.usage
    wrote = f"wrote {usage.output_tokens:,} tokens"
    if answer.stop_reason not in COMPLETE:
        wrote += f" (stopped: {answer.stop_reason})"
    written = f"writing {duration(usage.decode_s)}"
    if usage.decode_s > 0:
        written += f" ({usage.output_tokens / usage.decode_s:,.0f} tok/s)"
    streamed = []
    if usage.weights_read_bytes is not None and usage.weights_hit_rate is not None:
        size = f"{usage.weights_read_bytes / 1e9:,.1f} GB"
        streamed = [f"weights: {size} read, {usage.weights_hit_rate:.0%} of uses did not wait"]
    read = f"read {usage.read_tokens:,} of {usage.corpus_tokens:,} tokens ({answer.plan})"
    if usage.unread_tokens:
        read += f", {usage.unread_tokens:,} more that were found would fit"
    return [
        read,
        f"reused {usage.reused_tokens:,} of {usage.context_tokens:,}",
        wrote,
        f"reading {duration(usage.prefill_s)}, {written}",
        *streamed,
        model,
    ]


def _write_claims(answer: Answer, channel: Channel) -> None:
    """Which footnotes carry which sentence, and which sentences have none."""
    if not answer.is_found:
        if answer.citations:
            channel.write("\nnot found: these passages come nearest\n", Style.WARNING)
        if words := answer.words.strip():
            write_led(
                "the model's words, which no passage bears out", Style.DIM, safe(words), channel
            )
        return
    if answer.form is Form.EXTRACT:  # carried by itself
        if answer.words:
            channel.write("\n")
            write_led("the model's words", Style.DIM, safe(answer.words), channel)
        return
    if not answer.claims:
        return
    text = answer.text
    carried = [claim for claim in answer.claims if claim.mark is Mark.CARRIED]
    channel.write("\n")
    if carried:
        _write_flowing([_claim(claim, text, channel) for claim in carried], channel)
    missing = [claim for claim in answer.claims if claim.mark is Mark.NOT_CARRIED]
    if without := [_words(claim, text) for claim in missing]:
        lead = "no evidence"
        told = ", ".join(f"“{words}”" for words in without)
        write_led(lead, Style.WARNING, told, channel)


def _write_warnings(answer: Answer, channel: Channel) -> None:
    warnings = warning_texts(answer)
    if warnings or answer.computed:
        channel.write("\n")
    for how in answer.computed:
        write_led("computed", Style.DIM, safe_line(how), channel)
    for text in warnings:
        write_led("warning", Style.WARNING, safe_line(text), channel)


def _claim(claim: Claim, text: str, channel: Channel) -> str:
    numbers = "".join(f"[{number}]" for number in claim.citations)
    room = channel.columns - cell_width(numbers) - 3
    return f"“{elide_end(_words(claim, text), max(min(room, _CLAIM_COLUMNS), 1))}” {numbers}"


def _words(claim: Claim, text: str) -> str:
    return safe_line(" ".join(text[claim.start : claim.end].split()))


def _write_flowing(parts: Sequence[str], channel: Channel) -> None:
    """As many on a line as a terminal has room for; a line each in a pipe."""
    line = ""
    for part in parts:
        if line and (not channel.is_terminal or cell_width(f"{line}  {part}") > channel.columns):
            channel.write(f"{line}\n", Style.DIM)
            line = ""
        line = f"{line}  {part}" if line else part
    channel.write(f"{line}\n", Style.DIM)


def _write_citation(
    citation: Citation, url: str | None, channel: Channel, *, has_text: bool = True
) -> None:
    head = f"[{citation.number}] "
    is_found = citation.status is not CitationStatus.NOT_FOUND
    path, where = safe_line(citation.path), safe_line(str(citation.locator))
    channel.write(head, Style.MARK)
    used = cell_width(f"{head}{path},")
    channel.write(f"{path},", Style.BOLD, url)
    for words, style in (
        (where, Style.BOLD),
        (_STATUS_WORDS[citation.status], Style.DIM if is_found else Style.ERROR),
    ):
        width = cell_width(f" {words}") if words else 0
        if channel.is_terminal and used + width > channel.columns:
            used = len(head) - 1
            channel.write("\n" + " " * used)
        used += width
        channel.write(f" {words}" if words else "", style)
    channel.write("\n")
    if not has_text:
        return
    margin = " " * len(head)
    bar = channel.glyph("│", "|")
    room = channel.columns - len(head) - 2
    for line in wrap(safe_line(caption_line(citation)), room) if caption_line(citation) else ():
        channel.write(f"{margin}{bar}", Style.MARK)
        channel.write(f" {line}\n", Style.DIM)
    for line in wrap(safe(shown_text(citation)), room):
        channel.write(f"{margin}{bar}", Style.MARK)
        channel.write(f" {line}\n" if line else "\n")
