"""Templates: what to ask of documents and what shape the answer has, as files people can change.

A template is a Markdown file. Its head, in TOML between two lines of `+++`, has `description` and,
where it is more than a question, `kind`, `schema`, `columns` or `limit`; its body is the question,
with `{{ask}}` where the words of `--ask` go. A file of the user's in the folder `templates` beside
config.toml takes the place of the one that comes with the program.
"""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from mm1cli.errors import UsageError
from mm1cli.settings import is_inside

BUILT_IN = "built in"
SLOT = "{{ask}}"
KINDS = ("answer", "table", "summary", "timeline", "contradictions")
_FENCE = "+++"
_SUFFIX = ".md"
_MAX_BYTES = 256 * 1024
_KEYS = ("description", "kind", "schema", "columns", "limit")


@dataclass(frozen=True, slots=True)
class Template:
    """`columns` are names and the question asked of each document; `limit` is a number of rows."""

    name: str
    origin: str  # BUILT_IN, or the file's path
    content: str  # of the file, as `mm1 templates show` prints it
    question: str
    description: str = ""
    kind: str = "answer"
    schema: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    limit: int = 20

    @property
    def is_searched(self) -> bool:
        """The program finds the sentences that the model is shown, however much would fit."""
        return self.kind in {"timeline", "contradictions"}

    def questions(self, asks: Sequence[str]) -> list[str]:
        """What to ask, once for each of `asks`. Raises UsageError if one is needed and missing."""
        if SLOT in self.question and not asks and self.kind == "answer":
            raise UsageError(f'--template {self.name} asks about something: add --ask "..."')
        return [self.question.replace(SLOT, ask).strip() for ask in asks or [""]]

    def aspects(self, asks: Sequence[str]) -> dict[str, str]:
        """The columns of a table, and the question of each: those of `asks`, else its own."""
        if not asks or self.kind == "summary":
            return dict(self.columns)
        return {" ".join(ask.split()): self.question.replace(SLOT, ask) for ask in asks}


def folder() -> Path:
    """Where a user's own templates are looked for."""
    import platformdirs

    return Path(platformdirs.user_config_dir("mm1")) / "templates"


def listed() -> list[Template]:
    """Every template by name; a user's own in place of a built-in one. Raises UsageError."""
    built_in = files("mm1cli.prompts") / "templates"
    found = {
        name: _parse(name, BUILT_IN, (built_in / f"{name}{_SUFFIX}").read_text(encoding="utf-8"))
        for name in (
            entry.name.removesuffix(_SUFFIX)
            for entry in built_in.iterdir()
            if entry.name.endswith(_SUFFIX)
        )
    }
    for path in sorted(folder().glob(f"*{_SUFFIX}")):
        found[path.stem] = _read(path)
    return [found[name] for name in sorted(found)]


def load(name: str) -> Template:
    """A template by its name or, with a slash or .md in it, by its path. Raises UsageError."""
    if "/" in name or name.endswith(_SUFFIX):
        return _contained(_read(Path(name)), Path(name).parent)
    own = folder() / f"{name}{_SUFFIX}"
    if own.exists():
        return _read(own)
    built_in = files("mm1cli.prompts") / "templates" / f"{name}{_SUFFIX}"
    if built_in.is_file():
        return _parse(name, BUILT_IN, built_in.read_text(encoding="utf-8"))
    names = [template.name for template in listed()]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    raise UsageError(f"--template {name!r}: no such template; {hint}")


def _contained(template: Template, folder: Path) -> Template:
    """`template`, whose file came with a folder of somebody's: it names no file outside of that."""
    if template.schema is not None and not is_inside(folder / template.schema, folder):
        raise UsageError(
            f"template {template.origin}: its schema leads out of {folder}; give it as --schema"
        )
    return template


def _read(path: Path) -> Template:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UsageError(f"template {path}: over {_MAX_BYTES:,} bytes")
        return _parse(path.stem, str(path), content.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"template {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"template {path}: is not UTF-8 text") from None


def _parse(name: str, origin: str, content: str) -> Template:
    where = f"template {name if origin == BUILT_IN else origin}"
    head, question = _split(content, where)
    for key in head:
        if key not in _KEYS:
            raise UsageError(f"{where}: no such key: {key!r}; there are {', '.join(_KEYS)}")
    columns, limit, kind = head.get("columns", {}), head.get("limit", 20), head.get("kind")
    texts = [head.get("description", ""), head.get("schema", "")]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{where}: description and schema are texts")
    if kind not in {None, *KINDS}:
        raise UsageError(f"{where}: kind is one of {', '.join(KINDS)}, not {kind!r}")
    is_of_texts = isinstance(columns, dict) and all(isinstance(v, str) for v in columns.values())
    if not is_of_texts or not (columns or kind not in {"table", "summary"}):
        raise UsageError(f"{where}: columns has a question for each name")
    if type(limit) is not int or not 1 <= limit <= 1000:
        raise UsageError(f"{where}: limit is a whole number from 1 to 1,000")
    if not question:
        raise UsageError(f"{where}: no question below the head")
    return Template(
        name,
        origin,
        content,
        question,
        description=head.get("description", ""),
        kind=kind or "answer",
        schema=head.get("schema"),
        columns=columns,
        limit=limit,
    )


def _split(content: str, where: str) -> tuple[dict[str, Any], str]:
    if not content.startswith(f"{_FENCE}\n"):
        return {}, content.strip()
    head, fence, body = content.removeprefix(f"{_FENCE}\n").partition(f"\n{_FENCE}\n")
    if not fence:
        raise UsageError(f"{where}: the head does not end; a line of {_FENCE} belongs there")
    try:
        return tomllib.loads(head), body.strip()
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where}: the head is not TOML: {' '.join(str(error).split())}") from None
