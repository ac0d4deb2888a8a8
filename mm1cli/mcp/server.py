"""The tools of `mm1 mcp`, for the SDK `mcp`: read-only, and confined to what was read at the start.

No tool opens a path: documents are known by their names in `list_documents`. All but `ask` need no
model; `ask` opens one when it is first called.
"""

from collections.abc import Callable
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from mm1cli.about import version
from mm1cli.errors import Mm1Error
from mm1cli.tools.corpus_tools import CorpusTools

_INSTRUCTIONS = (
    "Documents of the user, read-only. Quote from them only what find_quote finds, and run "
    "check_claims on what you are about to state about them."
)
_READ_ONLY = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_Json = dict[str, Any]

Path = Annotated[str, Field(description="A path as list_documents has it")]
Start = Annotated[int, Field(description="The character to begin at", ge=0)]
MaxChars = Annotated[int, Field(description="At most so many characters", ge=1, le=20_000)]
Query = Annotated[str, Field(description="Words to look for", max_length=2_000)]
Limit = Annotated[int, Field(description="At most so many passages", ge=1, le=50)]
Quote = Annotated[str, Field(description="The quotation, without its marks", max_length=10_000)]
Text = Annotated[str, Field(description="Sentences to check", max_length=50_000)]
Words = Annotated[str, Field(description="A word, or words in a row", max_length=500)]
Asked = Annotated[str, Field(description="The question", max_length=4_000)]


def make_server(tools: CorpusTools, ask: Callable[[str], _Json] | None) -> MCPServer[Any]:
    """`ask` answers a question with its citations; without one there is no such tool."""
    server: MCPServer[Any] = MCPServer(
        "mm1", instructions=_INSTRUCTIONS, version=version(), log_level="ERROR"
    )
    lock = anyio.Lock()  # one question at a time

    async def told(work: Callable[[], _Json]) -> _Json:
        try:
            async with lock:
                return await anyio.to_thread.run_sync(work)
        except Mm1Error as error:
            raise ToolError(str(error)) from None

    @server.tool(annotations=_READ_ONLY)
    async def list_documents() -> _Json:
        """The documents there are, and the files that were left out, each with its reason."""
        return await told(tools.list_documents)

    @server.tool(annotations=_READ_ONLY)
    async def read(path: Path, start: Start = 0, max_chars: MaxChars = 20_000) -> _Json:
        """The text of a document, with its pages, sheets and slides named; next_start goes on."""
        return await told(lambda: tools.read(path, start, max_chars))

    @server.tool(annotations=_READ_ONLY)
    async def search(query: Query, limit: Limit = 5) -> _Json:
        """The passages that fit the words of the query best, each with its place."""
        return await told(lambda: tools.search(query, limit))

    @server.tool(annotations=_READ_ONLY)
    async def count(words: Words) -> _Json:
        """How often words stand in each document, and which documents never have them."""
        return await told(lambda: tools.count(words))

    @server.tool(annotations=_READ_ONLY)
    async def find_quote(quote: Quote) -> _Json:
        """Whether a quotation stands in the documents: exact, normalised (spacing and letter forms)
        or not found; and every place of it."""
        return await told(lambda: tools.find_quote(quote))

    @server.tool(annotations=_READ_ONLY)
    async def check_claims(text: Text) -> _Json:
        """Each sentence: carried by the documents, contradicted, or not carried, and by which
        passage. Decided by words, numbers, dates and negations; no model is asked."""
        return await told(lambda: tools.check_claims(text))

    if ask is not None:

        @server.tool(name="ask", annotations=_READ_ONLY)
        async def ask_documents(question: Asked) -> _Json:
            """An answer by the local model, with citations that were found by the program. Takes
            seconds to minutes."""
            return await told(lambda: ask(question))

    return server
