"""`mm1 mcp` held against the SDK's own client: in this process, over stdio, and as an app."""

import json
import shutil
import socket
import sys
import threading
from pathlib import Path

import anyio
import pytest
import uvicorn
from commandline import MAIN, write_files

from mm1cli.commands.mcp import asker, run
from mm1cli.commands.reading import Sources, outcomes
from mm1cli.commands.tool_flags import tool_options
from mm1cli.errors import InputError, UsageError
from mm1cli.ingest.read import read_corpus
from mm1cli.mcp.client import outside_tools
from mm1cli.output import make_sink
from mm1cli.settings import Settings
from mm1cli.tools.corpus_tools import CorpusTools

mcp = pytest.importorskip("mcp", reason="the SDK of MCP is not installed")

FILES = {
    "lease.md": "# Lease\n\nThe rent is 815 crowns a month.\nNotice is three\nmonths, "
    "in writing.\n",
    "letter.txt": "The tenant did not pay the rent in May 2024.\n",
}


@pytest.fixture
def tools(no_settings) -> CorpusTools:
    return CorpusTools(read_corpus([str(write_files(Path("papers"), FILES))]))


def told(result) -> dict:
    assert not result.is_error, result.content
    return result.structured_content


def call(tools, name: str, **arguments):
    """What the tool gives over the protocol, in this process."""
    from mm1cli.mcp.server import make_server

    async def run():
        async with mcp.Client(make_server(tools, None)) as client:
            return await client.call_tool(name, arguments)

    return anyio.run(run)


def test_the_tools_are_described_and_only_read(tools):
    from mm1cli.mcp.server import make_server

    async def run():
        async with mcp.Client(make_server(tools, lambda _: {})) as client:
            return (await client.list_tools()).tools

    listed = {tool.name: tool for tool in anyio.run(run)}
    assert set(listed) == {
        "list_documents", "read", "search", "count", "find_quote", "check_claims", "ask",
    }  # fmt: skip
    for tool in listed.values():
        assert tool.annotations.read_only_hint and tool.description


def test_an_agent_has_its_quotes_checked(tools):
    """Red: a quotation that stands nowhere is called found, or a true one is not."""
    exact = told(call(tools, "find_quote", quote="The rent is 815 crowns a month."))
    assert exact["status"] == "exact" and exact["places"][0]["path"] == "papers/lease.md"
    assert exact["places"][0]["place"] == "line 3"
    folded = told(call(tools, "find_quote", quote="Notice is three months, in writing."))
    assert (
        folded["status"] == "normalised"
        and folded["text"] == "Notice is three\nmonths, in writing."
    )
    missing = told(call(tools, "find_quote", quote="The rent is 915 crowns a month."))
    assert missing["status"] == "not found" and "815" in missing["nearest"]["text"]


def test_each_sentence_is_carried_contradicted_or_neither(tools):
    """Red: an invented number is carried, or a verbatim sentence is not."""
    text = "The rent is 815 crowns a month. The rent is 900 crowns a month. The garden is large."
    marks = [one["mark"] for one in told(call(tools, "check_claims", text=text))["sentences"]]
    assert marks[0] == "carried" and marks[1] != "carried" and marks[2] == "not carried"


def test_documents_are_listed_read_searched_and_counted(tools):
    paths = [one["path"] for one in told(call(tools, "list_documents"))["documents"]]
    assert paths == ["papers/lease.md", "papers/letter.txt"]
    part = told(call(tools, "read", path=paths[0], start=10, max_chars=8))
    assert len(part["text"]) == 8 and part["next_start"] == 18
    (best, *_) = told(call(tools, "search", query="who did not pay?"))["passages"]
    assert best["path"] == "papers/letter.txt"
    counted = told(call(tools, "count", words="Notice"))
    assert counted["total"] == 1 and counted["without"] == ["papers/letter.txt"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "papers/../papers/lease.md", ""])
def test_no_other_file_is_read(tools, path: str):
    """Red: an agent reads what it was not given."""
    result = call(tools, "read", path=path)
    assert result.is_error and "no such document" in result.content[0].text


def test_over_stdio_nothing_else_is_printed(no_settings):
    """Red: something is printed into the protocol."""
    write_files(Path("papers"), FILES)
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-c", MAIN, "mcp", "papers"],
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
    )

    async def run():
        async with mcp.Client(mcp.stdio_client(server)) as client:
            return await client.call_tool("find_quote", {"quote": "The rent is 815 crowns"})

    assert told(anyio.run(run))["status"] == "exact"


def test_over_http_the_tools_are_the_same_and_the_port_is_ones_own(no_settings, monkeypatch):
    """Red: HTTP is announced and answers nothing, or a port that is taken ends in a traceback."""
    write_files(Path("papers"), FILES)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        for bad, said in ((port, "in use"), (99_999, "from 1 to 65,535")):
            with pytest.raises(UsageError, match=said):
                run(Sources(["papers"]), Settings(), make_sink("text", True), port=bad)
    found = []

    async def asked():
        async with mcp.Client(f"http://127.0.0.1:{port}/mcp") as client:
            return await client.call_tool("find_quote", {"quote": "The rent is 815 crowns"})

    def client(app, taken, sink):
        config = uvicorn.Config(app, log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([taken],))
        thread.start()
        try:
            found.append(told(anyio.run(asked)))
        finally:
            server.should_exit = True
            thread.join()

    monkeypatch.setattr("mm1cli.commands.mcp.serve", client)
    run(Sources(["papers"]), Settings(), make_sink("text", True), port=port)
    assert found[0]["status"] == "exact"


def test_a_question_is_answered_with_sources(llama, no_settings):
    """Red: the model cannot be asked, or its answer has no citations."""
    write_files(Path("papers"), FILES)
    settings = Settings(
        model=str(llama), max_tokens=8, threads=1, no_cache=True, always_answer=True
    )
    sink = make_sink("text", True)
    ask = asker(list(outcomes(Sources(["papers"]), settings, sink)), settings, sink)
    shutil.rmtree("papers")  # asked is what was read when the server began
    answer = ask("What is the rent?")
    assert answer["question"] == "What is the rent?"
    assert answer["citations"][0]["path"].startswith("papers/")
    assert ask("And the notice?")["question"] == "And the notice?"


def test_tools_of_another_server_are_called_if_a_flag_names_them(no_settings, tmp_path):
    """Red: an outside tool cannot be called, or one that nobody allowed can."""
    write_files(Path("papers"), FILES)
    file = tmp_path / "mcp.json"
    server = {"command": sys.executable, "args": ["-c", MAIN, "mcp", "papers"]}
    server["env"] = {"PYTHONPATH": str(Path(__file__).parents[3])}
    file.write_text(json.dumps({"mcpServers": {"docs": server}}))
    with outside_tools(file, ["docs.count"]) as (tool,):
        assert "rent" in tool.run(words="rent") and set(tool.parameters["required"]) == {"words"}
        with pytest.raises(InputError):
            tool.run(nonsense=1)
    with pytest.raises(UsageError, match="--mcp allows nothing"):
        tool_options(None, is_asked=False, most_calls=None, mcp_file=file).__enter__()
    with pytest.raises(UsageError, match="has no server"):
        outside_tools(file, ["web.fetch"]).__enter__()
