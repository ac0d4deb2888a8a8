"""A saved context without states: its tokens, files beside them and a manifest.

What was read stays with the server that read it (`engine.remote.saved`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine import durable
from engine.protocols import ON_SERVER
from engine.store.manifest import (
    FINISHED,
    Compatibility,
    Manifest,
    TokenHashChain,
    attachment_path,
    facts_of,
)
from engine.store.owned import AREAS, remove_unreferenced


def compatibility(fingerprint: str) -> Compatibility:
    """Of contexts over a server whose model has this fingerprint; its grid is its own affair."""
    return Compatibility(fingerprint, 1, ON_SERVER)


def chain(fingerprint: str, token_ids: Sequence[int]) -> str:
    """A hash of the model and all tokens: 32 hexadecimal digits."""
    return TokenHashChain(compatibility(fingerprint), token_ids).at(len(token_ids))


def save(
    folder: Path, fingerprint: str, token_ids: Sequence[int], attachments: Mapping[str, bytes]
) -> None:
    """Replaces what context is in `folder`; for whoever holds its lock. Raises OSError."""
    for name in AREAS:
        durable.private_folder(folder / name)
    total = len(token_ids)
    manifest = Manifest(
        compatibility(fingerprint),
        num_tokens=total,
        saved_tokens=total,
        states=(),
        chain=chain(fingerprint, token_ids),
        attachments={name: facts_of(content) for name, content in attachments.items()},
    )
    _put(folder / manifest.tokens_name, np.asarray(token_ids, dtype="<i4").tobytes())
    for name, content in attachments.items():
        _put(attachment_path(folder, name, facts_of(content)[1]), content)
    manifest.write(folder / FINISHED)
    remove_unreferenced(folder)


def _put(path: Path, content: bytes) -> None:
    durable.write(path, lambda part: part.write_bytes(content))
