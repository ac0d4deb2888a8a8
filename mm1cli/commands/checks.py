"""The rules that decide a run's exit code: of its manifest, its answers."""

from collections import Counter
from collections.abc import Iterable, Sequence

from mm1cli.errors import CitationError, InputError, InputLeftOutError
from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.manifest import Manifest, ReadingPlan
from mm1cli.result import in_quotes

# The user's own rules leave these out; they are in the manifest, and no loss.
_CHOSEN = frozenset({Reason.DUPLICATE, Reason.EXCLUDED, Reason.HIDDEN, Reason.IGNORED})
NOTHING_READABLE = "nothing readable"
NO_FILES = "no files there; name a file or folder with documents in it"


def require_documents(manifest: Manifest) -> None:
    """Raises InputError if nothing was readable."""
    if any(entry.num_blocks for entry in manifest.read):
        return
    if not manifest.entries:
        raise InputError(NO_FILES)
    counts = Counter(str(entry.reason) for entry in manifest.left_out)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    if any(entry.path.lower().endswith(".gguf") for entry in manifest.left_out):
        raise InputError(
            f"{NOTHING_READABLE}: a .gguf file is a model; name it with -m, and documents to read"
        )
    raise InputError(
        f"{NOTHING_READABLE}: {len(manifest.entries):,} seen, all left out ({reasons}); "
        "`mm1 tokens` lists each with its reason"
    )


def require_everything_read(manifest: Manifest) -> None:
    """Raises InputLeftOutError if the answer does not rest on all of the input (--strict)."""
    left_out = [(entry.path, entry.reason) for entry in manifest.left_out]
    require_whole(left_out, manifest.unread, len(manifest.entries))
    if manifest.is_searched:
        raise InputLeftOutError(
            f"--strict: of {manifest.tokens:,} tokens this template reads the sentences it finds; "
            "no run of it reads all"
        )
    if manifest.plan is ReadingPlan.RETRIEVAL:
        raise InputLeftOutError(
            f"--strict: {manifest.tokens:,} tokens do not fit the budget of "
            f"{manifest.budget_tokens:,}, so they were read by retrieval"
        )


def require_whole(
    left_out: Iterable[tuple[str, Reason | None]],
    unread: Sequence[tuple[str, str]],
    num_seen: int,
) -> None:
    """`left_out` are files, `unread` what of the others was not read. Raises InputLeftOutError."""
    lost = [(path, reason) for path, reason in left_out if reason not in _CHOSEN]
    if lost:
        path, reason = lost[0]
        raise InputLeftOutError(
            f"--strict: {len(lost):,} of {num_seen:,} left out, first {path} ({reason})"
        )
    if unread:
        (path, warning), *more = unread
        others = f", and {len(more):,} more" if more else ""
        raise InputLeftOutError(f"--strict: not all of {path} was read: {warning}{others}")


def require_verified(unverified: Sequence[str]) -> None:
    """Raises CitationError if an answer says what no document says (--strict-citations)."""
    if unverified:
        raise CitationError(f"--strict-citations: not in the documents: {in_quotes(unverified)}")
