"""Reads windows through the model, and keeps what it thought of their tokens."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine import authentic, durable
from engine.api import Engine, TokenScores

Scores = npt.NDArray[np.float32]  # [3, T]: log p, entropy, best log p, in nats
OnProgress = Callable[[int, int], None]

MAX_BYTES = 512 << 20
_OWN = re.compile(r"[0-9a-f]{12}-[0-9a-f]{20}\.f32")


@dataclass(frozen=True, slots=True)
class ScoreCache:
    """Scores on disk, 12 bytes a token, by the hash of the model and of all tokens of a window.

    A window of other tokens is another file: a change in a repository costs the windows it is in,
    read whole. Nothing here raises; what cannot be read back is computed again.
    """

    folder: Path
    max_bytes: int = MAX_BYTES

    def get(self, name: str, num_tokens: int) -> Scores | None:
        path = self.folder / f"{name}.f32"
        try:
            content = path.read_bytes()
            os.utime(path)  # when it was last of use
        except OSError:
            return None
        told, content = content[: authentic.DIGITS], content[authentic.DIGITS :]
        if len(content) != 12 * num_tokens or not authentic.is_authentic(
            _purpose(name), content, told
        ):
            return None
        return np.frombuffer(content, "<f4").reshape(3, num_tokens)

    def put(self, name: str, scores: Scores) -> None:
        with suppress(OSError):
            durable.private_folder(self.folder)
            content = scores.astype("<f4").tobytes()
            path = self.folder / f"{name}.f32"
            told = authentic.hexdigest(_purpose(name), content).encode()
            durable.write(path, lambda part: part.write_bytes(told + content), sync=False)

    def num_bytes(self) -> int:
        return sum(status.st_size for _, status in durable.own_files([self.folder], _OWN))

    def clear(self, before_s: float) -> tuple[int, int]:
        """Drops what was not used since `before_s`; how many, and their bytes."""
        return durable.drop_unused([self.folder], _OWN, before_s)

    def prune(self) -> None:
        """Drops what was of no use for longest, if all together are too large."""
        durable.drop_oldest([self.folder], _OWN, self.max_bytes)


def _purpose(name: str) -> str:
    return f"scores {name}"


@dataclass(slots=True)
class ScoreReader:
    """Scores of token sequences, each from an empty context. `num_reused` counts kept tokens."""

    engine: Engine
    kept: ScoreCache | None = None
    num_reused: int = 0

    def read(self, token_ids: Sequence[int], on_progress: OnProgress | None = None) -> Scores:
        """[3, T]; NaN for the first token. `on_progress` may raise; then nothing is kept."""
        name = self.engine.context_name(token_ids)
        known = self.kept.get(name, len(token_ids)) if self.kept is not None else None
        if known is not None:
            self.num_reused += len(token_ids)
            return known
        chunks: list[Scores] = []

        def note(scores: TokenScores) -> None:
            rows = (scores.log_p, scores.entropy, scores.best_log_p)
            chunks.append(np.array([row.tolist() for row in rows], np.float32))

        self.engine.new_context().extend(token_ids, on_progress, note)
        found = np.concatenate(chunks, axis=1)
        if self.kept is not None:
            self.kept.put(name, found)
        return found
