"""What `analyze` and `tokens` share: from paths to a packed corpus and its manifest."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.engine import Tokenizer, max_positions
from mm1cli import library
from mm1cli.answer import frame_tokens
from mm1cli.errors import BudgetError
from mm1cli.ingest import Corpus, read_corpus
from mm1cli.ingest.manifest import Manifest, build
from mm1cli.ingest.pack import Packed, pack
from mm1cli.output.sink import Sink
from mm1cli.settings import Settings


@dataclass(frozen=True, slots=True)
class Reading:
    model: Path
    packed: Packed
    manifest: Manifest


def read(paths: Sequence[str], questions: Sequence[str], settings: Settings, sink: Sink) -> Reading:
    """Reads and counts everything, without loading the model's weights.

    The budget is what the context leaves beside the prompt, the longest question and the answer.
    """
    stdin = sys.stdin.buffer if "-" in paths else None
    corpus: Corpus = read_corpus(
        paths,
        stdin=stdin,
        on_progress=lambda done, total: sink.progress("reading", done, total, "files"),
    )
    model = library.ensure(
        settings.model, lambda stage, done, total: sink.progress(stage, done, total, "bytes")
    )
    tokenizer = Tokenizer(model)
    packed = pack(corpus, tokenizer)
    limit = settings.context_tokens or max_positions(model)
    budget = limit - settings.max_tokens - frame_tokens(tokenizer, questions)
    if budget <= 0:
        raise BudgetError(
            f"a context of {limit:,} tokens has no room for documents beside the prompt and "
            f"{settings.max_tokens:,} tokens of answer; raise --context-tokens or lower "
            "--max-tokens"
        )
    manifest = build(corpus, [len(ids) for ids in packed.token_ids], budget)
    return Reading(model, packed, manifest)
