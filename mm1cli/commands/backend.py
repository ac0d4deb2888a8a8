"""Where the model runs: here, from its folder or file, or behind --server."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine import api
from engine.api import Engine, Kind, Level, Selection, ServerInfo, Tokenizer
from mm1cli.commands.opening import ensure_model, models_dir, open_engine
from mm1cli.errors import InputError, InputLeftOutError, ModelError, UsageError
from mm1cli.models import library
from mm1cli.models.default import AUTO
from mm1cli.settings import Settings
from mm1cli.sink import Sink

if TYPE_CHECKING:
    from engine.api import ModelSource

API_KEY = "MM1_API_KEY"
_MAX_KEY_BYTES = 4096


class Backend(Protocol):
    """A model that is found, and whose weights are not loaded yet."""

    @property
    def source(self) -> "ModelSource | None":
        """Its files; None where it does not run here."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def max_positions(self) -> int: ...

    @property
    def num_parameters(self) -> int:
        """0 where nobody tells."""

    def open_engine(
        self,
        settings: Settings,
        sink: Sink,
        num_tokens: int = 0,
        *,
        is_mapped: bool = False,
        selection: Selection | None = None,
    ) -> Engine:
        """See `engine.api.open_engine`."""

    def checked(self, texts: Sequence[str], settings: Settings, sink: Sink) -> "Backend":
        """This one, or another tokenizer's where the server counts the tokens of `texts`
        otherwise."""


@dataclass(frozen=True)
class LocalBackend:
    path: Path

    @cached_property
    def source(self) -> "ModelSource":
        return api.open_model(self.path)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.source.tokenizer

    @property
    def max_positions(self) -> int:
        return self.source.config.max_positions

    @cached_property
    def num_parameters(self) -> int:
        return api.num_parameters(self.source)

    def open_engine(
        self,
        settings: Settings,
        sink: Sink,
        num_tokens: int = 0,
        *,
        is_mapped: bool = False,
        selection: Selection | None = None,
    ) -> Engine:
        given = (self.source, settings, sink, num_tokens)
        return open_engine(*given, is_mapped=is_mapped, selection=selection)

    def checked(self, texts: Sequence[str], settings: Settings, sink: Sink) -> "LocalBackend":
        del texts, settings, sink
        return self


@dataclass(frozen=True)
class ServerBackend:
    """`url` and what is there; the engine is the connection."""

    url: str
    info: ServerInfo
    engine: Engine
    source: None = None

    @classmethod
    def connect(
        cls, settings: Settings, sink: Sink, info: ServerInfo, model: Path | None
    ) -> "ServerBackend":
        """Raises InputLeftOutError for --strict where tokens cannot be counted."""
        url = settings.server or ""
        engine, info, why = api.open_server(url, info, model, api_key(settings))
        if why:
            sink.note(
                f"the server gets the documents as text, which it cuts into tokens itself: {why}"
            )
        loses = info.loses or "all that mm1 promises holds there"
        sink.note(f"server: {described(info)}; level {info.level}: {loses}")
        if settings.strict and info.level is Level.C:
            raise InputLeftOutError(
                "--strict: over this server nobody knows that all was read, as it takes text and "
                "no tokens (level C); use llama-server, vLLM or SGLang, or name --tokenizer"
            )
        return cls(url, info, engine)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.tokenizer

    @property
    def max_positions(self) -> int:
        return self.engine.max_positions

    @property
    def num_parameters(self) -> int:
        return self.info.num_parameters

    def open_engine(
        self,
        settings: Settings,
        sink: Sink,
        num_tokens: int = 0,
        *,
        is_mapped: bool = False,
        selection: Selection | None = None,
    ) -> Engine:
        del settings, sink, num_tokens, is_mapped
        if selection is not None:
            raise UsageError("--fit select is for models that run here; leave out --server")
        return self.engine

    def checked(self, texts: Sequence[str], settings: Settings, sink: Sink) -> "ServerBackend":
        why = api.tokens_differ(self.engine, texts) if self.info.has_ids else ""
        if not why:
            return self
        sink.note(f"the server counts the documents' tokens otherwise ({why})")
        return self.connect(settings, sink, self.info, None)


def backend(settings: Settings, sink: Sink) -> Backend:
    """What `settings`, as `begin` gave them, name. Raises ServerError, ModelError."""
    if settings.server is None:
        return LocalBackend(ensure_model(settings, sink))
    info = settings.served or probed(settings)
    return ServerBackend.connect(settings, sink, info, tokenizer_of(info, settings))


def local_only(settings: Settings, what: str) -> None:
    """Raises UsageError where a server is named for what only a model that runs here can do."""
    if settings.server is not None:
        origin = settings.origin("server")
        raise UsageError(f"{what} is for models that run here; leave out {origin}")


def probed(settings: Settings) -> ServerInfo:
    """What is at `settings.server`. Raises ServerError; UsageError for --offline and another
    machine."""
    kind = None if settings.server_kind == AUTO else Kind(settings.server_kind)
    key = api_key(settings)
    info = api.probe_server(settings.server or "", key, kind=kind)
    if settings.model != AUTO and settings.model in info.models:
        info = api.probe_server(settings.server or "", key, kind=kind, model=settings.model)
    elif settings.model != AUTO and settings.origin("model") in {"--model", "-m"}:
        there = ", ".join(info.models[:5])
        raise ModelError(f"{info.host} does not serve {settings.model}; it has {there}")
    if settings.offline and not info.is_local:
        raise UsageError(
            f"{settings.origin('offline')} keeps documents on this machine, and {info.host} is "
            "another; leave one of them out"
        )
    return info


def described(info: ServerInfo) -> str:
    """As people call it: "llama b11549 at 127.0.0.1:8080, 8,192 tokens"."""
    name = f"{info.kind} {info.version}".strip()
    context = f"{info.max_context:,} tokens"
    if not info.max_context:
        context = f"context not told, {api.UNKNOWN_CONTEXT:,} tokens are taken"
    where = "" if info.is_local else "; documents leave this machine"
    return f"{name} at {info.host}, {context}{where}"


def api_key(settings: Settings) -> str | None:
    """From the environment, or the file of --api-key-file, and nowhere else."""
    if settings.api_key_file is None:
        return os.environ.get(API_KEY) or None
    file = Path(settings.api_key_file).expanduser()
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise InputError(f"--api-key-file {file}: {error.strerror}") from None
    return content.decode("ascii", "replace").strip().partition("\n")[0].strip()


def tokenizer_of(info: ServerInfo, settings: Settings) -> Path | None:
    """The model here whose tokenizer the server's has: the one named, the served file itself, one
    of its name."""
    if settings.tokenizer is not None:
        return library.resolve(settings.tokenizer, models_dir(settings))
    if info.is_local and info.model_path and Path(info.model_path).exists():
        return Path(info.model_path)
    for name in (info.model, info.model.removesuffix(":latest")):
        try:
            return library.resolve(name, models_dir(settings))
        except ModelError:
            continue
    return None
