"""`mm1 map`: the same questions to each of many documents, one line of JSON each."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.api import (
    Engine,
    EngineError,
    GrammarError,
    PlacementError,
    RoomError,
    ServerError,
    TooLongError,
)
from mm1cli.answering.answer import Answerer
from mm1cli.answering.generation import thinking_tokens
from mm1cli.answering.json_schema import Schema
from mm1cli.answering.prompt import frame_tokens
from mm1cli.answering.question import Question
from mm1cli.commands.backend import Backend, ServerBackend, backend
from mm1cli.commands.opening import begin
from mm1cli.commands.questions import parse
from mm1cli.commands.reading import Sources, fit_to_budget, outcomes
from mm1cli.errors import BudgetError, InputLeftOutError, UsageError
from mm1cli.ingest.corpus import Document, Omission
from mm1cli.ingest.pack import MAX_CONTENTS_TOKENS, pack_all
from mm1cli.interrupts import defer_interrupts, note_saved
from mm1cli.mapping.jobs import Jobs
from mm1cli.mapping.lines import Header, MapFile, Shard, folder_of
from mm1cli.output.events import answer_json
from mm1cli.retrieval.rerank import Reranker
from mm1cli.retrieval.retriever import Retriever
from mm1cli.settings import Settings
from mm1cli.sink import Event, Sink

Group = tuple[str, list[Document]]


@dataclass(frozen=True, slots=True)
class MapOptions:
    """`group_by` "document" or "folder"; `jobs` documents are asked at once, of a server."""

    output: Path
    shard: Shard
    group_by: str = "document"
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.group_by not in {"document", "folder"}:
            raise UsageError(f"--group-by is document or folder, not {self.group_by!r}")
        if self.jobs < 1:
            raise UsageError("--jobs is 1 or more")

    def name_of(self, path: str) -> str:
        return path if self.group_by == "document" else folder_of(path)


def run(
    sources: Sources, asks: Sequence[str], options: MapOptions, settings: Settings, sink: Sink
) -> None:
    """Raises what ends every document alike: a server that is gone, a key that is refused."""
    asked = parse(asks, None, settings)
    if not asked.questions:
        raise UsageError('no question: mm1 map PATHS --ask "What is it about?" -o out.jsonl')
    settings = begin("map", settings, sink)
    model = backend(settings, sink)
    if options.jobs > 1 and not isinstance(model, ServerBackend):
        raise UsageError("--jobs is for --server; a model that runs here has all cores already")
    engine = model.open_engine(settings, sink)
    header = Header(
        tuple(question.text for question in asked.questions),
        asked.schema,
        settings.model,
        engine.fingerprint,
        options.group_by,
        options.shard,
    )
    work = _Work(model, engine, asked.questions, asked.schema, settings, Reranker(engine))
    with MapFile(options.output, header) as file:
        num_before = len(file.done)
        if num_before:
            note_saved()
            sink.note(f"{num_before:,} are in {options.output} already")
        counts = Counter[str]()
        for told in _lines(sources, options, file.done, work, settings, sink):
            with defer_interrupts():  # a line is whole, or not there
                file.append(told)
                note_saved()
            counts[told["type"]] += 1
        num_failed = counts["failed"]
        file.append({"type": "end", "seen": len(file.done) + num_failed, "failed": num_failed})
    sink.note(
        f"{options.output}: {counts['document']:,} asked, {counts['left out']:,} left out, "
        f"{num_failed:,} failed; {len(file.done) + num_failed:,} in all"
    )
    if settings.strict and num_failed:
        raise InputLeftOutError(f"--strict: {num_failed:,} documents failed; their lines say why")


def _lines(
    sources: Sources,
    options: MapOptions,
    done: set[str],
    work: "_Work",
    settings: Settings,
    sink: Sink,
) -> Iterator[dict[str, Any]]:
    def is_wanted(path: str) -> bool:
        name = options.name_of(path)
        return options.shard.holds(name) and name not in done and path not in done

    order = None if options.group_by == "document" else folder_of
    with closing(outcomes(sources, settings, sink, is_wanted, order)) as found:
        wanted = _wanted(_groups(found, options), done)
        if options.jobs == 1:
            for group in wanted:
                yield _left_out(group) if isinstance(group, Omission) else work.line(*group)
            return
        jobs = Jobs(work.line, options.jobs)
        waiting = 0
        for group in wanted:
            if isinstance(group, Omission):
                yield _left_out(group)
                continue
            jobs.put(group)
            waiting += 1
            if waiting >= 2 * options.jobs:
                yield jobs.get()
                waiting -= 1
        for _ in range(waiting):
            yield jobs.get()


def _wanted(groups: Iterable[Group | Omission], done: set[str]) -> Iterator[Group | Omission]:
    for group in groups:
        if not isinstance(group, Omission):
            name, documents = group
            if name in done or not any(one.blocks for one in documents):
                continue
        yield group


def _groups(
    found: Iterable[Document | Omission], options: MapOptions
) -> Iterator[Group | Omission]:
    """By folder, the files of one folder come together; what an archive among them holds is in
    folders of its own. The documents of one folder are held, no more."""
    if options.group_by == "document":
        for one in found:
            yield one if isinstance(one, Omission) else (one.path, [one])
        return
    held: dict[str, list[Document]] = {}
    file = folder = ""
    for one in found:
        if not (file and one.path.startswith(f"{file}/")):  # no member of the file before it
            file = one.path
            if folder_of(file) != folder:
                yield from held.items()
                held, folder = {}, folder_of(file)
        if isinstance(one, Omission):
            yield one
        else:
            held.setdefault(folder_of(one.path), []).append(one)
    yield from held.items()


def _left_out(omission: Omission) -> dict[str, Any]:
    return {
        "type": "left out",
        "name": omission.path,
        "reason": str(omission.reason),
        "detail": omission.detail,
    }


class _Silent(Sink):
    def emit(self, event: Event) -> None:
        """Told to nobody: the line has it all."""


@dataclass(frozen=True, slots=True)
class _Work:
    model: Backend
    engine: Engine
    questions: Sequence[Question]
    schema: Schema | None
    settings: Settings
    reranker: Reranker

    def line(self, name: str, documents: Sequence[Document]) -> dict[str, Any]:
        """Of documents in a context of their own. One that this context cannot hold fails alone."""
        try:
            return {"type": "document", "name": name, **self._answered(documents)}
        except (TooLongError, RoomError, PlacementError, BudgetError) as error:
            return {"type": "failed", "name": name, "error": str(error)}
        except (ServerError, GrammarError):
            raise  # the next one fails, too
        except EngineError as error:
            return {"type": "failed", "name": name, "error": str(error)}

    def _answered(self, documents: Sequence[Document]) -> dict[str, Any]:
        model, settings, sink = self.model, self.settings, _Silent()
        tokenizer = model.tokenizer
        packed = pack_all(documents, tokenizer, MAX_CONTENTS_TOKENS)
        asked = [question.prompt_text for question in self.questions]
        frame = settings.max_tokens + thinking_tokens(tokenizer, settings)
        frame += frame_tokens(tokenizer, asked, settings.focus)
        reading = fit_to_budget(model, packed, frame, settings, sink)
        manifest = reading.manifest
        answerer = Answerer(
            self.engine,
            reading.packed,
            manifest.plan,
            settings,
            sink,
            retriever=Retriever(
                self.engine,
                reading.packed.corpus,
                search=settings.search,
                reranker=self.reranker,
            ),
            schema=self.schema,
        )
        answers = answerer.answers(self.questions)
        return {
            "answers": [answer_json(answer, manifest) for answer in answers],
            "manifest": manifest.as_json(),
        }
