"""Red here means `--server` answers otherwise than the same model here, or fails without saying."""

import json
from pathlib import Path

import pytest
import tiny
from commandline import ASK, write_files
from ggufs import tiny_gguf
from llama_server import LlamaServer
from recorded_server import recorded

NUM_TOKENS = 4096
BRIDGE = "# The bridge\n\nThe bridge at Salmi was built by Aino Vesa and opened in 1904.\n"
FERRY = "The ferry was given up in 1903.\n\nIts crew went to the railway.\n"
SHORT = ("--max-tokens", 4, "--json")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    template = {"tokenizer.chat_template": tiny.CHATML, "llama.context_length": NUM_TOKENS}
    return tiny_gguf(tmp_path_factory.mktemp("llama"), "llama", metadata=template)


@pytest.mark.server
def test_two_engines_give_one_answer(mm1, gguf):
    """Red: counts, evidence or its order depend on where the model runs."""
    write_files(Path("notes"), {"a.txt": "The hat is where the rat ate that.", "b.txt": "A mat!"})
    asked = ("analyze", "notes", "--ask", "the rat?")
    ran = mm1(*asked, "--model", gguf, "--threads", 1, *SHORT).json
    (here,) = ran["answers"]
    files = ran["manifest"]["files"]
    with LlamaServer(gguf, NUM_TOKENS) as server:
        ran = mm1(*asked, "--ask", "a mat?", "--server", server.url, *SHORT)
        probed = mm1("server", "probe", server.url, "--json").json
    assert ran.code == 0, ran.err
    there = ran.json
    assert there["manifest"]["files"] == files
    first, second = there["answers"]
    evidence = [[one["text"] for one in told["citations"]] for told in (here, first)]
    assert evidence[0] == evidence[1] != []
    for a, b in zip(here["citations"], first["citations"], strict=True):
        assert abs(a["score"] - b["score"]) < 5e-3 and a["locator"] == b["locator"]
    assert first["model_fingerprint"].startswith(here["model_fingerprint"])
    assert first["usage"]["reused_tokens"] < 40 < second["usage"]["reused_tokens"]
    assert (probed["level"], probed["max_context"]) == ("A", NUM_TOKENS)
    assert probed["kind"] == "llama" and all(probed["holds"].values())


def chat_server(status=200):
    events = [
        {
            "choices": [
                {
                    "delta": {
                        "content": 'It cost "48.2 crowns", says "the dog ate the whole bridge".'
                    }
                }
            ]
        },
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    ]
    listed = {"data": [{"id": "m", "object": "model", "owned_by": "library"}]}
    told = listed if status == 200 else {"error": "Unauthorized"}
    return {
        "GET /v1/models": (status, told),
        "POST /v1/chat/completions": (200, events),
    }


def test_over_a_chat_what_does_not_hold_is_said_and_quotes_are_checked(mm1, notes):
    """Red: estimates are told for counts, or a quotation that stands nowhere is believed."""
    with recorded(chat_server()) as server:
        asked = ("analyze", notes, "--ask", "What did it cost?", "--server", server.url)
        ran = mm1(*asked, "--json")
        (body,) = server.bodies("/v1/chat/completions")
        strict = mm1(*asked, "--strict")
    assert ran.code == 0 and "level C" in ran.err and "estimates" in ran.err
    assert "48.2 crowns" in body["messages"][-1]["content"]
    assert any("48.2" in one["text"] for one in ran.json["citations"])
    assert ran.json["answers"][0]["unverified"] == ["the dog ate the whole bridge"]
    assert strict.code == 5 and "--strict" in strict.err


def test_over_a_chat_a_reranker_of_the_servers_orders_evidence(mm1):
    """Red: evidence stands as bm25 has it, though the server has a model that knows better."""
    write_files(Path("notes"), {f"{n}.txt": f"The bridge {n} cost {n}8 crowns." for n in range(4)})
    asked = ("analyze", "notes", "--ask", "What did the bridge cost?", "--json", "--server")

    def reranked(body):
        texts = enumerate(body["documents"])
        return {"results": [{"index": n, "relevance_score": float("38" in t)} for n, t in texts]}

    listed = {"data": [{"id": "m"}, {"id": "bge-reranker"}]}
    replies = chat_server() | {"GET /v1/models": (200, listed)}
    with recorded(replies | {"POST /v1/rerank": (200, reranked)}) as server:
        ran = mm1(*asked, server.url)
    assert ran.code == 0 and "ordered by words and bge-reranker" in ran.err
    assert "38 crowns" in ran.json["answers"][0]["citations"][0]["text"]
    with recorded(replies) as server:
        alone = mm1(*asked, server.url)
    assert alone.code == 0 and "ordered by words alone" in alone.err
    assert "08 crowns" in alone.json["answers"][0]["citations"][0]["text"]


def test_each_way_a_server_fails_has_its_code_and_line(mm1, notes, monkeypatch, tmp_path):
    asked = ("analyze", notes, "--ask", ASK)
    with recorded(chat_server(401)) as server:
        monkeypatch.setenv("MM1_SERVER", server.url)
        assert (mm1(*asked).code, len(server.requests)) == (2, 1)
        monkeypatch.setenv("MM1_API_KEY", "s3cret-key")
        ran = mm1(*asked)
        assert ran.code == 2 and "refuses the key" in ran.err and "s3cret" not in ran.err
        assert server.requests[-1][2]["Authorization"] == "Bearer s3cret-key"
        key = tmp_path / "key"
        key.write_text("of-a-file\n")
        mm1(*asked, "--api-key-file", key)
        assert server.requests[-1][2]["Authorization"] == "Bearer of-a-file"
    gone = mm1(*asked)
    assert gone.code == 7 and "no server answers there" in gone.err and gone.out == ""
    assert mm1("context", "build", notes, "-o", "x.mm1ctx").code == 7
    assert mm1(*asked, "--server", "https://models.example", "--offline").code == 7


CHAT = "POST /v1/chat/completions"
CUT = chat_server() | {CHAT: (200, chat_server()[CHAT][1][:1])}
TOO_LONG = {"error": {"message": "more than the context length", "type": "exceed_context_size"}}


@pytest.mark.parametrize(
    ("replies", "code", "words"),
    [
        (CUT, 7, "went away in the middle"),
        ({"GET /v1/models": (200, b"<html>")}, 7, "no JSON"),
        ({}, 7, "no list of models"),
        (chat_server() | {CHAT: (413, {})}, 4, "takes no request of"),
        (chat_server() | {CHAT: (400, TOO_LONG)}, 4, "server's context"),
        (chat_server() | {CHAT: (500, {})}, 7, "says 500"),
    ],
)
def test_what_a_server_does_wrong_is_one_line_and_the_documented_code(
    mm1, notes, replies, code, words
):
    """Red: a script cannot tell a server that is gone from documents that are too many."""
    with recorded(replies) as server:
        ran = mm1("analyze", notes, "--ask", ASK, "--server", server.url)
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert ran.code == code and len(errors) == 1 and words in errors[0], ran.err


@pytest.mark.server
def test_smollm2_over_a_server_is_smollm2_here(mm1, mini_gguf):
    """Red: with a model that people run, counts, evidence or quotes depend on where it runs."""
    write_files(Path("papers"), {"bridge.md": BRIDGE, "ferry.txt": FERRY})
    asked = ("analyze", "papers", "--ask", "Who built the bridge?", "--max-tokens", 24, "--json")
    with LlamaServer(mini_gguf, 2048) as server:
        there = mm1(*asked, "--server", server.url)
    here = mm1(*asked, "--model", mini_gguf, "--threads", 1)
    assert (there.code, here.code) == (0, 0), there.err + here.err
    a, b = here.json, there.json
    assert a["manifest"]["files"] == b["manifest"]["files"]
    (a,), (b,) = a["answers"], b["answers"]
    assert "Aino Vesa" in b["answer"] and b["unverified"] == a["unverified"] == []
    assert [one["text"] for one in a["citations"]] == [one["text"] for one in b["citations"]]
    told = [(x["score"], y["score"]) for x, y in zip(a["citations"], b["citations"], strict=True)]
    # Over Q4_1 a llama-server rounds activations to eight bits: 0.02 nats in the mean over a
    # question, 0.15 for one token. Where weights are floats both are within 5e-3, as above.
    assert told and all(abs(x - y) < 0.1 for x, y in told)


def test_a_run_over_many_documents_goes_on_after_its_server_has_died(mm1):
    """Red: what was answered before a server died is asked again, or lost."""
    write_files(Path("notes"), {"a.txt": "It cost 48.2 crowns.", "b.txt": "It was closed."})
    asked = ("map", "notes", "--ask", ASK, "-o", "out.jsonl", "--server")
    whole, cut = chat_server()[CHAT][1], CUT[CHAT][1]
    answers = [whole, cut, whole]
    with recorded(chat_server() | {CHAT: (200, lambda _: answers.pop(0))}) as server:
        died, again = mm1(*asked, server.url), mm1(*asked, server.url)
        asked_of = [body["messages"][-1]["content"] for body in server.bodies(CHAT.split()[1])]
    assert died.code == 7 and "went away in the middle" in died.err
    assert again.code == 0 and "1 are in out.jsonl" in again.err
    assert ["48.2 crowns" in one for one in asked_of] == [True, False, False]
    lines = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [one["name"] for one in lines[1:-1]] == ["notes/a.txt", "notes/b.txt"]
