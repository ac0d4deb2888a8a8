"""One run, several sinks: what people or programs follow, and the report beside it."""

from mm1cli.sink import Event, Sink


class Tee(Sink):
    """Every event goes to each of `sinks`, in their order."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def emit(self, event: Event) -> None:
        for sink in self._sinks:
            sink.emit(event)
