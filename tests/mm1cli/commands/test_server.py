"""Red here means `--server` answers otherwise than the same model here, or fails without saying."""

from pathlib import Path

import pytest
import tiny
from commandline import ASK, write_files
from ggufs import tiny_gguf
from llama_server import LlamaServer
from recorded_server import recorded

NUM_TOKENS = 4096
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
    assert mm1("context", "build", notes, "-o", "x.mm1ctx").code == 2
    assert mm1(*asked, "--server", "https://models.example", "--offline").code == 7
