"""The session: a line is a question, a line with a slash a command.

Ctrl-C stops the answer that is being written, and what was said before stays; at the prompt it
clears the line. Ctrl-D or /quit ends the session.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from engine.api import EngineError
from mm1cli import interrupts
from mm1cli.about import version
from mm1cli.chat.answers import Partner
from mm1cli.errors import Mm1Error, UsageError
from mm1cli.output.citation_context import Sources, around
from mm1cli.output.file import OutputFile
from mm1cli.output.text import Channel, Style, safe, safe_line, wrap
from mm1cli.result import Answer
from mm1cli.session import exit_code, message
from mm1cli.sink import CloseEvent, Event, ProgressEvent, Sink, ThinkingEvent, TokenEvent

PROMPT = "> "
HELP = (
    ("/sources", "the sources of the last answer"),
    ("/open N", "source N in its surroundings"),
    ("/save FILE", "write all answers so far: .md, .docx, .html, .txt, .json, .jsonl or .csv"),
    ("/model NAME", "go on with another model; it reads the documents anew"),
    ("/forget", "begin anew: questions no longer follow from those before"),
    ("/help", "this list"),
    ("/quit", "end, as Ctrl-D does"),
)


class Recorder(Sink):
    """Hands on what it is told, and keeps what /save writes."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        if not isinstance(event, ProgressEvent | ThinkingEvent | TokenEvent | CloseEvent):
            self.events.append(event)
        self._sink.emit(event)


class Repl:
    def __init__(
        self,
        partner: Partner,
        reopen: Callable[[str], Partner],
        sink: Recorder,
        stdin: TextIO,
        screen: Channel,
    ) -> None:
        """`reopen` is the partner with another model; `screen` is where commands answer."""
        self._partner, self._reopen = partner, reopen
        self._sink, self._stdin, self._screen = sink, stdin, screen
        self._last: Answer | None = None
        self._count = 0
        self._commands: dict[str, Callable[[str], None]] = {
            "/sources": self._show_sources,
            "/open": self._open,
            "/save": self._save,
            "/model": self._change_model,
            "/forget": self._forget,
            "/help": self._help,
        }

    def run(self) -> None:
        """Until the input ends or says /quit. What goes wrong with a line is said, and the next
        one is read; Terminated goes through."""
        if self._stdin.isatty():
            self._say("/help lists commands, /quit or Ctrl-D ends", Style.DIM)
        for line in self._lines():
            if not (text := line.strip()):
                continue
            if text in {"/quit", "/exit", "/q"}:
                return
            try:
                self._do(text)
            except (Mm1Error, EngineError) as error:
                code = exit_code(error)
                self._sink.error(message(error, code), code)
            except KeyboardInterrupt:
                interrupts.begin_again()
                self._sink.note("stopped; what was said before stays")

    def _lines(self) -> Iterator[str]:
        if not self._stdin.isatty():
            yield from self._stdin
            return
        with suppress(ImportError):
            import readline  # noqa: F401 - editing and history for input()
        while True:
            try:
                yield input(PROMPT)
            except EOFError:
                self._screen.write("\n")
                return
            except KeyboardInterrupt:
                interrupts.begin_again()
                self._screen.write("\n")

    def _do(self, text: str) -> None:
        if not text.startswith("/"):
            self._ask(text)
            return
        name, _, rest = text.partition(" ")
        if (command := self._commands.get(name)) is None:
            raise UsageError(f"{name}: no such command; /help lists them")
        command(rest.strip())

    def _ask(self, text: str) -> None:
        self._sink.question(text, self._count, 1)
        self._last = self._partner.ask(text)
        self._count += 1
        self._screen.write("\n")

    def _answered(self) -> Answer:
        if self._last is None:
            raise UsageError("nothing was answered yet; ask a question first")
        return self._last

    def _show_sources(self, _: str) -> None:
        for one in self._answered().citations:
            self._screen.write(f"[{one.number}] ", Style.MARK)
            self._screen.write(f"{safe_line(one.path)}, {safe_line(str(one.locator))}\n")

    def _open(self, text: str) -> None:
        answer = self._answered()
        found = [one for one in answer.citations if str(one.number) == text.strip("[]")]
        if not found:
            raise UsageError(f"/open {text}: the last answer has {len(answer.citations)} sources")
        corpus = self._partner.corpus
        spot = Sources(corpus, [0] * len(corpus.documents)).find(found[0])
        if spot is None:
            raise UsageError(f"/open {text}: the text around it is not at hand")
        beside = around(spot)
        self._screen.write(f"{safe_line(found[0].path)}, {safe_line(str(found[0].locator))}\n\n")
        for part, style in (
            (beside.before, Style.DIM),
            (beside.quote, Style.BOLD),
            (beside.after, Style.DIM),
        ):
            for line in wrap(safe(part.strip("\n")), self._screen.columns) if part.strip() else ():
                self._screen.write(f"{line}\n", style)

    def _save(self, text: str) -> None:
        if not text:
            raise UsageError("/save needs a name: /save answers.docx")
        file = OutputFile(
            Path(text), made=datetime.now().astimezone(), version=version(), flag="/save"
        )
        for event in self._sink.events:
            file.emit(event)
        if not file.has_answers:
            raise UsageError("nothing was answered yet; ask a question first")
        file.write()
        self._say(f"written: {text}", Style.DIM)

    def _change_model(self, name: str) -> None:
        if not name:
            raise UsageError("/model needs a name: mm1 models list has them")
        self._partner = self._reopen(name)

    def _forget(self, _: str) -> None:
        self._partner.forget()
        self._say("the next question stands alone", Style.DIM)

    def _help(self, _: str) -> None:
        width = max(len(name) for name, _ in HELP) + 2
        for name, words in HELP:
            self._screen.write(f"{name:<{width}}")
            lines = wrap(words, max(self._screen.columns - width, 20))
            self._screen.write(f"{lines[0]}\n" + "".join(f"{' ' * width}{x}\n" for x in lines[1:]))

    def _say(self, text: str, style: Style) -> None:
        for line in wrap(safe_line(text), self._screen.columns):
            self._screen.write(f"{line}\n", style)
