"""Settings: flag > environment MM1_* > ./mm1.toml > the user's config.toml > default.

A mm1.toml that the user does not trust (`mm1cli.trust`) sets only what is `HARMLESS`.

`Settings` is the one table: each field carries its default and what it allows, and reading,
parsing and checking are derived from it. Every value knows where it came from.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mm1cli import trust
from mm1cli.errors import UsageError

if TYPE_CHECKING:
    from engine.api import ServerInfo

T = TypeVar("T")

DEFAULT = "default"
PROJECT_FILE = "./mm1.toml"
_SWITCH_WORDS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A value and where it came from: "--seed", "MM1_SEED", "./mm1.toml", a path or "default"."""

    value: T
    origin: str


@dataclass(frozen=True, slots=True)
class _Allowed:
    """What one setting takes. `words` is how a message says it."""

    kind: type[str] | type[int] | type[float] | type[bool]
    words: str
    low: float = -math.inf
    high: float = math.inf
    low_is_allowed: bool = True
    choices: tuple[str, ...] = ()
    pattern: str = ""  # what a text must match; a whole number may stand for its digits

    def parse(self, text: str) -> object:
        """The value that `text` spells, not yet checked; ValueError when it spells none."""
        if self.kind is bool:
            try:
                return _SWITCH_WORDS[text.strip().lower()]
            except KeyError:
                raise ValueError(text) from None
        return self.kind(text)

    def check(self, value: object) -> object:
        """`value` as this kind, or ValueError. A TOML `1` is a number, but `true` is not."""
        if self.kind is float and type(value) is int:
            value = float(value)
        if self.pattern and type(value) is int:
            value = str(value)
        if type(value) is not self.kind:
            raise ValueError(value)
        if isinstance(value, str):
            if not value.strip() or (self.choices and value not in self.choices):
                raise ValueError(value)
            if self.pattern and not re.fullmatch(self.pattern, value):
                raise ValueError(value)
        elif isinstance(value, int | float):
            above = value >= self.low if self.low_is_allowed else value > self.low
            if not (above and value <= self.high):  # so NaN is refused too
                raise ValueError(value)
        return value


def _setting(default: object, allowed: _Allowed) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(default=default, metadata={"allowed": allowed})


def _text(default: str | None) -> Any:  # noqa: ANN401
    return _setting(default, _Allowed(str, "text that is not empty"))


def _switch() -> Any:  # noqa: ANN401
    return _setting(False, _Allowed(bool, "true or false"))


def _choice(default: str, *others: str) -> Any:  # noqa: ANN401
    words = f"one of {', '.join((default, *others))}"
    return _setting(default, _Allowed(str, words, choices=(default, *others)))


def _whole(default: int | None, low: int, high: int) -> Any:  # noqa: ANN401
    words = f"a whole number from {low:,} to {high:,}"
    return _setting(default, _Allowed(int, words, low, high))


@dataclass(frozen=True, slots=True)
class Settings:
    """The plain values; `origin` tells where each came from. `Settings()` is all defaults."""

    # A name, a path, or "auto"; see mm1cli/models/default.py.
    model: str = _text("auto")
    # A folder of models beside those of other programs; see mm1cli/models/stores.py.
    models_dir: str | None = _text(None)
    # A server of models to ask, what it is, whose tokenizer its model has, and a file with the key.
    server: str | None = _text(None)
    server_kind: str = _choice("auto", "llama", "vllm", "sglang", "openai")
    tokenizer: str | None = _text(None)
    api_key_file: str | None = _text(None)
    device: str = _text("cpu")
    chunk_tokens: int = _whole(1024, 1, 65_536)
    # What keys and values are kept in; None is the dtype the model computes in.
    kv: str | None = _setting(None, _Allowed(str, "float32 or int8", choices=("float32", "int8")))
    # Whether what is multiplied with a GGUF file's blocks is rounded to eight bits.
    fast: bool = _switch()
    # A cap on the context; None is what the model was trained on.
    context_tokens: int | None = _whole(None, 1, 2**31 - 1)
    max_tokens: int = _whole(256, 1, 2**31 - 1)
    temperature: float = _setting(0.0, _Allowed(float, "a number from 0 to 100", 0, 100))
    top_p: float = _setting(
        0.95, _Allowed(float, "a number above 0 and up to 1", 0, 1, low_is_allowed=False)
    )
    # A JSON Schema the answer follows: a file or the short form; see answering/json_schema.py.
    schema: str | None = _text(None)
    # What becomes of what a model generates between <think> and </think>, and how long it may be.
    think: str = _choice("hide", "show", "only")
    max_thinking: int = _whole(4096, 0, 2**31 - 1)
    seed: int = _whole(0, 0, 2**63 - 1)
    threads: int | None = _whole(None, 1, 1024)
    # What happens to documents that do not fit; see mm1cli/ingest/budget_policy.py.
    fit: str = _choice("focus", "select", "fail", "drop-largest", "head")
    # Passages repeated beside the question; see mm1cli/answering/prompt.py.
    focus: str = _setting(
        "auto",
        _Allowed(
            str,
            "off, auto or a whole number from 1 to 64",
            pattern="off|auto|[1-9]|[1-5][0-9]|6[0-4]",
        ),
    )
    # A model that reads what does not fit, for what questions attend to; see answering/finder.py.
    finder: str | None = _text(None)
    # What orders passages; see mm1cli/retrieval/retriever.py.
    search: str = _choice("both", "bm25", "model")
    # What reading passages for one question may take on a CPU; see answering/read_budget.py.
    read_seconds: float = _setting(
        20.0, _Allowed(float, "seconds, above 0", 0, 10**6, low_is_allowed=False)
    )
    allow_secrets: bool = _switch()
    ocr: bool = _switch()
    convert: bool = _switch()
    # Where extracted text is kept; None is the user's own cache folder.
    cache_dir: str | None = _text(None)
    no_cache: bool = _switch()
    # What contexts that are kept may take together, in GB.
    max_cache: float = _setting(20.0, _Allowed(float, "GB, 0 or more", 0, 10**6))
    # The model's own words also where the evidence says that nothing was found.
    always_answer: bool = _switch()
    # The model's sentence leads, whatever was measured of it; see mm1cli/answering/form.py.
    write: bool = _switch()
    strict: bool = _switch()
    strict_citations: bool = _switch()
    quiet: bool = _switch()
    # The words of an answer alone on stdout; see mm1cli/output/terminal.py.
    answer_only: bool = _switch()
    # Answers are not kept in the log; see mm1cli/answer_log.py.
    no_log: bool = _switch()
    # Nothing is fetched: no model, no page, no repository.
    offline: bool = _switch()
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    # What the project file says and may not, as it is not trusted.
    ignored: tuple[str, ...] = field(default=(), repr=False, compare=False)
    # What is at `server`, once it was asked.
    served: "ServerInfo | None" = field(default=None, repr=False, compare=False)

    def origin(self, name: str) -> str:
        """Where the value of `name` came from; KeyError for a name that is no setting."""
        if name not in _ALLOWED:
            raise KeyError(name)
        return self.origins.get(name, DEFAULT)


def replace_unset(settings: Settings, **values: object) -> Settings:
    """`settings` with `values` where the user has set nothing."""
    unset = {name: value for name, value in values.items() if settings.origin(name) == DEFAULT}
    changes: dict[str, Any] = unset
    return replace(settings, **changes)


_ALLOWED: dict[str, _Allowed] = {
    entry.name: entry.metadata["allowed"] for entry in fields(Settings) if entry.metadata
}
NAMES: tuple[str, ...] = tuple(_ALLOWED)
# What a folder may say of itself: the form of answers, and checks that are stricter. It chooses no
# model, writes nowhere, starts nothing, lets no secret through, and silences nothing.
HARMLESS = frozenset(
    {
        "fit",
        "focus",
        "max_thinking",
        "max_tokens",
        "no_cache",
        "search",
        "seed",
        "strict",
        "strict_citations",
        "temperature",
        "think",
        "top_p",
    }
)


def flags_of(parameters: Mapping[str, object]) -> dict[str, object]:
    """The flags among a command's parameters (its `locals()`): what is a setting by its name."""
    return {name: parameters[name] for name in NAMES if name in parameters}


def load(
    flags: Mapping[str, object | None],
    environ: Mapping[str, str],
    cwd: Path,
    config_dir: Path | None = None,
) -> Settings:
    """Settle every setting once.

    `flags` is by setting name; None means the flag was not given. An environment variable that is
    empty counts as unset. `config_dir` None is the user's own (XDG). Raises UsageError, one line
    that names the origin and what is allowed.
    """
    assert not set(flags) - set(NAMES), "a flag that is no setting"
    users = user_file(config_dir)
    # Lowest first: a later source replaces an earlier one.
    found: dict[str, Setting[object]] = {}
    found.update(_from_toml(_read(users, str(users)), str(users)))
    project, ignored = _from_project(cwd)
    found.update(project)
    found.update(_from_environ(environ))
    found.update(_from_flags(flags))
    values: dict[str, Any] = {name: setting.value for name, setting in found.items()}
    origins = {name: setting.origin for name, setting in found.items()}
    return Settings(**values, origins=origins, ignored=ignored)


def _from_project(cwd: Path) -> tuple[dict[str, Setting[object]], tuple[str, ...]]:
    """What the folder's mm1.toml sets, and the names of what it may not."""
    path = cwd / trust.PROJECT_NAME
    content = _read(path, PROJECT_FILE)
    found = _from_toml(content, PROJECT_FILE)
    ignored = tuple(name for name in found if not _may_set(name, found[name].value, cwd))
    if not ignored or trust.is_trusted(path, content):
        return found, ()
    return {name: one for name, one in found.items() if name not in ignored}, ignored


def project_settings(folder: Path) -> dict[str, object]:
    """What the mm1.toml of `folder` says, whether it may or not. Raises UsageError."""
    origin = str(folder / trust.PROJECT_NAME)
    found = _from_toml(_read(folder / trust.PROJECT_NAME, origin), origin)
    return {name: setting.value for name, setting in found.items()}


def _may_set(name: str, value: object, cwd: Path) -> bool:
    if name == "schema":  # a short form spells a path in the folder, too
        return is_inside(cwd / str(value), cwd)
    return name in HARMLESS


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` leads into `folder`, links followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):
        return False


def user_file(config_dir: Path | None = None) -> Path:
    """The user's own config.toml, which need not be there."""
    if config_dir is None:
        import platformdirs

        config_dir = Path(platformdirs.user_config_dir("mm1"))
    return config_dir / "config.toml"


def parsed(name: str, text: str) -> object:
    """The value of `name` that `text` spells, not yet checked; `text` itself where it spells none,
    or `name` is no setting."""
    try:
        return _ALLOWED[name].parse(text)
    except (KeyError, ValueError):
        return text


def checked(name: str, value: object, origin: str) -> object:
    """`value` as `name` takes it. Raises UsageError, one line that names `origin`."""
    if name not in _ALLOWED:
        raise _no_setting(name, origin)
    return _checked(name, value, origin).value


def _no_setting(name: str, origin: str) -> UsageError:
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(NAMES)}"
    return UsageError(f"{origin}: no setting is called {_shown(name)}; {hint}")


def _from_flags(flags: Mapping[str, object | None]) -> dict[str, Setting[object]]:
    return {
        name: _checked(name, value, "--" + name.replace("_", "-"))
        for name, value in flags.items()
        if value is not None
    }


def _from_environ(environ: Mapping[str, str]) -> dict[str, Setting[object]]:
    found = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith("MM1_") or not text:
            continue
        name = variable.removeprefix("MM1_").lower()
        if name in _ALLOWED:
            allowed = _ALLOWED[name]
            try:
                found[name] = Setting(allowed.check(allowed.parse(text)), variable)
            except ValueError:
                raise _refusal(name, text, variable) from None
        # The prefix is not ours alone, so only what looks like a slip of the finger is refused.
        elif near := difflib.get_close_matches(name, NAMES, n=1, cutoff=0.85):
            raise UsageError(f"{variable}: no such setting; did you mean MM1_{near[0].upper()}?")
    return found


def _read(path: Path, origin: str) -> bytes:
    """b"" where there is no such file, which sets as much."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UsageError(f"{origin}: cannot be read ({error.strerror})") from None


def _from_toml(content: bytes, origin: str) -> dict[str, Setting[object]]:
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise UsageError(f"{origin}: is not UTF-8 text, so not TOML") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{origin}: is not valid TOML: {_one_line(str(error))}") from None
    for key in table:
        if key not in _ALLOWED:
            raise _no_setting(key, origin)
    return {name: _checked(name, value, origin) for name, value in table.items()}


def _checked(name: str, value: object, origin: str) -> Setting[object]:
    try:
        return Setting(_ALLOWED[name].check(value), origin)
    except ValueError:
        raise _refusal(name, value, origin) from None


def _refusal(name: str, value: object, origin: str) -> UsageError:
    allowed = _ALLOWED[name].words
    return UsageError(f"{origin}: {name} must be {allowed}, not {_shown(value)}")


def _shown(value: object) -> str:
    shown = str(value).lower() if isinstance(value, bool) else _one_line(ascii(value))
    return shown if len(shown) <= 60 else f"{shown[:60]}… ({len(shown) - 60:,} more characters)"


def _one_line(text: str) -> str:
    return " ".join(text.split())
