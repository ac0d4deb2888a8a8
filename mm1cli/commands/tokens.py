"""`mm1 tokens` and `mm1 analyze --dry-run`: the manifest alone, no model loaded."""

from collections.abc import Sequence

from mm1cli.commands.checks import (
    require_documents,
    require_everything_read,
    require_questions_with_text,
)
from mm1cli.commands.reading import Sources, read
from mm1cli.settings import Settings
from mm1cli.sink import RunInfo, Sink
from mm1cli.tables import templates


def run(
    command: str,
    sources: Sources,
    questions: Sequence[str],
    settings: Settings,
    sink: Sink,
    template_name: str | None = None,
) -> None:
    require_questions_with_text(questions)
    if template_name is not None:
        questions = templates.load(template_name).questions(questions)
    sink.init(RunInfo(command, settings.model))
    manifest = read(sources, questions, settings, sink).manifest
    sink.manifest(manifest, show=True)
    require_documents(manifest)
    if settings.strict:
        require_everything_read(manifest)
