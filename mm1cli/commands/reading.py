"""What `analyze` and `tokens` share: from paths to a packed corpus and its manifest."""

import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from engine.api import MOST_TOKENS, Selection
from mm1cli.answering.generation import thinking_tokens
from mm1cli.answering.prompt import frame_tokens
from mm1cli.answering.question import Question
from mm1cli.commands.backend import Backend, backend
from mm1cli.commands.opening import cache_root
from mm1cli.errors import BudgetError, ModelError, UsageError
from mm1cli.ingest.budget_policy import Policy, fit
from mm1cli.ingest.cache import Cache
from mm1cli.ingest.corpus import Document, Omission
from mm1cli.ingest.files_from import listed_paths
from mm1cli.ingest.manifest import Manifest, build
from mm1cli.ingest.pack import MAX_CONTENTS_TOKENS, Packed, document_text, pack_all
from mm1cli.ingest.path_filter import PathFilter
from mm1cli.ingest.read import ReadOptions, read_files
from mm1cli.ingest.readers import office97
from mm1cli.ingest.remote import fetched, is_remote
from mm1cli.ingest.walk import STDIN
from mm1cli.models import calibration
from mm1cli.settings import Settings, is_inside
from mm1cli.sink import Sink

if TYPE_CHECKING:
    from engine.api import ModelSource

_CONTENTS_SHARE = 20  # the list of contents takes at most a twentieth of the context


@dataclass(frozen=True, slots=True)
class Sources:
    """What to read, as the command line says it. Raises UsageError where nothing is named."""

    paths: Sequence[str] = ()
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    files_from: str | None = None
    ends_with_nul: bool = False
    hidden: bool = False
    no_gitignore: bool = False

    def __post_init__(self) -> None:
        if self.files_from is None and self.ends_with_nul:
            raise UsageError("-0 is about --files-from; add it")
        if self.files_from is None and not self.paths:
            raise UsageError("no paths; name files or folders, or list them with --files-from")

    def all_paths(self) -> list[str]:
        """Raises InputError for a list that cannot be read, UsageError for stdin named twice."""
        if self.files_from is None:
            return list(self.paths)
        stdin = sys.stdin.buffer if self.files_from == STDIN else None
        listed = listed_paths(self.files_from, stdin=stdin, ends_with_nul=self.ends_with_nul)
        paths = [*self.paths, *listed]
        if stdin is not None and STDIN in paths:
            raise UsageError("standard input is the list of files; it cannot be a document, too")
        return paths


@dataclass(frozen=True, slots=True)
class Reading:
    """With `selection` it is longer than what the model was trained for; questions select."""

    model: Backend
    packed: Packed
    manifest: Manifest
    selection: Selection | None = None


def read(
    sources: Sources,
    questions: Sequence[Question],
    settings: Settings,
    sink: Sink,
    *,
    is_searched: bool = False,
    is_selectable: bool = True,
) -> Reading:
    """Reads and counts everything, without loading the model's weights.

    The budget is what the context leaves beside the prompt, the list of contents, the longest
    question and the answer; see `Manifest` for `is_searched`. Raises BudgetError for --fit fail,
    or if the budget is nothing.
    """
    with closing(outcomes(sources, settings, sink)) as found:
        return counted(
            found,
            questions,
            settings,
            sink,
            is_searched=is_searched,
            is_selectable=is_selectable,
        )


def counted(
    found: Iterable[Document | Omission],
    questions: Sequence[Question],
    settings: Settings,
    sink: Sink,
    *,
    is_searched: bool = False,
    is_selectable: bool = True,
) -> Reading:
    """As `read`, of what was read already, or is read while it is taken."""
    asked = [question.prompt_text for question in questions]
    model = backend(settings, sink)
    packed = packed_for(model, found, settings)
    first, model = model, model.checked(samples(packed), settings, sink)
    if model is not first:
        packed = packed_for(model, packed.corpus.outcomes, settings)
    tokenizer = model.tokenizer
    answer_tokens = settings.max_tokens + thinking_tokens(tokenizer, settings)
    frame = answer_tokens + frame_tokens(tokenizer, asked, settings.focus)
    can_select = is_selectable and not is_searched
    given = (model, packed, frame, settings, sink)
    reading = fit_to_budget(*given, is_selectable=can_select)
    return replace(reading, manifest=replace(reading.manifest, is_searched=is_searched))


def packed_for(model: Backend, found: Iterable[Document | Omission], settings: Settings) -> Packed:
    """As `model` reads them, with a list of contents that has a share of its context."""
    limit = settings.context_tokens or model.max_positions
    return pack_all(found, model.tokenizer, min(MAX_CONTENTS_TOKENS, limit // _CONTENTS_SHARE))


def samples(packed: Packed) -> list[str]:
    """Texts of the first document, the one in the middle and the last, as a model gets them."""
    documents = [one for one in packed.corpus.documents if one.blocks]
    chosen = {0, len(documents) // 2, len(documents) - 1} if documents else set()
    return [document_text(documents[at], packed.fence) for at in sorted(chosen)]


def outcomes(
    sources: Sources,
    settings: Settings,
    sink: Sink,
    is_wanted: Callable[[str], bool] | None = None,
    order: Callable[[str], str] | None = None,
) -> Generator[Document | Omission, None, None]:
    """Every file that `sources` lead to, read or left out, as it is read; for the last two see
    `ReadOptions`. Raises InputError."""
    paths = sources.all_paths()
    options = replace(_options(sources, settings), is_wanted=is_wanted, order=order)
    _check_cache(paths, settings)
    if not any(map(is_remote, paths)):
        return _read_local(paths, options, sink)
    return _read_fetched(paths, options, settings, sink)


def _read_local(
    paths: Sequence[str], options: ReadOptions, sink: Sink
) -> Generator[Document | Omission, None, None]:
    return read_files(
        paths,
        options=options,
        stdin=sys.stdin.buffer if STDIN in paths else None,
        on_progress=lambda done, total: sink.progress("reading", done, total, "files"),
        on_found=lambda count: sink.progress("looking", count, 0, "files"),
    )


def _check_cache(paths: Sequence[str], settings: Settings) -> None:
    """Raises UsageError where somebody chose to keep extracted text among what is read."""
    if settings.no_cache or settings.cache_dir is None:
        return
    root = cache_root(settings)
    for path in paths:
        if path != STDIN and is_inside(root, Path(path)):
            raise UsageError(
                f"cache_dir {root} lies in {path}, which is read; choose another place, or "
                "--no-cache"
            )


def _read_fetched(
    paths: Sequence[str], options: ReadOptions, settings: Settings, sink: Sink
) -> Generator[Document | Omission, None, None]:
    with fetched(paths, is_offline=settings.offline, on_note=sink.note) as (local, names):
        yield from _read_local(local, replace(options, names=names), sink)


def fit_to_budget(
    model: Backend,
    packed: Packed,
    frame_tokens: int,
    settings: Settings,
    sink: Sink,
    *,
    is_selectable: bool = False,
) -> Reading:
    """What of `packed` is read beside `frame_tokens` of other text, and the account of it. --fit
    select is --fit focus unless `is_selectable`. Raises BudgetError for --fit fail, or if nothing
    is left for documents, ModelError for --fit select if nobody measured how the model selects."""
    limit = settings.context_tokens or model.max_positions
    budget = limit - frame_tokens - len(packed.contents_ids)
    if budget <= 0:
        raise BudgetError(
            f"a context of {limit:,} tokens has no room for documents beside the prompt and "
            f"{settings.max_tokens:,} tokens of answer; raise --context-tokens or lower "
            "--max-tokens"
        )
    policy = cast(Policy, settings.fit)
    selection = None
    if policy == "select" and not is_selectable:
        policy = "focus"
    if policy == "select" and packed.num_tokens > budget:
        selection = _selection(model.source, settings)
        limit = MOST_TOKENS
        budget = limit - frame_tokens - len(packed.contents_ids)
    if settings.focus == "off" and policy == "focus":
        policy = "fail"  # nothing may be read by retrieval
    kept = fit(packed, budget, policy, model.tokenizer)
    if kept is not packed:
        sink.note(
            f"{packed.num_tokens:,} tokens do not fit the budget of {budget:,}: --fit "
            f"{settings.fit} keeps {kept.num_tokens:,} of them; `mm1 tokens` lists which"
        )
        budget = limit - frame_tokens - len(kept.contents_ids)
    counts = [len(ids) for ids in kept.token_ids]
    manifest = build(kept.corpus, counts, budget, settings.fit)
    return Reading(model, kept, manifest, selection)


def _selection(model: "ModelSource | None", settings: Settings) -> Selection:
    if settings.context_tokens is not None:
        raise UsageError(
            f"--fit select reads up to {MOST_TOKENS:,} tokens, --context-tokens "
            f"{settings.context_tokens:,} does not let it; leave one of them out"
        )
    if model is None:
        raise UsageError("--fit select is for models that run here; leave out --server")
    return measured_selection(model, settings.model)


def measured_selection(model: "ModelSource", name: str) -> Selection:
    """How the model selects. Raises ModelError where nobody measured it."""
    if (found := calibration.of(model)) is None:
        raise ModelError(
            f"nobody measured how {name} selects from more than it was trained for; mm1 models "
            f"calibrate {name} does, and without it the passages that fit each question by their "
            "words are read (--fit focus)"
        )
    return found


def _options(sources: Sources, settings: Settings) -> ReadOptions:
    if settings.ocr and not any(map(shutil.which, ("tesseract", "ocrmypdf"))):
        raise UsageError(
            "--ocr needs tesseract or ocrmypdf, and neither is installed; install one, or go "
            "without"
        )
    if settings.convert and office97.program() is None:
        raise UsageError(
            "--convert needs LibreOffice, which is not installed (there is no soffice); install "
            "it, save the files as .docx or .pptx, or go without"
        )
    return ReadOptions(
        path_filter=PathFilter.of(
            sources.include,
            sources.exclude,
            hidden=sources.hidden,
            gitignore=not sources.no_gitignore,
        ),
        allow_secrets=settings.allow_secrets,
        ocr=settings.ocr,
        convert=settings.convert,
        cache=None if settings.no_cache else Cache(cache_root(settings) / "text"),
        num_workers=settings.threads,
    )
