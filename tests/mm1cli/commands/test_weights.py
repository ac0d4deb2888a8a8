"""`mm1 models quantize` and `mm1 models import`, from the command line to an answer."""

import gguf
import pytest
from commandline import ASK, FAMILIES, SHORT
from ggufs import as_gguf_has_it, write_minimax_gguf
from mini import write_tiny_gguf
from tiny import minimax_config, random_weights

from mm1cli.models import library
from mm1cli.output.terminal import Terminal


@pytest.fixture
def small(mm1, checkpoints, tmp_path):
    """A MiniMax-shaped model in int8, from the command line."""
    made = tmp_path / "small"
    ran = mm1("models", "quantize", checkpoints["minimax"], "--to", "int8", "-o", made, "--json")
    assert ran.code == 0, ran.err
    return made, ran


def test_a_model_is_quantised_shown_verified_and_answers(mm1, checkpoints, small, notes):
    """Red: the smaller model cannot be used where the larger one can."""
    made, ran = small
    told = ran.json
    assert told["path"] == str(made) and told["precision"] == "int8"
    assert 0 < told["bytes"] < 0.5 * told["bytes_before"]
    errors = [tensor["relative_rms"] for tensor in told["tensors"]]
    assert errors[-1] < told["relative_rms"] < errors[0] < 0.01
    assert errors == sorted(errors, reverse=True) and len(errors) == 4 * 12 + 3 * 3 + 4
    scores = told["scores"]
    assert scores["text"] == "mm1cli/prompts/measured.txt" and scores["tokens"] == 2047
    assert 0 < scores["kl"] < 1 and 0.5 < scores["same_top"] <= 1
    assert 1 < scores["perplexity_after"] != scores["perplexity_before"]
    assert mm1("models", "show", made, "--json").json["precision"] == "int8"
    assert mm1("models", "show", checkpoints["minimax"], "--json").json.get("precision") is None
    verified = mm1("models", "verify", made)
    assert verified.code == 0 and "whole" in verified.out
    answer = mm1("analyze", notes, "--ask", ASK, "--model", made, *SHORT, "--json")
    assert answer.code == 0 and answer.json["answer"]


def test_a_changed_file_is_found(mm1, small):
    made, _ = small
    assert not library.verify_files(made)
    with (made / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert mm1("models", "verify", made).code == 7


def test_progress_is_told_to_its_end_and_the_text_can_be_chosen(
    mm1, checkpoints, tmp_path, monkeypatch
):
    steps = []
    monkeypatch.setattr(Terminal, "progress", lambda _, *step: steps.append(step))
    text = tmp_path / "own.txt"
    text.write_text("the cat sat on the mat and the hat")
    ran = mm1(
        "models", "quantize", checkpoints["llama"], "--to", "int4", "--group", 32,
        "-o", tmp_path / "small", "--text", text, "--check",
    )  # fmt: skip
    assert ran.code == 0
    ends = [step for step in steps if step[1] == step[2]]
    assert [(stage, unit) for stage, _, _, unit in ends] == [
        ("quantizing", "bytes"),
        ("measuring", "tokens"),
    ]
    assert "int4/32" in ran.out and "perplexity" in ran.out and f"tokens of {text}" in ran.out
    without = mm1(
        "models", "quantize", checkpoints["llama"], "--to", "int8",
        "-o", tmp_path / "other", "--no-check", "--quiet",
    )  # fmt: skip
    assert without.code == 0 and without.err == "" and "perplexity" not in without.out


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--to", "int5"), 2, "--to cannot be"),
        (("--to", "int8", "--group", 64), 2, "--group is about int4"),
        (("--to", "int4", "--group", 48), 2, "32, 64, 128, not 48"),
        (("--to", "int4", "--text", "nowhere.txt"), 3, "nowhere.txt"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(mm1, llama, tmp_path, arguments, code, reason):
    ran = mm1("models", "quantize", llama, "-o", tmp_path / "small", *arguments)
    assert (ran.code, ran.out) == (code, "") and reason in ran.err
    assert ran.err.count("\n") == 1 and not (tmp_path / "small").exists()


def test_nothing_is_overwritten(mm1, llama, tmp_path):
    (tmp_path / "mine").mkdir()
    ran = mm1("models", "quantize", llama, "--to", "int8", "-o", tmp_path / "mine")
    assert ran.code == 7 and "exists already" in ran.err
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_gguf_file_of_minimax_becomes_a_model_that_answers(mm1, tmp_path, notes):
    """Red: people with the only low-bit M1 files there are cannot use them."""
    positions = FAMILIES["minimax"][0]["max_position_embeddings"]
    config = minimax_config(intermediate_size=32, max_position_embeddings=positions)
    config = as_gguf_has_it(config)
    template = {"tokenizer.chat_template": FAMILIES["minimax"][1]}
    source = write_minimax_gguf(
        tmp_path / "m1.gguf",
        config,
        random_weights(config),
        gguf.GGMLQuantizationType.Q4_1,
        metadata=template,
    )
    ran = mm1("models", "import", source, "-o", tmp_path / "m1", "--json")
    assert ran.code == 0 and ran.json["precision"] == "int4/32", ran.err
    assert ran.json["relative_rms"] == 0 and ran.json["scores"] is None
    told = mm1("models", "show", tmp_path / "m1", "--json").json
    assert (told["family"], told["experts"], told["precision"]) == ("minimax", 4, "int4/32")
    assert mm1("models", "verify", tmp_path / "m1").code == 0
    answer = mm1("analyze", notes, "--ask", ASK, "--model", tmp_path / "m1", *SHORT, "--json")
    assert answer.code == 0


@pytest.mark.parametrize(
    ("to", "precision"), [("float32", "float32"), ("int8", "int8"), (None, "int8, plain")]
)
def test_a_llama_file_goes_through_the_same_command(mm1, tmp_path, to, precision):
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    wanted = ["--to", to] if to else []
    ran = mm1("models", "import", source, "-o", tmp_path / "model", *wanted)
    assert ran.code == 0, ran.err
    told = mm1("models", "show", tmp_path / "model", "--json").json
    assert (told["family"], told["precision"]) == ("llama", precision)
    assert mm1("models", "verify", tmp_path / "model").code == 0


def test_a_file_that_is_not_gguf_is_7(mm1, tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04 nothing of the kind")
    for name, reason in (("x.gguf", "not a GGUF file"), ("absent.gguf", "No such file")):
        ran = mm1("models", "import", tmp_path / name, "-o", tmp_path / "model")
        assert ran.code == 7 and reason in ran.err and ran.err.count("\n") == 1
    ran = mm1("models", "import", tmp_path / "x.gguf", "-o", tmp_path / "model", "--group", 32)
    assert ran.code == 2
    assert not (tmp_path / "model").exists()
