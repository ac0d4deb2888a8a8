"""`mm1 models find`, `list`, `use`, `rm`, `catalogue`, and names for --model."""

import json
import re
from pathlib import Path

import pytest
from commandline import ASK, SHORT, copy_files
from mini import write_tiny_gguf
from model_stores import write_hub, write_ollama

from mm1cli.models import library, stores
from mm1cli.models.catalogue import CATALOGUE


@pytest.fixture
def hub(own_home, llama, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(stores, "_SERVICE", tmp_path / "no service")
    files = {path.name: path.read_bytes() for path in llama.iterdir()}
    return write_hub(own_home / ".cache/huggingface/hub", "Someone/Tiny", files)


def test_names_of_the_hub_are_models(mm1, hub, notes):
    """Red: what `find` shows is not what --model takes."""
    (one,) = mm1("models", "find", "--json").json["models"]
    assert (one["name"], one["store"], one["family"]) == ("Someone/Tiny", "hub", "llama")
    assert one["runs"] and one["fits"] and one["problem"] is None and one["parameters"] > 0
    ran = mm1("analyze", notes, "--ask", ASK, "-m", "Someone/Tiny", *SHORT, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["model"] == "Someone/Tiny"
    for command in ("show", "verify", "plan"):
        assert mm1("models", command, "Someone/Tiny").code == 0


def test_what_cannot_run_says_why_and_what_to_do(mm1, own_home, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_SERVICE", tmp_path / "no service")
    content = write_tiny_gguf(tmp_path / "a.gguf", architecture="tarsier").read_bytes()
    write_ollama(own_home / ".ollama/models", "registry.ollama.ai/library/odd/\x1b[31m", content)
    ran = mm1("models", "find")
    assert ran.code == 0 and "\x1b" not in ran.out
    row, why = ran.out.splitlines()[1:3]
    assert row.split()[0].startswith("odd:") and "tarsier" in row and " no " in row
    assert why.startswith("  not supported: tarsier") and why.endswith("llama-server")
    (one,) = mm1("models", "find", "--json").json["models"]
    assert one["runs"] is False and one["problem"].startswith("not supported")


def test_nothing_found_says_where_to_go(mm1, own_home, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "_SERVICE", tmp_path / "no service")
    ran = mm1("models", "find")
    assert (ran.code, ran.out) == (0, "") and "mm1 models catalogue" in ran.err
    assert mm1("models", "find", "--json").json["models"] == []


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_tables_fit_terminals(monkeypatch, columns, hub):
    """Red: rows wrap, and nobody can read a column."""
    import io
    import sys

    from mm1cli.commands import models_list
    from mm1cli.settings import Settings

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    from mm1cli.output import make_sink

    for show in (
        lambda out: models_list.show_list(Settings(), out, as_json=False),
        lambda out: models_list.find(Settings(), out, make_sink("text", True), as_json=False),
        lambda out: models_list.show_catalogue(out, as_json=False),
    ):
        terminal = Terminal()
        show(terminal)
        lines = terminal.getvalue().splitlines()
        assert lines and "\x1b" not in terminal.getvalue()
        assert max(map(len, lines)) <= max(columns, 30), terminal.getvalue()
    assert sys.stdout is not None


def test_a_run_says_which_model_it_takes_and_why(mm1, llama, notes, monkeypatch):
    """Red: somebody is answered by a model they did not know of."""
    copy_files(llama, library.data_dir() / "models" / "mine")
    assert mm1("models", "use", "mine").out == "default: mine\n"
    told = mm1("models", "list", "--json").json
    assert told["default"] == "mine" and told["why"] == "set by `mm1 models use`"
    assert [m["name"] for m in told["models"] if m["default"]] == ["mine"]
    assert re.search(r"^mine .* default$", mm1("models", "list").out, re.MULTILINE)
    ran = mm1("tokens", notes, "--json")
    assert ran.code == 0 and ran.json["model"] == "mine"
    assert "model: mine (set by `mm1 models use`)" in ran.err
    assert mm1("tokens", notes, "--quiet").err == ""
    assert "model:" not in mm1("tokens", notes, "-m", "mine").err


def test_use_refuses_what_cannot_run_and_tells_what_wins(mm1, llama, tmp_path, monkeypatch):
    assert mm1("models", "use", "nothing").code == 7
    other = write_tiny_gguf(tmp_path / "a.gguf", architecture="tarsier")
    ran = mm1("models", "use", other)
    assert ran.code == 7 and "not supported: tarsier" in ran.err
    ran = mm1("models", "use", llama)
    assert ran.out == f"default: {llama}\n"
    assert ran.err == ""
    monkeypatch.setenv("MM1_MODEL", "mini")
    assert "MM1_MODEL says mini, and that is" in mm1("models", "use", llama).err
    assert mm1("models", "use", "auto").code == 0


def test_rm_removes_all_or_none(mm1, llama, tmp_path):
    folder = library.models_dir() / "A--B"
    copy_files(llama, folder)
    library.write_manifest(folder, {"name": "A/B", "repository": "A/B"})
    copy_files(llama, library.models_dir() / "mine")
    ran = mm1("models", "rm", "A/B", "mine")
    assert ran.code == 3 and "was not put there by mm1" in ran.err and folder.is_dir()
    assert mm1("models", "show", "A/B").code == 0
    assert mm1("models", "rm", "A/B").out == "removed A/B\n"
    assert not folder.exists()


def test_rm_leaves_other_programs_models(mm1, hub):
    ran = mm1("models", "rm", "Someone/Tiny")
    assert ran.code == 3 and "mm1 did not put there: remove it in hub" in ran.err
    assert (hub / "config.json").is_file()


def test_the_catalogue_names_what_can_be_pulled(mm1):
    """Red: a number nobody measured, or a name that `pull` does not know."""
    told = mm1("models", "catalogue", "--json").json["models"]
    assert [one["name"] for one in told] == [entry.name for entry in CATALOGUE]
    shown = mm1("models", "catalogue").out
    for entry in CATALOGUE:
        assert re.search(rf"^{re.escape(entry.name)} ", shown, re.MULTILINE)
        assert bool(entry.measured) == bool(entry.sha256)
        if not entry.sha256:
            ran = mm1("models", "pull", entry.name)
            assert ran.code == 7 and "HF_HUB_OFFLINE" in ran.err


def test_a_gguf_by_name_is_imported_shown_and_verified_but_not_quantised(
    mm1, own_home, tmp_path, monkeypatch
):
    monkeypatch.setattr(stores, "_SERVICE", tmp_path / "no service")
    content = write_tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
    place = "registry.ollama.ai/library/tiny/latest"
    blob = write_ollama(own_home / ".ollama/models", place, content)
    assert json.loads(mm1("models", "show", "tiny", "--json").out)["family"] == "llama"
    assert "every file has its sha256" in mm1("models", "verify", "tiny").out
    ran = mm1("models", "quantize", "tiny", "--to", "int8", "-o", tmp_path / "q")
    assert ran.code == 2 and "mm1 models import tiny --to int8" in ran.err
    assert mm1("models", "import", "tiny", "-o", tmp_path / "imported").code == 0
    assert mm1("models", "show", tmp_path / "imported").code == 0
    blob.write_bytes(content[:-1] + b"\1")
    ran = mm1("models", "verify", "tiny")
    assert ran.code == 7 and "another sha256" in ran.err
