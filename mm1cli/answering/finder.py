"""A model that only searches: it reads all documents once, and what each question attends to in
them orders the passages that another model reads and answers from."""

import threading

from engine.api import Engine
from mm1cli.answering.context_source import ContextSource
from mm1cli.answering.prefill import Prefiller
from mm1cli.ingest.manifest import ReadingPlan
from mm1cli.ingest.pack import Packed
from mm1cli.retrieval.attended import Attended
from mm1cli.settings import Settings
from mm1cli.sink import Sink


class Finder:
    """One engine that selects, and the documents as it reads them."""

    def __init__(
        self,
        engine: Engine,
        packed: Packed,
        settings: Settings,
        sink: Sink,
        source: ContextSource | None,
    ) -> None:
        stage = f"{settings.model} reads"
        self._prefiller = Prefiller(
            engine, packed, ReadingPlan.WHOLE, settings, sink, source, stage=stage
        )
        self._lock = threading.Lock()  # answers may be written side by side

    def attended(self, question: str) -> Attended | None:
        """What `question` attends to; the first reads the documents."""
        with self._lock:
            return self._prefiller.attended(question)
