"""What answering cost: one answer, or all cells of a table."""

import time

from engine.api import Engine
from mm1cli.answering.generation import Generation
from mm1cli.result import Usage


class Meter:
    """Begins when it is made."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._began, self._io_before = engine, time.perf_counter(), engine.io_stats
        self._context_tokens = self._reused_tokens = self._output_tokens = 0
        self._drafted_tokens = self._accepted_tokens = 0
        self._prefill_s = self._decode_s = 0.0

    def note_prefill(self, context_tokens: int, reused_tokens: int, seconds: float) -> None:
        self._context_tokens += context_tokens
        self._reused_tokens += reused_tokens
        self._prefill_s += seconds

    def note_generation(self, generation: Generation, seconds: float) -> None:
        self._output_tokens += generation.num_tokens
        self._drafted_tokens += generation.num_drafted
        self._accepted_tokens += generation.num_accepted
        self._decode_s += seconds

    def usage(self, corpus_tokens: int, read_tokens: int, unread_tokens: int = 0) -> Usage:
        io = self._engine.io_stats
        if io is not None and self._io_before is not None:
            io = io.since(self._io_before)
        return Usage(
            corpus_tokens=corpus_tokens,
            read_tokens=read_tokens,
            context_tokens=self._context_tokens,
            reused_tokens=self._reused_tokens,
            output_tokens=self._output_tokens,
            prefill_s=self._prefill_s,
            decode_s=self._decode_s,
            total_s=time.perf_counter() - self._began,
            drafted_tokens=self._drafted_tokens,
            accepted_tokens=self._accepted_tokens,
            weights_read_bytes=None if io is None else io.read_bytes,
            weights_hit_rate=None if io is None else io.hit_rate,
            unread_tokens=unread_tokens,
        )
