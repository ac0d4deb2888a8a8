"""`mm1 context`: contexts as things: build, list, show, verify, remove."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from engine.engine import (
    ContextPlan,
    Engine,
    StoreError,
    saved_attachment,
    verify_context,
)
from mm1cli import quotes
from mm1cli.answer import head_ids
from mm1cli.commands.checks import require_documents, require_everything_read
from mm1cli.commands.reading import Sources, cache_root, read
from mm1cli.contexts import GB, ContextCache, Kept, describe, remove
from mm1cli.errors import BudgetError, InputError
from mm1cli.ingest import kept as kept_corpus
from mm1cli.interrupts import defer_interrupts
from mm1cli.output.sink import RunInfo, Sink
from mm1cli.output.text import safe_line
from mm1cli.preread import layout, went_on
from mm1cli.result import ReadingPlan
from mm1cli.settings import Settings


def cache(settings: Settings) -> ContextCache:
    return ContextCache(cache_root(settings) / "contexts", int(settings.max_cache * GB))


def build(
    sources: Sources,
    output: Path,
    settings: Settings,
    sink: Sink,
    stdout: TextIO,
    *,
    as_json: bool,
) -> None:
    """Reads the documents into one context at `output`, going on from what is there already.

    Raises BudgetError if they do not fit the model's context.
    """
    sink.init(RunInfo("context build", settings.model))
    reading = read(sources, [], settings, sink)
    manifest = reading.manifest
    require_documents(manifest)
    if manifest.plan is ReadingPlan.FOCUS:
        largest = ", ".join(f"{one.path} ({one.tokens:,})" for one in manifest.largest[:3])
        raise BudgetError(
            f"{manifest.tokens:,} tokens do not fit the {manifest.budget_tokens:,} that "
            f"{settings.model} leaves for documents; --exclude some of the largest ({largest}), "
            "or use --fit"
        )
    engine = open_engine(reading.model, settings, sink, manifest.tokens, is_mapped=True)
    head = head_ids(engine.tokenizer)
    token_ids, ends = layout(head, reading.packed)
    attachments = {
        kept_corpus.NAME: kept_corpus.dumps(reading.packed, len(head), settings.model),
        quotes.NAME: quotes.Quotable(reading.packed.corpus).dump(),
    }
    with defer_interrupts() as check:

        def on_progress(done: int, total: int) -> None:
            sink.progress("prefill", done, total, "tokens")
            check()

        built = engine.build_context(
            output,
            ContextPlan(token_ids, ends, attachments),
            others=cache(settings).alike(engine),
            on_progress=on_progress,
            on_wait=lambda: sink.note(f"another mm1 is building {output}; waiting for it"),
        )
    num_bytes = describe(output).num_bytes
    why = f" ({built.why})" if built.why else ""
    sink.note(f"reused {built.reused_tokens:,} of {len(token_ids):,} tokens{why}")
    if built.reused_layers:
        sink.note(went_on(engine, built.reused_layers))
    if as_json:
        facts = {
            "context": str(output),
            "tokens": len(token_ids),
            "reused_tokens": built.reused_tokens,
            "reused_layers": built.reused_layers,
            "why_not_more": built.why,
            "bytes": num_bytes,
            "manifest": manifest.as_json(),
        }
        stdout.write(json.dumps(facts) + "\n")
    else:
        stdout.write(f"{output}\n")
    if settings.strict:
        require_everything_read(manifest)


def open_engine(
    model: Path, settings: Settings, sink: Sink, num_tokens: int = 0, *, is_mapped: bool = False
) -> Engine:
    """For `num_tokens` and `is_mapped` see `Engine`."""
    return Engine(
        model,
        device=settings.device,
        chunk_tokens=settings.chunk_tokens,
        threads=settings.threads,
        kv=settings.kv,
        num_tokens=num_tokens,
        is_mapped=is_mapped,
        spill_folder=cache_root(settings) / "spill",
        on_progress=lambda done, total: sink.progress("loading model", done, total, "bytes"),
    )


def show_list(settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """What `analyze` keeps by itself."""
    contexts = cache(settings)
    listed = list(contexts)
    total = contexts.num_bytes()
    if as_json:
        rows = [_facts(one) for one in listed]
        facts = {"contexts": rows, "bytes": total, "max_bytes": contexts.max_bytes}
        stdout.write(json.dumps(facts) + "\n")
        return
    for one in sorted(listed, key=lambda one: -one.used_s):
        tokens = f"{one.context.num_tokens:,} tokens" if one.context else "unfinished"
        stdout.write(f"{one.folder.name}  {tokens:>18}  {_size(one.num_bytes):>9}\n")
    stdout.write(f"{len(listed)} contexts, {_size(total)} of {_size(contexts.max_bytes)}\n")


def show(where: str, settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    folder = find(where, settings)
    one = describe(folder)
    if one.context is None:
        raise StoreError(one.why)
    facts = _facts(one)
    documents: list[dict[str, object]] = []
    with suppress(StoreError):  # `analyze` reads the documents anyway and keeps none of them
        content = saved_attachment(folder, kept_corpus.NAME)
        documents = kept_corpus.documents_of(content)
    if as_json:
        stdout.write(json.dumps({**facts, "documents": documents}) + "\n")
        return
    for key, value in facts.items():
        shown = f"{value:,}" if isinstance(value, int) else value
        stdout.write(f"{key.replace('_', ' '):<13} {shown}\n")
    for document in documents:
        stdout.write(f"{document['tokens']:>13,} {safe_line(str(document['path']))}\n")


def verify(where: str, settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """Reads every byte. Raises StoreError (exit 3) at the first that is not what was saved."""
    folder = find(where, settings)
    num_bytes = verify_context(folder)
    if as_json:
        stdout.write(json.dumps({"context": str(folder), "passed": True, "bytes": num_bytes}))
        stdout.write("\n")
    else:
        stdout.write(f"whole: {num_bytes:,} bytes give their checksums\n")


def remove_all(where: Sequence[str], settings: Settings, stdout: TextIO) -> None:
    for folder in [find(name, settings) for name in where]:
        if not remove(folder):
            raise InputError(f"{folder}: another mm1 is building it; stop that one first")
        stdout.write(f"removed {folder}\n")


def collect(settings: Settings, stdout: TextIO) -> None:
    """Removes what was not used for longest until all fits --max-cache."""
    gone = cache(settings).shrink()
    stdout.write("".join(f"removed {one.folder.name}, {_size(one.num_bytes)}\n" for one in gone))
    stdout.write(f"{_size(cache(settings).num_bytes())} kept\n")


def find(where: str, settings: Settings) -> Path:
    """A folder, or the name or its beginning of a context that `analyze` keeps."""
    if Path(where).is_dir():
        return Path(where)
    named = [one.folder for one in cache(settings) if one.folder.name.startswith(where)]
    if len(named) == 1:
        return named[0]
    if named:
        raise InputError(f"{where}: {len(named)} contexts begin so; give more of the name")
    raise InputError(f"{where}: no such context; `mm1 context list` shows those that are kept")


def _facts(one: Kept) -> dict[str, object]:
    context = one.context
    return {
        "context": str(one.folder),
        "tokens": context.num_tokens if context else None,
        "bytes": one.num_bytes,
        "used_s": int(one.used_s),
        "model": context.fingerprint if context else None,
        "chunk_tokens": context.chunk_tokens if context else None,
        "kv": context.kv if context else None,
        **({"problem": one.why} if one.why else {}),
    }


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GB:.2f} GB" if num_bytes >= GB / 10 else f"{num_bytes / 10**6:.1f} MB"
