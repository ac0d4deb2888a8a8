"""What a saved context is: one JSON object that names every file of it, and a checksum.

`manifest.json` is a context that was finished, `partial.json` one that is being built; both are
replaced whole, after all they name is on disk. Names of files are made from numbers and hashes
here and never read from a file, so none can point elsewhere.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from engine import authentic
from engine.errors import ConfigError, StoreError
from engine.protocols import FAST, ON_SERVER
from engine.protocols import NO_KV as NO_KV
from engine.selection import Selection
from engine.store import checked_json
from engine.store.checked_json import checked_hash, checked_int

SEGMENT_TOKENS = 4096
MAX_TOKENS = 2**31 - 1
FINISHED = "manifest.json"
PARTIAL = "partial.json"
INT8_KV = "int8"

_FORMAT = "mm1 context"


@dataclass(frozen=True, slots=True)
class Compatibility:
    """All that decides a state beside the tokens: contexts that differ in it are never mixed.

    `fingerprint` is the model's (config, tensor index, tokenizer), `chunk_tokens` the grid of its
    matmuls, `kv` what keys and values are kept in: a dtype of floats, `INT8_KV`, `NO_KV` where no
    layer has them, or `ON_SERVER` where no state is here at all. `selection` is the engine's, ""
    where documents were read in full; only what documents are read by must be the same. Raises
    ConfigError if it is damaged.
    """

    fingerprint: str
    chunk_tokens: int
    kv: str
    selection: str = ""
    reading: str = field(init=False, default="")

    def __post_init__(self) -> None:
        if self.selection:
            object.__setattr__(self, "reading", Selection.loads(self.selection).reading)

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Of what `as_json` gave; ConfigError, KeyError, TypeError or ValueError for others."""
        chunk_tokens = checked_int(body["chunk_tokens"], 1, MAX_TOKENS)
        names = ("fingerprint", "kv", "selection")
        fingerprint, kv, selection = (str(body[name]) for name in names)
        return cls(fingerprint, chunk_tokens, kv, selection)

    def as_json(self) -> dict[str, str | int]:
        return {
            "fingerprint": self.fingerprint,
            "chunk_tokens": self.chunk_tokens,
            "kv": self.kv,
            "selection": self.selection,
        }

    @property
    def has_states(self) -> bool:
        """Whether what was read is in the folder, and not its tokens alone."""
        return self.kv != ON_SERVER

    @property
    def key(self) -> str:
        """Another one for every other."""
        return " ".join([self.fingerprint, str(self.chunk_tokens), self.kv, self.reading])

    def differs_in(self, other: "Compatibility") -> str:
        """Why a context of `other` cannot be used, in words; "" if it can."""
        if self.has_states != other.has_states:
            where = "by a model that runs here" if other.has_states else "over a server"
            return f"made {where}"
        if self.fingerprint != other.fingerprint:
            if other.fingerprint.removesuffix(FAST) == self.fingerprint.removesuffix(FAST):
                return f"made with{'' if other.fingerprint.endswith(FAST) else 'out'} --fast"
            return f"made by another model ({other.fingerprint[:12]}, not {self.fingerprint[:12]})"
        if self.chunk_tokens != other.chunk_tokens:
            return f"made in chunks of {other.chunk_tokens:,} tokens, not {self.chunk_tokens:,}"
        if self.kv != other.kv:
            return f"its KV is {other.kv}, not {self.kv}"
        if self.reading != other.reading:
            if self.reading and other.reading:
                return "read for another selection"
            return "read by windows" if other.reading else "read in full"
        return ""


class TokenHashChain:
    """At each segment's end a hash of `compatibility` and of all tokens before it."""

    def __init__(self, compatibility: Compatibility, token_ids: Sequence[int]) -> None:
        first = f"{checked_json.VERSION} {compatibility.key}"
        self._links = [hashlib.sha256(first.encode()).digest()]
        self._tokens = np.asarray(token_ids, dtype="<i4")

    def at(self, position: int) -> str:
        """The hash after the first `position` tokens."""
        whole, rest = divmod(position, SEGMENT_TOKENS)
        while len(self._links) <= whole:
            first = (len(self._links) - 1) * SEGMENT_TOKENS
            piece = self._tokens[first : first + SEGMENT_TOKENS]
            self._links.append(hashlib.sha256(self._links[-1] + piece.tobytes()).digest())
        last = self._links[whole]
        if rest:
            piece = self._tokens[whole * SEGMENT_TOKENS : position]
            last = hashlib.sha256(last + piece.tobytes()).digest()
        return last.hex()[:32]


@dataclass(frozen=True, slots=True)
class Manifest:
    """`saved_tokens` of `num_tokens` have their KV on disk; they differ only while it is built.

    `states` are the positions, ascending, whose constant-size states are on disk; `attachments`
    are files beside the tensors, by name, with size and checksum. Without states there is nothing
    of tensors, and all is there when the manifest is.
    """

    compatibility: Compatibility
    num_tokens: int
    saved_tokens: int
    states: tuple[int, ...]
    chain: str  # after all tokens
    attachments: Mapping[str, tuple[int, str]]

    @property
    def is_finished(self) -> bool:
        return _is_finished(self.compatibility, self.num_tokens, self.saved_tokens, self.states)

    @property
    def segments(self) -> Iterator[tuple[int, int]]:
        """The saved tokens [first, last) of each KV file."""
        if self.compatibility.kv in {NO_KV, ON_SERVER}:
            return
        for first in range(0, self.saved_tokens, SEGMENT_TOKENS):
            yield first, min(first + SEGMENT_TOKENS, self.saved_tokens)

    @property
    def tokens_name(self) -> str:
        return f"tokens-{self.chain}.bin"

    def write(self, path: Path) -> None:
        body = {
            **self.compatibility.as_json(),
            "num_tokens": self.num_tokens,
            "saved_tokens": self.saved_tokens,
            "states": list(self.states),
            "chain": self.chain,
            "attachments": {name: list(facts) for name, facts in self.attachments.items()},
        }
        checked_json.write(path, _FORMAT, body)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises StoreError if the file is absent, damaged, of another version or impossible."""
        try:
            body = checked_json.read(path, _FORMAT)
        except FileNotFoundError:
            raise StoreError(f"{path.parent}: {_absent(path)}") from None
        try:
            return cls._parse(path, body)
        except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path}: makes no sense ({error})") from None

    @classmethod
    def _parse(cls, path: Path, body: Mapping[str, Any]) -> Self:
        num_tokens = checked_int(body["num_tokens"], 1, MAX_TOKENS)
        saved_tokens = checked_int(body["saved_tokens"], 0, num_tokens)
        states = tuple(checked_int(position, 1, num_tokens) for position in body["states"])
        if list(states) != sorted(set(states)):
            raise ValueError("states are not in order")
        chain = checked_hash(body["chain"])
        compatibility = Compatibility.parse(body)
        if states and not compatibility.has_states:
            raise ValueError("a server's context has no states")
        is_finished = _is_finished(compatibility, num_tokens, saved_tokens, states)
        if path.name == FINISHED and not is_finished:
            raise ValueError("it is not finished")
        attachments = {}
        for name, (size, digest) in body["attachments"].items():
            if Path(name).name != name or name.startswith("."):
                raise ValueError(f"attachment {name!r:.40}")
            attachments[name] = (checked_int(size, 0, 2**40), checked_hash(digest))
        return cls(compatibility, num_tokens, saved_tokens, states, chain, attachments)


@dataclass(frozen=True)
class OpenedContext:
    """A manifest in its folder, with the tokens it stands for."""

    folder: Path
    manifest: Manifest

    @classmethod
    def read(cls, folder: Path, name: str = FINISHED) -> Self:
        """Raises StoreError."""
        return cls(folder, Manifest.read(folder / name))

    @cached_property
    def token_ids(self) -> "np.ndarray[Any, np.dtype[np.int32]]":
        """[num_tokens] int32. Raises StoreError if they are not those of the manifest."""
        path = self.folder / self.manifest.tokens_name
        try:
            if path.stat().st_size != 4 * self.manifest.num_tokens:
                raise StoreError(
                    f"{path}: {path.stat().st_size:,} bytes, expected 4 for each of "
                    f"{self.manifest.num_tokens:,} tokens"
                )
            token_ids = np.fromfile(path, dtype="<i4")
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from None
        chain = TokenHashChain(self.manifest.compatibility, token_ids)  # type: ignore[arg-type]
        if chain.at(self.manifest.num_tokens) != self.manifest.chain:
            raise StoreError(f"{path}: damaged: its tokens do not give the context's hash")
        return token_ids

    @cached_property
    def chain(self) -> TokenHashChain:
        return TokenHashChain(self.manifest.compatibility, self.token_ids)  # type: ignore[arg-type]

    def kv_path(self, first: int, last: int) -> Path:
        return kv_path(self.folder, first, last, self.chain.at(last))

    def state_path(self, position: int) -> Path:
        return state_path(self.folder, position, self.chain.at(position))

    def attachment_path(self, name: str) -> Path:
        return attachment_path(self.folder, name, self.manifest.attachments[name][1])

    def attachment(self, name: str) -> bytes:
        """Raises StoreError if there is none, or other bytes than were saved."""
        if name not in self.manifest.attachments:
            raise StoreError(f"{self.folder}: no {name} in it")
        path, expected = self.attachment_path(name), self.manifest.attachments[name]
        try:
            if path.stat().st_size == expected[0]:
                content = path.read_bytes()
                if facts_of(content) == expected:
                    return content
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from None
        raise StoreError(f"{path}: damaged: its bytes do not give its checksum")

    def files(self) -> Iterator[Path]:
        """Every file the manifest stands on."""
        yield self.folder / self.manifest.tokens_name
        yield from (self.kv_path(*segment) for segment in self.manifest.segments)
        yield from map(self.state_path, self.manifest.states)
        yield from map(self.attachment_path, self.manifest.attachments)

    def reusable(
        self, token_ids: "np.ndarray[Any, np.dtype[np.int32]]", *, needs_state: bool
    ) -> int:
        """How many tokens of this context a context of `token_ids` [N] may begin with.

        A position on the grid, so that what follows is computed as if nothing had been saved; or
        all N, if they are the same tokens.
        """
        manifest = self.manifest
        if manifest.is_finished and np.array_equal(self.token_ids, token_ids):
            return manifest.num_tokens
        common = min(len(token_ids), manifest.num_tokens)
        unequal = np.flatnonzero(self.token_ids[:common] != token_ids[:common])
        common = int(unequal[0]) if len(unequal) else common
        # One token is read anew at least: what comes after the last one is only in a finished one.
        common = min(common, manifest.saved_tokens, len(token_ids) - 1)
        grid = manifest.compatibility.chunk_tokens
        if not needs_state:
            return common // grid * grid
        usable = (p for p in manifest.states if p <= common and p % grid == 0)
        return max(usable, default=0)


def _is_finished(
    compatibility: Compatibility, num_tokens: int, saved_tokens: int, states: Sequence[int]
) -> bool:
    if not compatibility.has_states:
        return saved_tokens == num_tokens
    return saved_tokens == num_tokens and num_tokens in states


def kv_path(folder: Path, first: int, last: int, chain: str) -> Path:
    return folder / "kv" / f"{first:010d}-{last:010d}-{chain}.safetensors"


def state_path(folder: Path, position: int, chain: str) -> Path:
    return folder / "states" / f"{position:010d}-{chain}.safetensors"


def attachment_path(folder: Path, name: str, checksum: str) -> Path:
    return folder / "attachments" / f"{checksum}-{name}"


def facts_of(content: bytes) -> tuple[int, str]:
    """Size and hash, as a manifest has them."""
    return len(content), authentic.hexdigest("attachment", content)


def _absent(path: Path) -> str:
    if path.name == FINISHED and any(path.parent.glob("tokens-*.bin")):
        remedy = "its build was stopped, and the same command goes on from there"
    else:
        remedy = "build one there, or name the folder of another"
    return f"no {path.name}, so not a finished context; {remedy}"
