"""A sink whose reader may go away while files of -o are still to be written."""

from mm1cli import streams
from mm1cli.sink import Event, Sink


class Outliving(Sink):
    """As `sink`, but a stream that closes or fills up ends no run: it is shut, and `failure` is
    what the run ends in when its files are written."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.failure: OSError | None = None

    def emit(self, event: Event) -> None:
        try:
            self._sink.emit(event)
        except OSError as error:
            if not streams.is_stream_lost(error):
                raise
            if self.failure is not None:  # stdout is shut already: it is the other one
                streams.drop_stderr()
            self.failure = error
            streams.drop_stdout()
