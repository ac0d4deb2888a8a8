"""What every command shares: settings, a sink, and one line and a code for what goes wrong."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.api import (
    EngineError,
    GrammarError,
    KeyRefusedError,
    PlacementError,
    RoomError,
    StoreError,
    TooLongError,
)
from mm1cli import interrupts, streams
from mm1cli.about import version
from mm1cli.answer_log import AnswerLog
from mm1cli.errors import ExitCode, Mm1Error, UsageError
from mm1cli.output import Format, make_sink, write_error
from mm1cli.output.log_sink import LogSink
from mm1cli.output.outliving import Outliving
from mm1cli.output.tee import Tee
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import safe_line
from mm1cli.settings import NAMES, PROJECT_FILE, Settings, load
from mm1cli.sink import Sink
from mm1cli.trust import PROJECT_NAME, was_trusted

if TYPE_CHECKING:
    from mm1cli.output.file import OutputFile

DEBUG = "MM1_DEBUG"
GOES_ON = "the same command goes on from what was saved"
_ENGINE_CODES = (  # the first that fits
    (PlacementError, ExitCode.BUDGET),
    (RoomError, ExitCode.BUDGET),
    (TooLongError, ExitCode.BUDGET),
    (KeyRefusedError, ExitCode.USAGE),
    (GrammarError, ExitCode.USAGE),
    (StoreError, ExitCode.INPUT),
    (EngineError, ExitCode.MODEL),
)


@contextmanager
def command_scope(
    flags: Mapping[str, object | None],
    *,
    as_json: bool = False,
    output_format: str | None = None,
    output: Sequence[Path] = (),
    report: Path | None = None,
    json_errors: bool = False,
    reads_settings: bool = True,
    stdout_is_taken: bool = False,
    saved: str = GOES_ON,
    formats: Sequence[Format] = ("text", "json", "jsonl"),
) -> Iterator[tuple[Settings, Sink]]:
    """Yields the settings and the sink of one command, and exits with the code its end calls for.

    Errors of ours are one line on the sink. Anything else is a bug and says how to see more.
    `output` and `report` are where files about the answers go; one that cannot is found out first.
    With `json_errors` the command writes its own JSON to stdout, and an error is an object there,
    too. `saved` is what an interrupted command says of its work. Without `reads_settings` those of
    files are not looked at: they may be what is to be mended. Where `stdout_is_taken` by a
    protocol, all is told on stderr.
    """
    sink = make_sink("json" if as_json else "text", False)
    files: list[OutputFile] = []
    outliving: Outliving | None = None
    code = ExitCode.OK
    failure: BaseException | None = None
    try:
        try:
            interrupts.begin()
            format = _format(as_json, output_format, formats)
            sink = make_sink(format, bool(flags.get("quiet")), bool(flags.get("answer_only")))
            settings = load(flags, os.environ, Path.cwd()) if reads_settings else Settings()
            if settings.no_cache and "max_cache" in flags:  # the commands that keep contexts
                saved = "nothing was saved, as --no-cache asks"
            sink = make_sink(format, settings.quiet, settings.answer_only)
            if stdout_is_taken:
                sink = Terminal.on_stderr(quiet=settings.quiet)
            if settings.ignored:
                sink.note(_ignored(settings))
            files = _files(output, report, settings, is_review="sarif" in formats)
            if files:
                outliving = Outliving(sink)
                sink = Tee(*files, outliving)
            if "no_log" in flags and not settings.no_log:  # the commands that answer
                sink = Tee(sink, LogSink(AnswerLog(), sink))
            yield settings, sink
            interrupts.close()
        except (Exception, KeyboardInterrupt, interrupts.Terminated) as error:
            interrupts.close()
            failure = error
        if (stopped := interrupts.reason(failure)) is not None:
            code, how = stopped
            with interrupts.telling():
                sink.error(_stopped(how, failure, saved), code)
        elif isinstance(failure, Exception):
            code = exit_code(failure)
            if code in {ExitCode.BROKEN_PIPE, ExitCode.OUTPUT} or (
                code is ExitCode.INTERNAL
                and DEBUG in os.environ
                and not isinstance(failure, Mm1Error)
            ):
                raise failure
            sink.error(message(failure, code), code)
            if json_errors and not getattr(failure, "is_on_stdout", False):
                write_error(message(failure, code), code)
        for file in files:
            if file.has_answers:
                code = _write(file, sink, code)
        sink.close()
        if outliving is not None and outliving.failure is not None:
            raise outliving.failure
        sys.stdout.flush()
    except BrokenPipeError:
        streams.drop_stdout()
        code = ExitCode.BROKEN_PIPE
    except OSError as error:
        if error.errno not in streams.NO_ROOM:
            raise
        streams.drop_stdout()
        code = ExitCode.OUTPUT
        with suppress(OSError):
            sys.stderr.write(f"error: {message(error, code)}\n")
    if code is not ExitCode.OK:
        sys.exit(code)


def _ignored(settings: Settings) -> str:
    names = ", ".join(settings.ignored)
    why = "has changed since" if was_trusted(Path(PROJECT_NAME)) else "is not trusted"
    return f"{PROJECT_FILE} {why}, so {names} in it do not hold; `mm1 config trust .` lets them"


def _stopped(how: str, error: BaseException | None, saved: str) -> str:
    """What to do next; whoever it went through may have noted what is kept."""
    kept = [str(note) for note in getattr(error, "__notes__", ())]
    if saved == GOES_ON and not kept and not interrupts.is_something_saved():
        saved = "nothing was saved yet"
    return "; ".join([how, *kept, saved])


def _files(
    output: Sequence[Path], report: Path | None, settings: Settings, *, is_review: bool
) -> list["OutputFile"]:
    """Raises UsageError for one that cannot be written."""
    if not output and report is None:
        return []
    from mm1cli.output.file import ANSWERS, REVIEWS, OutputFile
    from mm1cli.output.page import Option

    options = [
        Option(name, str(value), settings.origin(name))
        for name in NAMES
        if (value := getattr(settings, name)) is not None
    ]
    about: Any = {"made": datetime.now().astimezone(), "version": version(), "options": options}
    endings = REVIEWS if is_review else ANSWERS
    files = [OutputFile(path, endings=endings, **about) for path in output]
    if report is not None:
        files.append(OutputFile(report, endings=(".html",), flag="--report", **about))
    return files


def _write(file: "OutputFile", sink: Sink, code: ExitCode) -> ExitCode:
    """Writes the file, says where, and returns the code to exit with."""
    try:
        file.write()
    except Exception as error:  # the answers are not lost with it
        failed = exit_code(error)
        sink.error(message(error, failed), failed)
        return code or failed
    sink.note(f"written: {file.path}")
    return code


def _format(as_json: bool, name: str | None, formats: Sequence[Format]) -> Format:
    if as_json and name not in {None, "json"}:
        raise UsageError(f"--json and --format {name} are two formats; choose one")
    if as_json:
        return "json"
    for format in formats:
        if name in {None, format}:
            return format
    *names, last = formats
    raise UsageError(f"--format is {', '.join(names)} or {last}, not {name!r}")


def exit_code(error: Exception) -> ExitCode:
    if isinstance(error, Mm1Error):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        return ExitCode.BROKEN_PIPE
    if streams.is_lack_of_memory(error):
        return ExitCode.BUDGET
    if isinstance(error, OSError) and streams.is_stream_lost(error):
        return ExitCode.OUTPUT
    if isinstance(error, OSError):
        return ExitCode.INPUT
    for kind, code in _ENGINE_CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.INTERNAL


def message(error: Exception, code: ExitCode) -> str:
    if code is ExitCode.INTERNAL and not isinstance(error, Mm1Error):
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return f"internal error ({text}); set {DEBUG}=1 to see where, and report it"
    if streams.is_lack_of_memory(error):
        return streams.no_memory_message()
    if code is ExitCode.OUTPUT:
        return f"standard output: {getattr(error, 'strerror', error)}; nothing more was written"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{safe_line(os.fsdecode(error.filename))}: {error.strerror}"
    return str(error)
