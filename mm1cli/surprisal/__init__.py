"""Which lines of program text are improbable for their surroundings. See docs/surprisal.md.

surprise_map(engine, pack(corpus, engine.tokenizer)).top(20)
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from engine.api import Engine
from mm1cli.ingest.pack import Packed
from mm1cli.surprisal.lexer import Kind, Lexeme, Lexer, lex
from mm1cli.surprisal.lines import SHIPPED, FileTokens, Recipe, file_tokens, score_lines
from mm1cli.surprisal.map import LineSurprisal, SurprisalMap, TokenSurprisal, WindowRead
from mm1cli.surprisal.reading import ScoreCache, ScoreReader, Scores
from mm1cli.surprisal.selection import why_not
from mm1cli.surprisal.windows import Head, Heads, Planner, Window, heads

__all__ = [
    "Head",
    "Heads",
    "Kind",
    "Lexeme",
    "Lexer",
    "LineSurprisal",
    "Recipe",
    "ScoreCache",
    "SurprisalMap",
    "TokenSurprisal",
    "WindowRead",
    "heads",
    "lex",
    "read_tokens",
    "surprisal_map",
    "why_not",
]

OnProgress = Callable[[int, int], None]
NONE: Mapping[str, Sequence[str]] = MappingProxyType({})


def surprisal_map(
    engine: Engine,
    packed: Packed,
    *,
    only: Collection[str] | None = None,
    window_tokens: int | None = None,
    imports: Mapping[str, Sequence[str]] = NONE,
    heads: Heads = heads,
    lexer: Lexer = lex,
    keep: Path | None = None,
    recipe: Recipe = SHIPPED,
    on_progress: OnProgress | None = None,
) -> SurprisalMap:
    """Ranks the lines of the program text in `packed`, whose order is the order of reading. With
    `only` those of the files with these paths; of the others no more than heads is read.

    All of it is one window where it fits into `window_tokens`, by default the positions the model
    was trained for; otherwise see `windows`. `imports` names, for the path of a file, the paths it
    imports. With `keep` the scores of each window are kept in that folder, so that the same
    command goes on after a stop. `on_progress` gets tokens done and in all; if it raises, windows
    that were read whole are kept. Raises ValueError for a window too small to hold program text.
    """
    limit = min(window_tokens or engine.max_positions, engine.max_positions)
    documents = [
        (number, document)
        for number, document in enumerate(packed.corpus.documents)
        if only is None or document.path in only
    ]
    left_out = [(document.path, why) for _, document in documents if (why := why_not(document))]
    gone = {path for path, _ in left_out}
    numbers = [number for number, document in documents if document.path not in gone]
    planner = Planner(packed, limit, imports, heads)
    windows = list(planner.windows(numbers))
    reader = ScoreReader(engine, ScoreCache(keep) if keep is not None else None)
    files = read_tokens(reader, packed, windows, lexer, on_progress)
    if reader.kept is not None:
        reader.kept.prune()
    return SurprisalMap(
        files=tuple(score_lines(files, recipe)),
        recipe=recipe,
        windows=tuple(_described(window, packed) for window in windows),
        window_tokens=limit,
        reused_tokens=reader.num_reused,
        left_out=tuple(left_out),
    )


def read_tokens(
    reader: ScoreReader,
    packed: Packed,
    windows: Sequence[Window],
    lexer: Lexer = lex,
    on_progress: OnProgress | None = None,
) -> list[FileTokens]:
    """The scored tokens of every document in `windows`, in the order of the windows."""
    total = sum(_num_tokens(window) for window in windows)
    found: dict[int, Scores] = {}
    done = 0
    for window in windows:

        def on_chunk(count: int, _: int, done: int = done) -> None:
            if on_progress is not None:
                on_progress(done + count, total)

        scores = reader.read(window.ids(packed), on_chunk)
        at = len(window.head_ids)
        for stretch in window.spans:
            if stretch.number not in found:
                shape = (3, len(packed.token_ids[stretch.number]))
                found[stretch.number] = np.full(shape, np.nan, np.float32)
            own = scores[:, at : at + stretch.last - stretch.first]
            found[stretch.number][:, stretch.scored : stretch.last] = own[
                :, stretch.scored - stretch.first :
            ]
            at += stretch.last - stretch.first
        done += _num_tokens(window)
        if on_progress is not None:
            on_progress(done, total)
    documents = packed.corpus.documents
    return [
        file_tokens(documents[number], packed.spans(number), scores, lexer)
        for number, scores in found.items()
    ]


def _num_tokens(window: Window) -> int:
    return len(window.head_ids) + sum(s.last - s.first for s in window.spans)


def _described(window: Window, packed: Packed) -> WindowRead:
    documents = packed.corpus.documents
    paths = tuple(documents[stretch.number].path for stretch in window.spans)
    return WindowRead(paths, window.head_paths, _num_tokens(window))
