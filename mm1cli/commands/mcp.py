"""`mm1 mcp`: documents for any agent that speaks MCP, over stdio or HTTP on loopback."""

from collections.abc import Callable, Sequence
from typing import Any

from mm1cli.answering.answer import Answerer
from mm1cli.answering.question import Question, check
from mm1cli.commands.listening import listener, serve
from mm1cli.commands.opened import opened
from mm1cli.commands.opening import begin
from mm1cli.commands.reading import Sources, counted, outcomes
from mm1cli.errors import UsageError
from mm1cli.ingest.corpus import Corpus, Document, Omission
from mm1cli.output.events import answer_json, plain
from mm1cli.settings import Settings
from mm1cli.sink import Sink
from mm1cli.tools.corpus_tools import CorpusTools

_MISSING = "mm1 mcp needs the SDK: pip install 'mm1[mcp]'"


def run(sources: Sources, settings: Settings, sink: Sink, *, port: int | None) -> None:
    """Reads once, then serves until the client goes away (stdio), or for good (HTTP)."""
    try:
        from mm1cli.mcp.server import make_server
    except ModuleNotFoundError:
        raise UsageError(_MISSING) from None
    taken = None if port is None else listener("127.0.0.1", port)
    found = list(outcomes(sources, settings, sink))
    corpus = Corpus(
        tuple(one for one in found if isinstance(one, Document)),
        tuple(one for one in found if isinstance(one, Omission)),
    )
    server = make_server(CorpusTools(corpus), asker(found, settings, sink))
    count = len(corpus.documents)
    if count == 0:
        sink.note(f"no documents to serve; {len(corpus.omissions):,} files were left out")
    if taken is None:
        server.run("stdio")
        return
    things = "1 document" if count == 1 else f"{count:,} documents"
    sink.note(f"serving {things} at http://127.0.0.1:{port}/mcp; Ctrl-C ends")
    serve(server.streamable_http_app(), taken, sink)


def asker(
    found: Sequence[Document | Omission], settings: Settings, sink: Sink
) -> Callable[[str], dict[str, Any]]:
    """Answers questions about what was read, with a model that is opened for the first of them."""
    answerer: Answerer | None = None

    def ask(text: str) -> dict[str, Any]:
        nonlocal answerer
        check([text])
        if answerer is None:
            chosen = begin("mcp", settings, sink)
            reading = counted(found, [Question(text)], chosen, sink)
            answerer = opened(reading, chosen, sink).answerer(sink)
        told = plain(answer_json(answerer.answer(Question(text)), None))
        assert isinstance(told, dict)
        return told

    return ask
