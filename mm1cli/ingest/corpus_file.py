"""A packed corpus beside its saved context: documents, omissions and token counts, as JSON.

What comes back is taken as hostile: every field is checked, and a document's tokens are those of
the context itself.
"""

import gzip
import io
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine.api import StoreError
from mm1cli.ingest.corpus import Corpus, Document, Omission, Reason
from mm1cli.ingest.pack import Encoder, Packed
from mm1cli.ingest.readers.reader import MIB
from mm1cli.ingest.wire_format import (
    block_from,
    line_from,
    warning_from,
    warning_of,
    whole_from,
)

NAME = "corpus.json.gz"
FORMAT = 2
_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError, zlib.error)
_MAX_BYTES = 2048 * MIB  # of JSON, which is a few times as much as the text


@dataclass(frozen=True, slots=True)
class SavedCorpus:
    """`head_tokens` of the context stand before the packed documents."""

    packed: Packed
    head_tokens: int
    model: str


def dumps(packed: Packed, head_tokens: int, model: str) -> bytes:
    """`model` is the name it was asked for by, so that questions need not say it again."""
    documents = [
        {
            **asdict(document),
            "warnings": list(map(warning_of, document.warnings)),
            "tokens": len(ids),
        }
        for document, ids in zip(packed.corpus.documents, packed.token_ids, strict=True)
    ]
    message = {
        "format": FORMAT,
        "model": model,
        "head_tokens": head_tokens,
        "fence": packed.fence,
        "contents_tokens": len(packed.contents_ids),
        "documents": documents,
        "omissions": [
            {**asdict(omission), "reason": omission.reason.name}
            for omission in packed.corpus.omissions
        ],
    }
    return gzip.compress(json.dumps(message).encode(), compresslevel=3, mtime=0)


def loads(content: bytes, token_ids: Sequence[int], encoder: Encoder) -> SavedCorpus:
    """What `dumps` made, for the context of `token_ids`. Raises StoreError."""
    try:
        message = _message(content)
        documents = tuple(map(_document, message["documents"]))
        omissions = tuple(map(_omission, message["omissions"]))
        head = whole_from(message["head_tokens"])
        sizes = [whole_from(message["contents_tokens"])]
        sizes += [whole_from(document["tokens"]) for document in message["documents"]]
        model, fence = line_from(message["model"]), line_from(message["fence"])
    except _DAMAGE as error:
        raise _damaged(error) from None
    if head + sum(sizes) != len(token_ids):
        raise StoreError(f"{NAME}: belongs to a context of another length")
    pieces, at = [], head
    for size in sizes:
        pieces.append(tuple(token_ids[at : at + size]))
        at += size
    packed = Packed(Corpus(documents, omissions), tuple(pieces[1:]), pieces[0], encoder, fence)
    return SavedCorpus(packed, head, model)


def model_of(content: bytes) -> str:
    """The model the context was built for, by the name it was asked for. Raises StoreError."""
    try:
        return line_from(_message(content)["model"])
    except _DAMAGE as error:
        raise _damaged(error) from None


def documents_of(content: bytes) -> list[dict[str, object]]:
    """Path and tokens of each document. Raises StoreError."""
    try:
        return [
            {"path": line_from(document["path"]), "tokens": whole_from(document["tokens"])}
            for document in _message(content)["documents"]
        ]
    except _DAMAGE as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> StoreError:
    return StoreError(f"{NAME}: damaged ({type(error).__name__}: {error})")


def _message(content: bytes) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(_inflate(content))
    if message["format"] != FORMAT:
        raise ValueError(f"format {message['format']!r:.20}")
    return message


def _inflate(content: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        inflated = file.read(_MAX_BYTES + 1)
    if len(inflated) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES:,} bytes")
    return inflated


def _document(message: dict[str, Any]) -> Document:
    return Document(
        path=line_from(message["path"]),
        kind=line_from(message["kind"]),
        num_bytes=whole_from(message["num_bytes"]),
        sha256=line_from(message["sha256"]),
        reader=line_from(message["reader"]),
        blocks=tuple(map(block_from, message["blocks"])),
        warnings=tuple(map(warning_from, message["warnings"])),
        encoding=line_from(message["encoding"]),
    )


def _omission(message: dict[str, Any]) -> Omission:
    size = message["num_bytes"]
    return Omission(
        line_from(message["path"]),
        Reason[message["reason"]],
        line_from(message["detail"]),
        None if size is None else whole_from(size),
    )
