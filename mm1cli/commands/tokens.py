"""`mm1 tokens` and `mm1 analyze --dry-run`: the manifest alone, no model loaded."""

from collections.abc import Sequence
from pathlib import Path

from mm1cli.commands.checks import require_documents, require_everything_read
from mm1cli.commands.opening import begin
from mm1cli.commands.questions import parse
from mm1cli.commands.read_text import write
from mm1cli.commands.reading import Sources, read
from mm1cli.settings import Settings
from mm1cli.sink import Sink


def run(
    command: str,
    sources: Sources,
    asks: Sequence[str],
    settings: Settings,
    sink: Sink,
    template_name: str | None = None,
    text: Path | None = None,
) -> None:
    """`text` is where the text goes that a model would get."""
    asked = parse(asks, template_name, settings)
    settings = begin(command, settings, sink)
    reading = read(sources, asked.questions, settings, sink, is_searched=asked.is_searched)
    manifest = reading.manifest
    sink.manifest(manifest, show=True)
    require_documents(manifest)
    if text is not None:
        write(reading, text, sink)
    if settings.strict:
        require_everything_read(manifest)
