"""`mm1 review`: findings about a repository or a change, each checked against its file."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unidiff.patch import PatchSet

from engine.api import Engine, Tokenizer
from mm1cli.answering.context_source import Uncached
from mm1cli.code import RepoIndex, index_of, reading_order, reordered
from mm1cli.commands.backend import Backend, backend
from mm1cli.commands.checks import require_documents, require_everything_read
from mm1cli.commands.opening import begin, cache_root, cached_context
from mm1cli.commands.reading import Reading, Sources, fit_to_budget, outcomes
from mm1cli.errors import BudgetError, FindingsError, InputError, UsageError
from mm1cli.ingest.corpus import Corpus, Document, Omission
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import MAX_CONTENTS_TOKENS, pack_all
from mm1cli.ingest.path_filter import PathFilter
from mm1cli.ingest.walk import STDIN
from mm1cli.interrupts import defer_interrupts
from mm1cli.review import baseline, changes, patches
from mm1cli.review.changes import Change
from mm1cli.review.chunks import reviewed
from mm1cli.review.finding import Finding, Rejection, Review, ReviewCall, Severity
from mm1cli.review.options import ReviewFlags, ReviewOptions, checked
from mm1cli.review.reviewer import PromptBudget, Reviewer
from mm1cli.settings import Settings, replace_unset
from mm1cli.sink import Sink
from mm1cli.surprisal import LineSurprisal, SurprisalMap, surprisal_map

# Below it a model's remarks on code are not worth reading: a guess, see docs/review.md.
SMALL_PARAMETERS = 1_000_000_000
ANSWER_TOKENS = 1024
SURPRISING_LINES = 20  # shown, or so much of all:
SURPRISING_SHARE = 0.1
_CONTENTS_SHARE = 20


@dataclass(frozen=True, slots=True)
class _Repository:
    """What was read, in reading order; `documents` of it are reviewed."""

    reading: Reading
    facts: RepoIndex
    change: Change | None
    documents: list[Document]
    not_reviewed: tuple[tuple[str, str], ...]
    frame: PromptBudget | None


def run(sources: Sources, options: ReviewFlags, settings: Settings, sink: Sink) -> None:
    settings = replace_unset(settings, max_tokens=ANSWER_TOKENS)
    chosen = checked(options)
    settings = begin("review", settings, sink)
    sources, diffs, base = _change(sources, options)
    if diffs is not None and not any(len(patch_set) for _, patch_set in diffs):
        sink.note("the change is empty; nothing to review")
        sink.review(Review(None, is_written=True, is_change=True, plan="nothing"))
        return
    model = backend(settings, sink)
    size = model.num_parameters or SMALL_PARAMETERS  # a server that tells none is no small model
    writes = options.findings or size >= SMALL_PARAMETERS
    too_small = (
        f"written findings need a model of {SMALL_PARAMETERS:,} parameters or more, and "
        f"{settings.model} has {size:,}; --findings forces them"
    )
    if settings.server is not None and (options.surprise or not writes):
        told = "--surprise" if options.surprise else f"a review without findings ({too_small})"
        raise UsageError(f"{told} needs the likelihood of each token, which no server tells")
    if not writes and (options.fail_on or options.baseline):
        flag = "--fail-on" if options.fail_on else "--baseline"
        raise UsageError(f"{flag} is about findings: {too_small}")
    repository = _read(sources, diffs, chosen, settings, sink, model, writes=writes)
    sink.manifest(repository.reading.manifest, show=False)
    packed = repository.reading.packed
    sink.corpus(packed.corpus, [len(ids) for ids in packed.token_ids])
    require_documents(repository.reading.manifest)
    if base:
        sink.note(f"reviewing what changed since {base}; files git does not know are not in it")
    _note_reading(repository, settings, sink, writes=writes)
    review = _review(repository, chosen, options, settings, sink, writes=writes)
    sink.review(review)
    if options.update_baseline and options.baseline is not None:
        _update(options.baseline, chosen, review, repository, sink)
    if not writes:
        sink.note(too_small)
    if settings.strict:
        require_everything_read(repository.reading.manifest)
    _fail_on(chosen.fail_on, review, is_update=options.update_baseline)


def _change(
    sources: Sources, options: ReviewFlags
) -> tuple[Sources, list[tuple[Sequence[str], PatchSet]] | None, str]:
    """The context to read, the change to review if there is one, and what it is since."""
    paths = list(sources.paths)
    if options.diff:
        if STDIN in paths:
            raise UsageError("--diff asks git, and - is a diff of its own; choose one")
        base = "HEAD"
        if paths and changes.is_revision(paths[0]):
            base = paths.pop(0)
        paths = paths or ["."]
        diffs = changes.git_diff(base, paths)
        parsed = [((prefix,), patches.parse(text)) for prefix, text in diffs]
        return replace(sources, paths=paths), [*parsed], base
    if STDIN not in paths:
        return sources, None, ""
    if sources.files_from == STDIN:
        raise UsageError("standard input is the list of files; it cannot be a diff, too")
    paths = [path for path in paths if path != STDIN] or ["."]
    patch_set = patches.parse(patches.read_diff(sys.stdin.buffer))
    prefixes = ("", *changes.prefixes_of(paths))
    return replace(sources, paths=paths), [(prefixes, patch_set)], ""


def _read(
    sources: Sources,
    diffs: list[tuple[Sequence[str], PatchSet]] | None,
    chosen: ReviewOptions,
    settings: Settings,
    sink: Sink,
    model: Backend,
    *,
    writes: bool,
) -> _Repository:
    everything = list(outcomes(sources, settings, sink))
    corpus = Corpus(
        tuple(outcome for outcome in everything if isinstance(outcome, Document)),
        tuple(outcome for outcome in everything if isinstance(outcome, Omission)),
    )
    facts = index_of(corpus, paths=sources.paths, num_workers=settings.threads)
    corpus = reordered(corpus, reading_order(corpus, facts.graph))
    prefixes = changes.prefixes_of(sources.paths)

    def is_chosen(path: str) -> bool:
        return chosen.only is None or _is_chosen(path, chosen.only, prefixes)

    change = None
    if diffs is not None:
        change = changes.change_of(diffs, corpus, changes.offset_in_repository())
        _require_fit(change)
        change = change.only(is_chosen)
    documents, left = reviewed(corpus, facts, chosen.named, change)
    documents = [document for document in documents if is_chosen(document.path)]
    tokenizer = model.tokenizer
    limit = settings.context_tokens or model.max_positions
    if change is not None and not writes:
        _require_room(change, tokenizer, limit)
    settings = _with_room(settings, limit)
    frame = (
        PromptBudget(tokenizer, settings, limit, chosen.category, facts, change) if writes else None
    )
    packed = pack_all(
        (*corpus.documents, *corpus.omissions),
        tokenizer,
        min(MAX_CONTENTS_TOKENS, limit // _CONTENTS_SHARE),
    )
    num_tokens = frame.num_tokens if frame is not None else 0
    contents = len(packed.contents_ids)
    if num_tokens + contents >= limit:  # retrieval then, without contents
        packed = replace(packed, contents_ids=())
    reading = fit_to_budget(model, packed, num_tokens, settings, sink)
    read = {document.path for document in reading.packed.corpus.documents}
    documents = [document for document in documents if document.path in read]
    return _Repository(reading, facts, change, documents, tuple(left), frame)


def _require_fit(change: Change) -> None:
    """Raises InputError for a diff of other files: a pipeline must not pass for want of them."""
    if change.lost and not change.hunks:
        named = ", ".join(f"{path} ({why})" for path, why in change.lost[:3])
        more = f" and {len(change.lost) - 3:,} more" if len(change.lost) > 3 else ""
        raise InputError(
            f"the diff is not of the files here: {named}{more}; run this where the diff was made"
        )


def _require_room(change: Change, tokenizer: Tokenizer, limit: int) -> None:
    """Raises BudgetError where the change alone is more than the context, though a map of its files
    would fit: part of a change is never told for the whole."""
    sizes = Counter[str]()
    for path, text in change.parts():
        sizes[path] += len(tokenizer.encode(text))
    total = sizes.total()
    if total >= limit:
        named = [f"{path} {size:,}" for path, size in sizes.most_common(3)]
        if (rest := total - sum(size for _, size in sizes.most_common(3))) > 0:
            named.append(f"{len(sizes) - 3:,} more {rest:,}")
        raise BudgetError(
            f"the change has {' + '.join(named)} = {total:,} tokens, more than the context of "
            f"{limit:,}; review it in parts, with --paths, --exclude or a smaller diff, or take a "
            "model with a longer context"
        )


def _with_room(settings: Settings, limit: int) -> Settings:
    """An answer takes at most a quarter of the context, unless the user says so."""
    return replace_unset(settings, max_tokens=min(settings.max_tokens, max(limit // 4, 1)))


def _is_chosen(path: str, only: PathFilter, prefixes: Sequence[str]) -> bool:
    names = {path, *(path.removeprefix(prefix) for prefix in prefixes)}
    return any(not only.leaves_out(name, is_folder=False) for name in names)


def _note_reading(repository: _Repository, settings: Settings, sink: Sink, *, writes: bool) -> None:
    manifest = repository.reading.manifest
    if not writes and manifest.plan is ReadingPlan.RETRIEVAL:
        what = "the changed files are" if repository.change is not None else "each file is"
        sink.note(f"{what} read whole, in turn, as no question is asked")
    if writes and manifest.plan is ReadingPlan.RETRIEVAL:
        sink.note(
            f"{manifest.tokens:,} tokens do not fit: {settings.model} has room for "
            f"{manifest.budget_tokens:,}. Each part is read behind the repository's map and what "
            "its file imports"
        )
    if repository.change is not None and repository.change.elsewhere:
        named = ", ".join(f"{path} ({why})" for path, why in repository.change.elsewhere[:5])
        more = len(repository.change.elsewhere) - 5
        sink.note(f"changed, and not reviewed: {named}" + (f" and {more} more" if more > 0 else ""))


def _review(
    repository: _Repository,
    chosen: ReviewOptions,
    options: ReviewFlags,
    settings: Settings,
    sink: Sink,
    *,
    writes: bool,
) -> Review:
    manifest = repository.reading.manifest
    plan = str(manifest.plan) if writes else "surprise"
    shown = Review(
        repository.facts,
        is_written=writes,
        is_change=repository.change is not None,
        plan=plan,
        not_reviewed=repository.not_reviewed,
        reports_facts=not writes and repository.change is None,
        added={} if repository.change is None else repository.change.added,
    )
    if not repository.documents:
        sink.note("no source code to review among what was read")
        return shown
    limit = settings.context_tokens or repository.reading.model.max_positions
    num_tokens = limit
    if repository.frame is not None and manifest.plan is ReadingPlan.WHOLE:
        num_tokens = min(limit, manifest.tokens + repository.frame.num_tokens)
    engine = repository.reading.model.open_engine(settings, sink, num_tokens)
    surprise = None
    if options.surprise or not writes:
        surprise = _surprise(repository, engine, settings, sink)
        surprising = _surprising(surprise, repository, options)
        shown = replace(shown, surprise=surprise, surprising=tuple(surprising))
    if not writes or repository.frame is None:
        return shown
    documents = repository.reading.packed.corpus.documents
    source = (
        Uncached(engine) if settings.no_cache else cached_context(engine, documents, settings, sink)
    )
    reviewer = Reviewer(
        engine,
        repository.reading.packed,
        manifest.plan,
        repository.frame,
        repository.facts,
        repository.change,
        _with_room(settings, limit),
        sink,
        source,
    )
    findings = reviewer.review(repository.documents, surprise)
    return _sorted_out(shown, findings, reviewer.rejected, reviewer.calls, chosen, options)


def _sorted_out(
    shown: Review,
    findings: Sequence[Finding],
    rejected: Counter[Rejection],
    calls: Sequence[ReviewCall],
    chosen: ReviewOptions,
    options: ReviewFlags,
) -> Review:
    new, hidden = baseline.split(findings, chosen.known)
    most = len(new) if options.max_findings is None else options.max_findings
    severe = [finding for finding in new if finding.severity.rank >= chosen.severity.rank]
    mild = [finding for finding in new if finding.severity.rank < chosen.severity.rank]
    return replace(
        shown,
        findings=tuple(severe[:most]),
        hidden=tuple(hidden),
        below=(*severe[most:], *mild),
        rejected=rejected,
        calls=tuple(calls),
    )


def _surprise(
    repository: _Repository, engine: Engine, settings: Settings, sink: Sink
) -> SurprisalMap:
    with defer_interrupts() as check:

        def on_progress(done: int, total: int) -> None:
            sink.progress("ranking lines", done, total, "tokens")
            check()

        return surprisal_map(
            engine,
            repository.reading.packed,
            only={document.path for document in repository.documents},
            window_tokens=settings.context_tokens,
            imports=repository.facts.graph.uses,
            keep=None if settings.no_cache else cache_root(settings) / "surprise",
            on_progress=on_progress,
        )


def _surprising(
    surprise: SurprisalMap, repository: _Repository, options: ReviewFlags
) -> list[LineSurprisal]:
    most = min(SURPRISING_LINES, max(round(SURPRISING_SHARE * len(surprise)), 3))
    if options.max_findings is not None:
        most = options.max_findings
    if repository.change is None:
        return surprise.top(most)
    lines = (one for one in surprise.top() if repository.change.adds(one.path, one.line))
    return [one for one, _ in zip(lines, range(most), strict=False)]


def _update(
    path: Path, chosen: ReviewOptions, review: Review, repository: _Repository, sink: Sink
) -> None:
    """A change is only part of its files, so nothing of them is forgotten then."""
    whole = frozenset[str]()
    if not review.is_change:
        whole = frozenset(document.path for document in repository.documents)
    findings = (*review.findings, *review.below, *review.hidden)
    entries = baseline.updated(chosen.known, findings, whole)
    baseline.save(path, entries)
    sink.note(f"{path} now knows {len(entries):,} findings")


def _fail_on(least: Severity | None, review: Review, *, is_update: bool) -> None:
    if least is None or is_update:
        return
    everything = (*review.findings, *review.below)
    severe = [finding for finding in everything if finding.severity.rank >= least.rank]
    if severe:
        first = severe[0]
        raise FindingsError(
            f"--fail-on {least}: {len(severe):,} findings of that severity or above, first "
            f"{first.path}:{first.first}; fix them, or accept them with --update-baseline"
        )
