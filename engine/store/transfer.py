"""A saved context on its way to others, or from them: the same numbers under another key.

What this user's mm1 saved carries hashes with the user's key. For others it gets hashes that
everybody can make; so whoever takes it in trusts who gave it, with every number and every text.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from engine import authentic, durable
from engine.errors import StoreError
from engine.files import new_folder
from engine.store import tensors
from engine.store.manifest import (
    FINISHED,
    Manifest,
    OpenedContext,
    attachment_path,
    facts_of,
    kv_path,
    state_path,
)
from engine.store.owned import AREAS
from engine.store.store import verify


def export_context(source: Path, target: Path) -> int:
    """Writes the finished context of `source` to the new folder `target`, for others; returns its
    bytes. Raises StoreError if it is damaged or not of this user, EngineError for a `target`."""
    return _copy(source, target, nullcontext(), authentic.without_key())


def import_context(source: Path, target: Path) -> int:
    """Takes in what `export_context` wrote. Raises StoreError if it is damaged."""
    return _copy(source, target, authentic.without_key(), nullcontext())


def _copy(
    source: Path,
    target: Path,
    reading: AbstractContextManager[None],
    writing: AbstractContextManager[None],
) -> int:
    """`reading` and `writing` say by which key; all is checked before anything is written."""
    with reading:
        verify(source)
        saved = OpenedContext.read(source)
        attachments = {name: saved.attachment(name) for name in saved.manifest.attachments}
    try:
        with new_folder(target) as folder, writing:
            target_files = _write(saved, folder, attachments)
            return sum(path.stat().st_size for path in target_files)
    except OSError as error:
        raise StoreError(f"{target}: {error.strerror}") from None


def _write(saved: OpenedContext, folder: Path, attachments: dict[str, bytes]) -> list[Path]:
    for place in (folder, *(folder / area for area in AREAS)):
        durable.private_folder(place)
    manifest = saved.manifest
    tokens = saved.token_ids.astype("<i4").tobytes()
    durable.write(folder / manifest.tokens_name, partial(_put, tokens))
    for first, last in manifest.segments:
        chain = saved.chain.at(last)
        facts = {"first": str(first), "last": str(last), "chain": chain}
        with _tensors(saved.kv_path(first, last)) as found:
            tensors.save(kv_path(folder, first, last, chain), found, facts)
    for position in manifest.states:
        chain = saved.chain.at(position)
        with _tensors(saved.state_path(position)) as found:
            facts = {"position": str(position), "chain": chain}
            tensors.save(state_path(folder, position, chain), found, facts)
    for name, content in attachments.items():
        path = attachment_path(folder, name, facts_of(content)[1])
        durable.write(path, partial(_put, content))
    written = Manifest(
        manifest.compatibility,
        manifest.num_tokens,
        manifest.saved_tokens,
        manifest.states,
        manifest.chain,
        {name: facts_of(content) for name, content in attachments.items()},
    )
    written.write(folder / FINISHED)
    return [*OpenedContext.read(folder).files(), folder / FINISHED]


@contextmanager
def _tensors(path: Path) -> Iterator[dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        yield {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _put(content: bytes, path: Path) -> None:
    path.write_bytes(content)
