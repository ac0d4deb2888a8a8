"""`mm1 context`: contexts as things: build, list, show, verify, remove."""

import json
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TextIO

from engine.api import (
    ContextPlan,
    StoreError,
    export_context,
    import_context,
    saved_attachment,
    verify_context,
    why_foreign,
)
from mm1cli.answering.context_cache import (
    ORIGIN,
    SERVER,
    CacheEntry,
    check_removable,
    describe,
    origin,
    origin_of,
    remove,
    server_of,
)
from mm1cli.answering.context_source import resumed_note
from mm1cli.answering.prompt import question_prompt
from mm1cli.commands.cache import about, date, size
from mm1cli.commands.checks import require_documents, require_everything_read
from mm1cli.commands.opening import begin, cache, selected_note
from mm1cli.commands.reading import Sources, read
from mm1cli.errors import BudgetError, InputError
from mm1cli.grounding import quote_index
from mm1cli.ingest import corpus_file as kept_corpus
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.interrupts import defer_interrupts, note_saved
from mm1cli.output.text import safe_line
from mm1cli.settings import Settings
from mm1cli.sink import Sink

_IN_MEMORY = (
    "the tokens are saved here; what was read of them is in the server's memory alone, and is read "
    "again once it restarts (llama-server --slot-save-path DIR keeps it)"
)
_ON_DISK = (
    "the tokens are saved here; the server saved what was read of them in its --slot-save-path, "
    "where mm1-*.bin stays until you remove it"
)
_LABELS = {"bytes": "size", "used_s": "last used", "chunk_tokens": "tokens a chunk", "kv": "KV"}


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
    settings = begin("context build", settings, sink)
    reading = read(sources, [], settings, sink)
    manifest = reading.manifest
    require_documents(manifest)
    if manifest.plan is ReadingPlan.RETRIEVAL:
        largest = ", ".join(f"{one.path} ({one.tokens:,})" for one in manifest.largest[:3])
        raise BudgetError(
            f"{manifest.tokens:,} tokens do not fit: {settings.model} has room for "
            f"{manifest.budget_tokens:,}; --exclude some of the largest ({largest}), "
            f"or use {'' if settings.server else '--fit select, which reads all of it, or '}"
            "--fit drop-largest"
        )
    given = (settings, sink, manifest.tokens)
    engine = reading.model.open_engine(*given, is_mapped=True, selection=reading.selection)
    if reading.selection is not None:
        sink.note(selected_note(manifest, engine, settings))
    prompt = question_prompt(engine.tokenizer, reading.packed, "")
    token_ids, num_head = prompt.prefix, len(prompt.head.token_ids)
    attachments = {
        kept_corpus.NAME: kept_corpus.dumps(reading.packed, num_head, settings.model),
        quote_index.NAME: quote_index.QuoteIndex(reading.packed.corpus).dump(),
        ORIGIN: origin([one.path for one in reading.packed.corpus.documents]),
    }
    is_here = engine.capabilities.saves_states
    if settings.server is not None:
        attachments[SERVER] = settings.server.encode()
    # A server that is left in the middle of a chunk goes on from it, too.
    with defer_interrupts() if is_here else nullcontext(lambda: None) as check:

        def on_progress(done: int, total: int) -> None:
            if done:
                note_saved()
            sink.progress("prefill", done, total, "tokens")
            check()

        built = engine.build_context(
            output,
            ContextPlan(token_ids, prompt.document_ends, attachments),
            others=cache(settings).alike(engine),
            on_progress=on_progress,
            on_wait=lambda: sink.note(f"another mm1 is building {output}; waiting for it"),
        )
    num_bytes = describe(output).num_bytes
    why = f" ({built.why})" if built.why else ""
    sink.note(f"reused {built.reused_tokens:,} of {len(token_ids):,} tokens{why}")
    if not is_here:
        sink.note(_ON_DISK if built.is_saved else _IN_MEMORY)
    if built.reused_layers:
        sink.note(resumed_note(built))
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


def show_list(settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """What `analyze` keeps by itself."""
    contexts = cache(settings)
    if why := contexts.why_elsewhere():
        raise InputError(why)
    listed = list(contexts)
    total = contexts.num_bytes()
    if as_json:
        rows = [_facts(one) for one in listed]
        facts = {"contexts": rows, "bytes": total, "max_bytes": contexts.max_bytes}
        stdout.write(json.dumps(facts) + "\n")
        return
    for one in sorted(listed, key=lambda one: -one.used_s):
        tokens = f"{one.context.num_tokens:,} tokens" if one.context else "unfinished"
        told = f"{size(one.num_bytes):>9}  {date(one.used_s)}  {safe_line(about(one))}"
        stdout.write(f"{one.folder.name}  {tokens:>18}  {told.rstrip()}\n")
    noun = "context" if len(listed) == 1 else "contexts"
    stdout.write(f"{len(listed)} {noun}, {size(total)} of {size(contexts.max_bytes)}\n")


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
        if value is None:
            continue
        shown = _for_people(key, value)
        stdout.write(f"{_LABELS.get(key, key.replace('_', ' ')):<15} {shown}\n")
    for document in documents:
        stdout.write(f"{document['tokens']:>15,} {safe_line(str(document['path']))}\n")


def verify(where: str, settings: Settings, stdout: TextIO, *, as_json: bool) -> None:
    """Reads every byte. Raises StoreError (exit 3) at the first that is not what was saved."""
    folder = find(where, settings)
    num_bytes = verify_context(folder)
    if as_json:
        stdout.write(json.dumps({"context": str(folder), "passed": True, "bytes": num_bytes}))
        stdout.write("\n")
    else:
        stdout.write(f"whole: all {num_bytes:,} bytes match their checksums\n")


def export(where: str, target: Path, settings: Settings, stdout: TextIO) -> None:
    """Raises StoreError, or EngineError where `target` exists."""
    num_bytes = export_context(find(where, settings), target)
    stdout.write(
        f"{target}: {size(num_bytes)}, with the text of all its documents; "
        "`mm1 context import` takes it in elsewhere\n"
    )


def take_in(source: Path, target: Path, stdout: TextIO) -> None:
    """Raises StoreError, or EngineError where `target` exists."""
    num_bytes = import_context(source, target)
    stdout.write(
        f"{target}: {size(num_bytes)}; its texts and quotes are those of whoever made it, and "
        "nothing here was held against the documents\n"
    )


def remove_all(where: Sequence[str], settings: Settings, stdout: TextIO) -> None:
    """All of them, or none if one is not a context."""
    folders = dict.fromkeys(find(name, settings) for name in where)
    for folder in folders:
        check_removable(folder)
    for folder in folders:
        server = server_of(folder)
        if not remove(folder):
            raise InputError(f"{folder}: another mm1 is building it; stop that one first")
        left = f"; what {server} may have saved of it stays on its disk" if server else ""
        stdout.write(f"removed {folder}{left}\n")


def collect(settings: Settings, stdout: TextIO) -> None:
    """Removes what was not used for longest until all fits --max-cache."""
    contexts = cache(settings)
    gone = contexts.shrink()
    stdout.write("".join(f"removed {one.folder.name}, {size(one.num_bytes)}\n" for one in gone))
    for why in filter(None, (why_foreign(one.folder) for one in contexts)):
        stdout.write(f"left: {safe_line(why)}\n")
    stdout.write(f"{size(contexts.num_bytes())} kept\n")


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


def _facts(one: CacheEntry) -> dict[str, object]:
    context = one.context
    folder, documents = origin_of(one.folder)
    state = None if context is None or context.is_on_server else context
    return {
        "context": str(one.folder),
        "folder": folder,
        "of": documents,
        "tokens": context.num_tokens if context else None,
        "bytes": one.num_bytes,
        "used_s": int(one.used_s),
        "model": context.fingerprint if context else None,
        "chunk_tokens": state.chunk_tokens if state else None,
        "kv": state.kv if state else None,
        **({"server": server_of(one.folder)} if context and context.is_on_server else {}),
        **({"problem": one.why} if one.why else {}),
    }


def _for_people(key: str, value: object) -> str:
    if isinstance(value, int) and key == "bytes":
        return size(value)
    if isinstance(value, int) and key == "used_s":
        return date(value)
    if isinstance(value, list):
        return safe_line(", ".join(map(str, value)))
    return f"{value:,}" if isinstance(value, int) else safe_line(str(value))
