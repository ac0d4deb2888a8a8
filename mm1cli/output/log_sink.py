"""The sink that keeps answers in the log; shows nothing, and never fails a run."""

import sqlite3
import time

from mm1cli.answer_log import AnswerLog, corpus_hash
from mm1cli.errors import Mm1Error
from mm1cli.ingest.manifest import Manifest
from mm1cli.output.events import answer_json, plain
from mm1cli.result import Answer
from mm1cli.sink import CorpusEvent, Event, ManifestEvent, RunInfo, Sink


class LogSink(Sink):
    def __init__(self, log: AnswerLog, aside: Sink) -> None:
        """`aside` is told once if an answer cannot be kept."""
        self._log, self._aside = log, aside
        self._run = RunInfo("", "")
        self._manifest: Manifest | None = None
        self._corpus = ""
        self._has_failed = False

    def emit(self, event: Event) -> None:
        match event:
            case RunInfo():
                self._run = event
            case ManifestEvent():
                self._manifest = event.manifest
            case CorpusEvent():
                self._corpus = corpus_hash(event.corpus.documents)
            case Answer() if not self._has_failed:
                self._keep(event)

    def _keep(self, answer: Answer) -> None:
        told = plain(answer_json(answer, self._manifest))
        assert isinstance(told, dict)
        try:
            self._log.add(self._run.command, self._run.model, self._corpus, told, time.time())
        except (Mm1Error, OSError, sqlite3.Error) as error:
            self._has_failed = True
            self._aside.note(f"the answer is not kept in the log: {error}")
