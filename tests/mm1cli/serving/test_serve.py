"""`mm1 serve` held against OpenAI's own client and a real one for terminals (llm), on loopback."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from commandline import ASK, NOTES, write_files

from mm1cli.commands import serve
from mm1cli.errors import InputError, UsageError
from mm1cli.output import make_sink
from mm1cli.settings import Settings
from mm1cli.tools.formats import Call, ToolFormat

openai = pytest.importorskip("openai", reason="OpenAI's client is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="mm1[serve] is not installed")

from engine.api import Markers, max_positions  # noqa: E402
from mm1cli.serving import app as app_module  # noqa: E402
from mm1cli.serving.app import Api, Guard  # noqa: E402
from mm1cli.serving.engines import Engines  # noqa: E402

TURN = [{"role": "user", "content": "where is the rat?"}]


@pytest.fixture(scope="module")
def server(checkpoints, tmp_path_factory):
    """The address of a server of a tiny model and a saved context of it."""
    folder = tmp_path_factory.mktemp("serve")
    model = checkpoints["llama"]
    before = Path.cwd()
    os.chdir(write_files(folder, {f"notes/{name}": text for name, text in NOTES.items()}))
    settings = Settings(
        model=str(model), threads=1, max_tokens=8, cache_dir=str(folder / "cache"),
        always_answer=True, write=True,
    )  # fmt: skip
    from mm1cli.commands import context
    from mm1cli.commands.reading import Sources

    saved = folder / "notes.mm1ctx"
    sink = make_sink("text", True)
    context.build(Sources(["notes"]), saved, settings, sink, sys.stderr, as_json=False)
    engines = Engines("tiny", settings, sink, [saved])
    api = Api(engines, settings, Guard(), lambda: max_positions(model))
    config = uvicorn.Config(api.app(), host="127.0.0.1", port=0, log_level="error")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    thread.join()
    os.chdir(before)


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server}/v1", api_key="x") as client:
        yield client


def raw(port: int, head: str, body: bytes = b"") -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        return connection.makefile(encoding="utf-8", newline="").readline().strip()


def test_models_are_listed_with_their_context_and_saved_contexts(client):
    listed = {model.id: model for model in client.models.list()}
    assert set(listed) == {"tiny", "context:notes"}
    tiny = listed["tiny"]
    assert tiny.context_length == tiny.max_model_len == tiny.meta["n_ctx_train"] > 0
    assert client.models.retrieve("context:notes").id == "context:notes"


def test_a_stream_joins_to_the_answer_and_the_prompt_is_read_once(client):
    """Red: a client sees another answer than one that does not stream, or waits for all of it."""
    whole = client.chat.completions.create(model="tiny", messages=TURN, seed=3, temperature=0)
    assert whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 8
    stream = client.chat.completions.create(
        model="tiny", messages=TURN, temperature=0, stream=True,
        stream_options={"include_usage": True}, extra_body={"return_progress": True},
    )  # fmt: skip
    chunks = list(stream)
    first, last = chunks[0].choices[0], chunks[-1]
    assert first.delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert last.usage.prompt_tokens_details.cached_tokens == last.usage.prompt_tokens
    fresh = [{"role": "user", "content": "progress of another prompt"}]
    told = client.chat.completions.create(
        model="tiny", messages=fresh, stream=True, extra_body={"return_progress": True}
    )
    assert any(getattr(chunk, "prompt_progress", None) for chunk in told)


def test_schemas_stops_and_logprobs(client):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    told = client.chat.completions.create(
        model="tiny", messages=TURN, response_format=form, max_tokens=60
    )
    assert isinstance(json.loads(told.choices[0].message.content)["n"], int)
    told = client.chat.completions.create(model="tiny", messages=TURN, logprobs=True)
    scores = told.choices[0].logprobs.content
    assert len(scores) == 8 and all(one.logprob <= 0 for one in scores)


def test_completions_take_tokens_and_score_a_prompt(client, server):
    """Red: a harness that measures models cannot score a text."""
    ids = client.post(
        f"http://127.0.0.1:{server}/tokenize", body={"content": "the rat"}, cast_to=object
    )
    told = client.completions.create(
        model="tiny", prompt=ids["tokens"], max_tokens=0, echo=True, logprobs=1
    )
    choice = told.choices[0]
    assert choice.text == "the rat" and choice.logprobs.token_logprobs[0] is None
    assert len(choice.logprobs.tokens) == len(ids["tokens"])
    assert all(one <= 0 for one in choice.logprobs.token_logprobs[1:])
    longer = client.completions.create(model="tiny", prompt="the rat", max_tokens=3, stream=True)
    assert "".join(chunk.choices[0].text for chunk in longer)


def test_a_saved_context_answers_with_citations(client):
    """Red: the reply of a context says nothing of its sources."""
    told = client.chat.completions.create(
        model="context:notes", messages=[{"role": "user", "content": ASK}]
    )
    message = told.choices[0].message
    assert message.content.strip()
    (first, *_) = message.citations
    assert first["path"].startswith("notes/") and first["text"] in NOTES[first["path"][6:]]
    chunks = list(
        client.chat.completions.create(
            model="context:notes", messages=[{"role": "user", "content": ASK}], stream=True
        )
    )
    assert chunks[-1].choices[0].delta.citations == message.citations
    short = client.chat.completions.create(
        model="context:notes", messages=[{"role": "user", "content": ASK}], max_tokens=2
    )
    assert short.usage.completion_tokens == 2 < told.usage.completion_tokens


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /health HTTP/1.1\nHost: 127.0.0.1", 200),
        ("GET /v1/models HTTP/1.1\nHost: evil.example", 403),
        ("GET /v1/models HTTP/1.1\nHost: 127.0.0.1\nOrigin: https://evil.example", 403),
        ("GET /v1/models HTTP/1.1\nHost: localhost\nOrigin: null", 403),
        ("POST /v1/chat/completions HTTP/1.1\nHost: localhost\nContent-Length: 1", 400),
        ("GET /v1/models/none HTTP/1.1\nHost: localhost", 404),
    ],
)
def test_only_this_machine_is_answered(server, head: str, status: int):
    """Red: a page on the web can speak to the server of whoever looks at it."""
    assert raw(server, head, b"{" if "POST" in head else b"").split()[1] == str(status)


def test_bodies_and_the_line_are_bounded(server, client, monkeypatch):
    monkeypatch.setattr(app_module, "MOST_BODY_BYTES", 100)
    with pytest.raises(openai.APIStatusError) as error:
        client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "x" * 200}]
        )
    assert error.value.status_code == 413


def test_who_goes_away_is_not_answered_on(server, client):
    """Red: an answer that nobody reads keeps the engine."""
    body = json.dumps({"messages": TURN, "max_tokens": 10_000, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\nHost: localhost\nContent-Length: {len(body)}"
    assert "200" in raw(server, head, body)  # and the connection is closed
    began = time.monotonic()
    client.chat.completions.create(model="tiny", messages=TURN, max_tokens=2)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": [{"role": [], "content": ""}]},
        {"messages": [{"role": "user", "content": "", "tool_calls": 1}]},
        {"temperature": "hot"},
        {"n": 2},
        {"stop": [1]},
        {"tools": 5},
    ],
)
def test_a_request_that_makes_no_sense_is_400(client, fields):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{"model": "tiny", "messages": TURN} | fields)


def test_a_key_is_needed_beyond_loopback(tmp_path):
    """Red: a network can use the model, or a key that all can read is taken."""
    settings, sink = Settings(), make_sink("text", True)
    with pytest.raises(UsageError, match="--key-file"):
        serve.run((), settings, sink, host="0.0.0.0", port=1, key_file=None)
    file = tmp_path / "key"
    file.write_text("a" * 20)
    file.chmod(0o644)
    with pytest.raises(InputError, match="others can read it"):
        serve.read_key(file)
    file.chmod(0o600)
    assert serve.read_key(file) == "a" * 20

    asked = SimpleNamespace(headers={"host": "a.b", "authorization": "Bearer " + "b" * 20})
    assert Guard("a" * 20).refusal(asked).status_code == 401


def test_calls_of_tools_are_read_as_each_family_writes_them():
    """Red: an agent sees markup instead of a call, or a call of a tool that there is not."""
    hermes = ToolFormat(Markers("<tool_call>", "</tool_call>"))
    minimax = ToolFormat(Markers("<tool_calls>", "</tool_calls>"))
    calls = [Call("search", {"query": "rat"}), Call("open", {"path": "a"})]
    for format in (hermes, minimax, ToolFormat(Markers("[TOOL_CALLS]", ""))):
        assert format.parse(f"Let me see.\n{format.told(calls)}", ["search", "open"]) == (
            "Let me see.", calls,
        )  # fmt: skip
        text = format.told([Call("rm", {})])
        assert format.parse(text, ["search"]) == (text, [])
    assert hermes.parse("<tool_call>\nnonsense</tool_call>", ["a"])[1] == []


def test_a_client_for_terminals_speaks_to_it(server, tmp_path):
    """Red: what people use does not work though OpenAI's own client does."""
    pytest.importorskip("llm", reason="llm is not installed")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: tiny\n  model_name: tiny\n  api_base: http://127.0.0.1:{server}/v1\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "tiny", "--no-log", "where is the rat?"],
        env=os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "x"},
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0 and ran.stdout.strip(), ran.stderr
