"""Red here means a context over a server is answered from what another model read, or read again
where it was kept."""

from pathlib import Path

import pytest
import tiny
from commandline import ASK, write_files
from ggufs import tiny_gguf
from llama_server import LlamaServer

from engine import api

pytestmark = pytest.mark.server

NUM_TOKENS = 4096
NOTES = {"a.txt": "The hat is where the rat ate that, " * 40, "b.txt": "A mat!"}
CONTEXT = Path("notes.mm1ctx")


def model(folder, seed):
    template = {"tokenizer.chat_template": tiny.CHATML, "llama.context_length": NUM_TOKENS}
    return tiny_gguf(folder, "llama", seed=seed, metadata=template)


@pytest.fixture(scope="module")
def ggufs(tmp_path_factory):
    return [model(tmp_path_factory.mktemp("llama"), seed) for seed in (0, 1)]


def ask(mm1, server, context=CONTEXT):
    return mm1("ask", context, ASK, "--server", server.url, "--max-tokens", 4, "--json")


def scores(answer):
    return [one["score"] for one in answer["citations"]]


def reused(ran):
    return ran.json["answers"][0]["usage"]["reused_tokens"]


def test_a_context_outlives_its_server_and_no_other_model_speaks_for_it(mm1, ggufs, tmp_path):
    write_files(Path("notes"), NOTES)
    slots = tmp_path / "slots"
    slots.mkdir()
    gguf, other = ggufs
    with LlamaServer(gguf, NUM_TOKENS, slots=slots) as server:
        built = mm1("context", "build", "notes", "-o", CONTEXT, "--server", server.url, "--json")
        assert built.code == 0, built.err
        (slot,) = slots.iterdir()
        token_ids = api.saved_context(CONTEXT).token_ids()
        again = mm1("context", "build", "notes", "-o", CONTEXT, "--server", server.url, "--json")
        asked = ask(mm1, server)
        assert (built.json["tokens"], built.json["reused_tokens"]) == (len(token_ids), 0)
        assert again.json["reused_tokens"] >= len(token_ids) - 1
        (first,) = asked.json["answers"]
        assert reused(asked) == len(token_ids) and "again" not in asked.err
        assert mm1("context", "verify", CONTEXT).code == 0
        shown = mm1("context", "show", CONTEXT)
        plain = mm1("ask", CONTEXT, ASK)
        assert plain.code == 2 and "--server" in plain.err
        assert server.url in plain.err and server.url in shown.out
        assert "chunk" not in shown.out and "KV" not in shown.out, "they are the server's"

    whole = slot.read_bytes()
    with LlamaServer(other, NUM_TOKENS, slots=slots) as server:
        refused = ask(mm1, server)
        server.post("/completion", {"prompt": token_ids, "n_predict": 0})
        server.post("/slots/0?action=save", {"filename": slot.name})
    assert refused.code == 3 and "made by another model" in refused.err

    with LlamaServer(gguf, NUM_TOKENS, slots=slots) as server:
        swapped = ask(mm1, server)
        slot.write_bytes(whole)
        restored = ask(mm1, server)
        slot.unlink()
        gone = ask(mm1, server)
    assert "is another model's" in swapped.err and "tokens again" in swapped.err
    assert scores(first) and reused(swapped) == 0 and reused(restored) == len(token_ids)
    assert "again" not in restored.err
    for ran in (swapped, restored, gone):
        (answer,) = ran.json["answers"]
        assert answer["answer"] == first["answer"]
        assert scores(answer) == pytest.approx(scores(first), abs=5e-3)

    with LlamaServer(gguf, (len(token_ids) - 1) // 256 * 256) as server:
        short = ask(mm1, server)
        write_files(Path("few"), {"a.txt": "A mat."})
        few = mm1("context", "build", "few", "-o", "few.mm1ctx", "--server", server.url)
    assert short.code == 4 and "more than the server's context" in short.err
    assert few.code == 0 and "memory alone" in few.err
