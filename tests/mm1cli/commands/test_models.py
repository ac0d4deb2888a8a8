"""`mm1 models`: what is there, what it is, whether it is whole and right."""

import json
import re
from pathlib import Path

import pytest
from commandline import POSITIONS, copy_files
from mini import write_tiny_gguf
from safetensors.torch import load_file, save_file

from mm1cli.models import library

GOLDEN = Path(__file__).parents[4] / "shared" / "golden" / "m1-tiny"


def test_the_list_names_the_embedded_model_and_those_put_beside_it(mm1, llama):
    """Red: a model that is there cannot be found, or is fetched again."""
    before = mm1("models", "list")
    assert before.code == 0 and re.search("^mini +on first use", before.out, re.MULTILINE)
    copy_files(llama, library.data_dir() / "models" / "mine")
    (told,) = [m for m in mm1("models", "list", "--json").json["models"] if m["name"] == "mine"]
    assert told["installed"] is True and Path(told["path"]) == library.data_dir() / "models/mine"
    assert "mine" in mm1("models", "list").out
    assert mm1("models", "show", "mine").code == 0


@pytest.mark.parametrize(
    ("family", "lightning", "softmax", "experts"), [("llama", 0, 2, 0), ("minimax", 3, 1, 4)]
)
def test_show_tells_the_sizes(mm1, checkpoints, family, lightning, softmax, experts):
    """Red: people cannot see what they are about to load."""
    told = mm1("models", "show", checkpoints[family], "--json").json
    assert told["family"] == family and told["max_positions"] == POSITIONS
    assert (told["lightning_layers"], told["softmax_layers"]) == (lightning, softmax)
    assert told["layers"] == lightning + softmax
    assert (told["experts"] or 0) == experts
    assert f"{POSITIONS:,}" in mm1("models", "show", checkpoints[family]).out


@pytest.mark.parametrize("name", ["tiny.gguf", "sha256-0f3c"])
def test_a_gguf_file_is_a_model_whatever_it_is_called(mm1, tmp_path, name):
    """Red: a file as it lies, or Ollama's without an ending, is taken for a folder."""
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    metadata = {"tokenizer.chat_template": template, "llama.context_length": 4096}
    model = write_tiny_gguf(tmp_path / name, metadata=metadata)
    told = mm1("models", "show", model, "--json").json
    assert (told["layers"], told["precision"]) == (2, "Q8_0") and told["bytes"] > 0
    ran = mm1("models", "verify", model)
    assert ran.code == 0 and "tensors with the shapes its metadata asks" in ran.out
    (tmp_path / "note.txt").write_text("The bridge opened in May.")
    ran = mm1("tokens", tmp_path / "note.txt", "--model", model)
    assert ran.code == 0 and "1 read" in ran.out + ran.err
    options = ("--ask", "When?", "--no-cache", "--max-tokens", "4", "--json")
    ran = mm1("analyze", tmp_path / "note.txt", "--model", model, *options)
    assert ran.code == 0 and ran.json["usage"]["output_tokens"] <= 4


def test_fast_is_said_and_asked_as_it_was_built(mm1, tmp_path, llama, notes):
    """Red: nobody can tell which numbers an answer rests on, or a context cannot be asked."""
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    metadata = {"tokenizer.chat_template": template, "llama.context_length": 4096}
    model = write_tiny_gguf(tmp_path / "tiny.gguf", metadata=metadata)
    context = tmp_path / "notes.mm1ctx"
    built = mm1("context", "build", notes, "-o", context, "--model", model, "--fast")
    assert built.code == 0 and "activations in eight bits" in built.err
    asked = mm1("ask", context, "When?", "--model", model, "--max-tokens", "2", "--json")
    assert asked.code == 0 and "activations in eight bits" in asked.err
    assert asked.json["answers"][0]["model_fingerprint"].endswith("-fast")
    options = ("--ask", "When?", "--max-tokens", "2", "--no-cache", "--fast")
    ran = mm1("analyze", notes, "--model", llama, *options)
    assert ran.code == 0 and "--fast changes nothing here" in ran.err


@pytest.mark.parametrize("action", ["show", "verify"])
def test_a_model_that_is_not_there_is_7(mm1, action):
    """Red: a typing error is a traceback."""
    ran = mm1("models", action, "minni")
    assert (ran.code, ran.out) == (7, "") and "'mini'" in ran.err


def test_the_hub_is_not_asked_offline_nor_for_a_plain_name(mm1):
    """Red: a name from the command line is looked up on the network."""
    ran = mm1("models", "pull", "someone/model")
    assert ran.code == 7 and "HF_HUB_OFFLINE is set" in ran.err
    ran = mm1("models", "pull", "model")
    assert ran.code == 7 and "cannot be pulled" in ran.err
    ran = mm1("models", "pull", "someone/../model")
    assert ran.code == 2 and "no name of the hub" in ran.err


def test_verify_holds_tensors_against_the_config(mm1, llama, tmp_path):
    """Red: a checkpoint that was cut in transfer is called whole."""
    model = copy_files(llama, tmp_path / "model")
    ran = mm1("models", "verify", model)
    assert ran.code == 0 and ran.out.startswith("whole: ")
    weights = load_file(model / "model.safetensors")
    assert mm1("models", "verify", model, "--json").json == {
        "passed": True,
        "tensors": len(weights),
        "problems": [],
    }
    del weights["model.norm.weight"]
    save_file(weights, model / "model.safetensors")
    ran = mm1("models", "verify", model)
    assert (ran.code, ran.out) == (7, "") and "model.norm.weight is missing" in ran.err


def test_verify_reads_every_byte_of_a_model_with_a_manifest(mm1, llama, tmp_path):
    """Red: one flipped bit in the weights goes unseen."""
    model = copy_files(llama, tmp_path / "model")
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": library.sha256_of(file)}
        for file in model.iterdir()
    }
    (model / library.MANIFEST).write_text(json.dumps({"name": "mine", "files": files}))
    assert mm1("models", "verify", model).code == 0
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)
    ran = mm1("models", "verify", model)
    assert ran.code == 7 and "model.safetensors has other contents" in ran.err
    told = mm1("models", "verify", model, "--json")
    assert told.code == 7 and told.json["passed"] is False and told.json["problems"]


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no recorded outputs of the official code here")
def test_verify_recomputes_the_recorded_outputs_of_the_official_code(mm1, tmp_path):
    """Red: the maths is not MiniMax-M1's, or a wrong weight is not noticed."""
    chunks = ("--chunk", 64, "--chunk", 256)
    ran = mm1("models", "verify", GOLDEN, *chunks)
    assert ran.code == 0, ran.err
    head, *rows, verdict = ran.out.splitlines()
    assert head.split()[0] == "chunk" and verdict.startswith("equal")
    assert {row.split()[0] for row in rows} == {"64", "256"}
    assert any("decode logits" in row for row in rows)

    model = copy_files(GOLDEN, tmp_path / "model")
    shard = model / "model-00001-of-00003.safetensors"
    weights = load_file(shard)
    name = next(name for name in sorted(weights) if name.endswith("proj.weight"))
    weights[name][0, 0] += 0.5
    shard.unlink()
    save_file(weights, shard)
    ran = mm1("models", "verify", model, *chunks[:2])
    assert ran.code == 7 and "differ" in ran.err
    told = mm1("models", "verify", model, *chunks[:2], "--json")
    assert told.code == 7 and told.json["passed"] is False


@pytest.mark.mini
def test_the_embedded_model_is_listed_shown_and_verified(mm1, mini_dir, monkeypatch):
    """Red: the model everyone starts with is not recognised."""
    monkeypatch.setenv("MM1_DATA_DIR", str(mini_dir.parents[1]))
    assert re.search("^mini +installed", mm1("models", "list").out, re.MULTILINE)
    told = mm1("models", "show", "mini", "--json").json
    assert (told["layers"], told["max_positions"]) == (30, 8192)
    ran = mm1("models", "verify", "mini")
    assert ran.code == 0 and ran.out.startswith("whole: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("models", "show", "no such model"),
        ("models", "verify", "no such model"),
        ("context", "show", "no such context"),
        ("context", "verify", "no such context"),
        ("context", "build", "no such file", "-o", "out.mm1ctx"),
    ],
    ids=" ".join,
)
def test_errors_are_json_for_whoever_asked_for_json(mm1, tmp_path, monkeypatch, arguments):
    """Red: `--json | jq` gets an empty stdout where something went wrong."""
    monkeypatch.chdir(tmp_path)
    ran = mm1(*arguments, "--json")
    assert ran.code and ran.json["error"]["exit_code"] == ran.code
    assert ran.json["error"]["message"] in ran.err
    assert mm1(*arguments).out == ""
