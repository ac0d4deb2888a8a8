"""From --ask, --template and --schema to questions that are checked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mm1cli.answering import json_schema
from mm1cli.answering.json_schema import Schema
from mm1cli.answering.question import Question, check
from mm1cli.errors import UsageError
from mm1cli.ingest.display_names import shown_path
from mm1cli.ingest.remote import is_remote
from mm1cli.settings import Settings, replace_unset
from mm1cli.tables import templates
from mm1cli.tables.templates import Template


def with_question(words: Sequence[str], asks: Sequence[str]) -> tuple[list[str], list[str]]:
    """Paths and questions, where a question may stand behind the paths.

    The last of several words is one if it is no path and reads like one, so that a path with a
    slip in it is still missed as a path. Raises UsageError for two questions.
    """
    *paths, last = words or [""]
    if not _is_question(last):
        return list(words), list(asks)
    if paths and _is_question(paths[-1]):
        raise UsageError("several questions: write --ask before each of them")
    return paths, [*asks, last]


def _is_question(word: str) -> bool:
    is_like_one = any(char.isspace() for char in word) or word.endswith(("?", "？"))
    return bool(word.strip()) and is_like_one and not is_remote(word) and not Path(word).exists()


def without_question(paths: Sequence[str]) -> UsageError:
    """What to say where nothing was asked: perhaps the last path was to be a question."""
    if len(paths) > 1 and not Path(last := paths[-1]).exists() and not is_remote(last):
        return UsageError(
            f"{shown_path(last)}: no such file; if it is the question, --ask {shown_path(last)}"
        )
    return UsageError(
        'no question: mm1 analyze PATHS "What is it about?", or --ask for each of several; '
        "--dry-run shows what would be read"
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """`table` is the template whose answer is a table, filled for `asks`; `questions` are then the
    longest that the model will read."""

    asks: Sequence[str]
    questions: list[Question]
    schema: Schema | None
    table: Template | None = None

    @property
    def is_searched(self) -> bool:
        return self.table is not None and self.table.is_searched


def parse(asks: Sequence[str], template_name: str | None, settings: Settings) -> Asked:
    """Raises UsageError for what cannot be asked."""
    check(asks)
    if template_name is None:
        return _asked(asks, asks, settings)
    template = templates.load(template_name)
    if template.kind == "answer":
        texts = template.questions(asks)
        settings = replace_unset(settings, schema=template.schema)
        return _asked(asks, texts, settings, is_instruction=True)
    if settings.schema:
        raise UsageError(f"--template {template.name} makes a table; it goes without --schema")
    texts = [*template.aspects(asks).values(), *template.questions(asks)]
    return Asked(asks, [Question(text) for text in texts], None, template)


def _asked(
    asks: Sequence[str], texts: Sequence[str], settings: Settings, *, is_instruction: bool = False
) -> Asked:
    schema = json_schema.load(settings.schema) if settings.schema else None
    return Asked(asks, [Question(text, schema, is_instruction) for text in texts], schema)
