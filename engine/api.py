"""The one door to this room: what an engine is (`engine.protocols`), and how to get one.

Importing this imports no torch, no numpy and no tokenizers; each function fetches what it needs.
Files of models (convert, quantize, prove, plan) are behind `engine.model_files`.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.chat_markers import Markers, thinking_markers, thinks, tool_call_markers
from engine.cores import usable_cores
from engine.errors import (
    CheckpointError,
    ConfigError,
    EngineError,
    GgufError,
    GrammarError,
    KeyRefusedError,
    PlacementError,
    RoomError,
    ServerError,
    StoreError,
    TokenizerError,
    TooLongError,
)
from engine.protocols import (
    FAST,
    BuildResult,
    Capabilities,
    Constraint,
    Context,
    ContextPlan,
    Decoding,
    Engine,
    Grammar,
    IoStats,
    Judged,
    Numbers,
    OnProgress,
    Piece,
    Quotes,
    RetrievalHead,
    SavedContext,
    SelectedBlock,
    StopReason,
    SuffixArray,
    Tokenizer,
    TokenScores,
    Turn,
)
from engine.remote.dialect import UNKNOWN_CONTEXT, Kind, Level, ServerInfo
from engine.selection import MOST_TOKENS, Selection

if TYPE_CHECKING:
    from engine.model_source import ModelSource as ModelSource

__all__ = [
    "FAST",
    "MOST_TOKENS",
    "UNKNOWN_CONTEXT",
    "BuildResult",
    "Capabilities",
    "CheckpointError",
    "ConfigError",
    "Constraint",
    "Context",
    "ContextPlan",
    "Decoding",
    "Engine",
    "EngineError",
    "GgufError",
    "Grammar",
    "GrammarError",
    "IoStats",
    "Judged",
    "KeyRefusedError",
    "Kind",
    "Level",
    "Markers",
    "Numbers",
    "OnProgress",
    "Piece",
    "PlacementError",
    "Quotes",
    "RetrievalHead",
    "RoomError",
    "SavedContext",
    "SelectedBlock",
    "Selection",
    "ServerError",
    "ServerInfo",
    "StopReason",
    "StoreError",
    "SuffixArray",
    "TokenScores",
    "Tokenizer",
    "TokenizerError",
    "TooLongError",
    "Turn",
    "check_schema",
    "export_context",
    "fingerprint",
    "import_context",
    "max_positions",
    "num_parameters",
    "open_engine",
    "open_model",
    "open_server",
    "open_tokenizer",
    "probe_server",
    "quotation_spans",
    "quotations",
    "saved_attachment",
    "saved_context",
    "suffix_array",
    "thinking_markers",
    "thinks",
    "tokens_differ",
    "tool_call_markers",
    "unfinished_quotation",
    "usable_cores",
    "verify_context",
    "why_foreign",
]


def open_model(path: Path) -> "ModelSource":
    """The model in the folder or GGUF file `path`, to be handed to whoever asks for a part of it:
    what was parsed of it is not parsed again."""
    from engine.model_source import ModelSource

    return ModelSource(path)


def open_engine(
    model: "Path | ModelSource",
    *,
    device: str = "cpu",
    chunk_tokens: int = 1024,
    threads: int | None = None,
    kv: str | None = None,
    selection: Selection | None = None,
    fast: bool = False,
    num_tokens: int = 0,
    is_mapped: bool = False,
    spill_folder: Path | None = None,
    code_folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Engine:
    """Of `model`; see `engine.engine.Engine`. Raises EngineError."""
    from engine.engine import Engine as LocalEngine

    return LocalEngine(
        model,
        device=device,
        chunk_tokens=chunk_tokens,
        threads=threads,
        kv=kv,
        selection=selection,
        fast=fast,
        num_tokens=num_tokens,
        is_mapped=is_mapped,
        spill_folder=spill_folder,
        code_folder=code_folder,
        on_progress=on_progress,
    )


def probe_server(
    url: str, key: str | None = None, *, kind: Kind | None = None, model: str | None = None
) -> ServerInfo:
    """What is at `url`; see `engine.remote.probe`. Raises ServerError."""
    from engine.remote.client import Client
    from engine.remote.probe import probe

    client = Client(url, key)
    try:
        return probe(client, kind, model)
    finally:
        client.close()


def open_server(
    url: str,
    info: ServerInfo,
    model: Path | None,
    key: str | None = None,
    *,
    texts: Sequence[str] = (),
) -> tuple[Engine, ServerInfo, str]:
    """The engine that `info` tells of, what of it holds, and why not more, "" for no reason.

    `model`, a folder or GGUF file, has the tokenizer that the server's model has; it is compared
    with the server's over `texts`. Without one, or with another, the server gets text alone.
    """
    from engine.remote.opening import open_server as connect

    return connect(url, info, model, key, texts)


def tokens_differ(engine: Engine, texts: Sequence[str]) -> str:
    """Where the server behind `engine` makes other tokens of `texts`, in words; "" for nowhere."""
    from engine.remote.engine import RemoteEngine

    return engine.differing(texts) if isinstance(engine, RemoteEngine) else ""


def open_tokenizer(model: Path) -> Tokenizer:
    """Of the model in the folder or GGUF file `model`; no weights are read. Raises EngineError."""
    return open_model(model).tokenizer


def max_positions(model: Path) -> int:
    """The number of positions `model` was trained for; its weights are not read."""
    return open_model(model).config.max_positions


def fingerprint(model: "Path | ModelSource") -> str:
    """`Engine.fingerprint` of `model`; its weights are not read. Raises EngineError."""
    from engine.engine import fingerprint as of

    return of(model)


def num_parameters(model: "Path | ModelSource") -> int:
    """Of `model`, all experts counted; its weights are not read. Raises EngineError."""
    from engine.engine import num_parameters as count

    return count(model)


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises GrammarError for a schema that cannot be followed; needs no model."""
    from engine.constraints.grammar import check

    check(schema)


def suffix_array(texts: Sequence[str], saved: bytes | None = None) -> SuffixArray:
    """Of texts without line breaks. `saved` is what `dump` gave for them; what does not fit, or is
    damaged, is built anew."""
    from engine.constraints.suffix_array import SuffixArray

    if saved is not None:
        with suppress(StoreError):  # it holds nothing that the texts do not give
            return SuffixArray.load(saved, texts)
    return SuffixArray.build(texts)


def quotations(text: str) -> list[str]:
    """What `text` has between quotation marks, code included, without the space around it."""
    from engine.constraints.quote_scanner import quotations as found

    return found(text)


def quotation_spans(text: str) -> list[tuple[int, int]]:
    """Where quotations stand in `text`, marks included; also those of nothing."""
    from engine.constraints.quote_scanner import spans

    return spans(text)


def unfinished_quotation(text: str) -> str:
    """What `text` has behind a mark that opened its last quotation, if nothing closed it."""
    from engine.constraints.quote_scanner import unfinished

    return unfinished(text)


def saved_context(folder: Path) -> SavedContext:
    """Reads the manifest only. Raises StoreError if there is no finished context in `folder`."""
    from engine.store.manifest import OpenedContext

    opened = OpenedContext.read(folder)
    manifest = opened.manifest
    compatibility = manifest.compatibility
    return SavedContext(
        folder,
        manifest.num_tokens,
        compatibility.fingerprint,
        compatibility.chunk_tokens,
        compatibility.kv,
        compatibility.selection,
        lambda: list(map(int, opened.token_ids)),
        opened.attachment,
    )


def saved_attachment(folder: Path, name: str) -> bytes:
    """A file that was saved with the context in `folder`. Raises StoreError."""
    from engine.store.manifest import OpenedContext

    return OpenedContext.read(folder).attachment(name)


def why_foreign(folder: Path) -> str:
    """See `engine.store.owned.why_foreign`."""
    from engine.store.owned import why_foreign as ask

    return ask(folder)


def export_context(source: Path, target: Path) -> int:
    """See `engine.store.transfer.export_context`."""
    from engine.store.transfer import export_context as export

    return export(source, target)


def import_context(source: Path, target: Path) -> int:
    """See `engine.store.transfer.import_context`."""
    from engine.store.transfer import import_context as take_in

    return take_in(source, target)


def verify_context(folder: Path) -> int:
    """See `engine.store.store.verify`."""
    from engine.store.store import verify

    return verify(folder)
