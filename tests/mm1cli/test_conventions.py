"""What people expect of a command line: -h, --version, completion, man, config, addresses."""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from commandline import ASK, MAIN, write_files

from mm1cli import about, app, completion
from mm1cli.commands.questions import with_question
from mm1cli.errors import EXIT_CODES, ExitCode
from mm1cli.examples import EXAMPLES
from mm1cli.ingest import confine, remote

REPOSITORY = Path(__file__).parents[2]


def commands(group=None, prefix=()) -> list[tuple[str, ...]]:
    import typer.main

    group = group or typer.main.get_command(app.app)
    found = []
    for name, command in group.commands.items():
        inner = (*prefix, name)
        found += commands(command, inner) if hasattr(command, "commands") else [inner]
    return found


def test_every_command_has_help_with_examples_and_no_name_is_cut(mm1, monkeypatch):
    """Red: an option is unreadable on a narrow screen, `[str]` is eaten, or an example lies."""
    every = commands()
    assert len(every) > 25
    for columns in ("40", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        for names in every:
            shown = mm1(*names, "-h").out
            assert "Examples:\n  " in shown, names
            assert "…" not in shown and "\\[" not in shown
            above = shown[: shown.index("Examples:")]
            assert all(len(line) <= int(columns) for line in above.splitlines()), names
    shown = mm1("analyze", "--help").out
    assert "--strict-citations" in shown and "tags [str]" in shown and "[cpu]" in shown
    known = {" ".join(names) for names in every} | {names[0] for names in every} | {""}
    assert set(EXAMPLES) <= known, "an example of a command that there is not"


def test_the_version_is_that_of_the_package(mm1):
    assert mm1("--version").out == f"mm1 {about.version()}\n"


def test_the_man_page_has_every_option_and_roff_finds_nothing_to_say(mm1):
    """Red: the page is not that of the help, or `man` prints complaints."""
    page = mm1("man").out
    for words in (r"\-\-strict\-citations", ".SS mm1 models pull", r"mm1 ask papers.mm1ctx"):
        assert words in page, words
    if shutil.which("man") is None:
        return
    ran = subprocess.run(
        ["man", "--warnings", "-l", "-"],
        input=page,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
    )
    assert ran.stderr == "" and "EXIT STATUS" in ran.stdout


def test_a_real_bash_completes_commands_options_and_names(mm1, tmp_path):
    """Red: Tab does nothing, or says something."""
    (tmp_path / "papers.mm1ctx").mkdir()
    program = tmp_path / "mm1"
    python = f'"{sys.executable}" -c "{MAIN}"'
    program.write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    program.chmod(0o755)
    script = mm1("completion", "bash").out
    script += """
t() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _mm1_completion mm1; echo "${COMPREPLY[*]}"; }
t mm1 analyze . --temp
t mm1 ask pa
"""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(Path(app.__file__).parents[1])
    ran = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert ran.stdout.split("\n")[:2] == ["--template --temperature", "papers.mm1ctx"]
    assert ran.stderr == ""
    assert "mini" in completion.models("mi") and completion.settings("temp") == ["temperature"]
    assert mm1("completion", "zsh").out.startswith("#compdef mm1")
    assert mm1("completion", "csh").code == 2


@pytest.mark.parametrize(
    ("words", "paths", "asks"),
    [
        (["papers", "Who pays?"], ["papers"], ["Who pays?"]),
        (["papers", "more", "誰が？"], ["papers", "more"], ["誰が？"]),
        (["papers", "no-such.pdf"], ["papers", "no-such.pdf"], []),
        (["who pays?"], [], ["who pays?"]),
        (["papers", "https://a.b/?q=who pays?"], ["papers", "https://a.b/?q=who pays?"], []),
    ],
)
def test_the_last_word_is_a_question_if_it_reads_like_one(words, paths, asks):
    """Red: a misspelt path is asked as a question."""
    assert with_question(words, ()) == (paths, asks)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["papers", "Who pays?", "How much?"], "several questions: write --ask"),
        (["who pays?"], "no paths; name files or folders"),
        (["papers", "rent"], "rent: no such file; if it is the question, --ask rent"),
        (["papers", "--modle", "x"], "see mm1 analyze --help"),
    ],
)
def test_a_question_in_the_wrong_place_is_told_where_to_stand(words, told, mm1):
    """Red: a second question is a file that is missing, a short one is none at all."""
    Path("papers").mkdir()
    ran = mm1("analyze", *words)
    assert ran.code == 2 and told in ran.err


def test_a_question_may_stand_behind_the_paths(mm1, llama, notes):
    ran = mm1("analyze", notes, "--model", llama, ASK, "--dry-run", "--strict")
    assert ran.code == 5, "the question is no path that is missing"
    Path("who knows.md").write_text("The cat knows.")
    ran = mm1("analyze", notes, "who knows.md", "--model", llama, "--dry-run", "--json")
    paths = [file["path"] for file in ran.json["manifest"]["files"]]
    assert "who knows.md" in paths, "a file of that name is a file"


def test_settings_are_shown_with_their_origin_set_and_mended(mm1, monkeypatch, tmp_path):
    """Red: `config set` loses what else the file says, or writes what no run accepts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "mm1" / "config.toml"
    assert mm1("config", "path").out == f"{file}\n"
    assert mm1("config", "set", "model", 'a "b"').code == 0
    file.write_text("# mine\nseed = 3 # keep\n" + file.read_text())
    assert mm1("config", "set", "seed", "4").code == 0
    assert mm1("config", "set", "temperature", "1").code == 0
    told = mm1("config", "show", "--json").json["settings"]
    assert told["model"] == {"value": 'a "b"', "origin": str(file)}
    assert (told["seed"]["value"], told["temperature"]["value"]) == (4, 1.0)
    assert file.read_text().startswith("# mine\nseed = 4\n")
    assert "note: here MM1_SEED says 9" in (
        monkeypatch.setenv("MM1_SEED", "9") or mm1("config", "set", "seed", "5").out
    )
    assert mm1("config", "set", "seed").code == 0 and "seed" not in file.read_text()
    for arguments in (("sead", "1"), ("seed", "many"), ("sead",)):
        assert mm1("config", "set", *arguments).code == 2
    monkeypatch.setenv("EDITOR", "sh -c 'echo nonsense = 1 >> \"$0\"'")
    assert mm1("config", "edit").code == 2
    assert mm1("config", "path").code == 0, "a file that is wrong can still be found"
    monkeypatch.setenv("EDITOR", "sed -i /nonsense/d")
    assert "is in order" in mm1("config", "edit").out


def test_doctor_says_what_runs_here(mm1):
    topics = {one["topic"] for one in mm1("doctor", "--json").json["findings"]}
    assert {"mm1", "processor", "torch", "GPU", "memory", "sandbox", "models"} <= topics
    assert "disk" in mm1("doctor").out


def test_doctor_says_what_readers_are_not_kept_from(mm1, monkeypatch):
    """Red: an open kernel is told to be in order."""
    monkeypatch.setattr(confine, "_landlock_abi", lambda: 0)
    found = {one["topic"]: one for one in mm1("doctor", "--json").json["findings"]}
    assert "limits of memory" in found["sandbox"]["value"]
    if sys.platform.startswith("linux"):
        assert "landlock" in found["sandbox"]["advice"]


def test_each_way_a_run_ends_is_told_and_documented():
    """Red: an exit code that the man page or the docs do not have."""
    assert set(EXIT_CODES) == set(ExitCode) - {ExitCode.BROKEN_PIPE}
    page = (REPOSITORY / "docs/output.md").read_text()
    for code, words in EXIT_CODES.items():
        if code < ExitCode.INTERRUPTED:
            assert f"| {int(code)} | {words.split(' (--')[0]}" in page.replace("`", ""), code


def test_offline_nothing_is_pulled(mm1, monkeypatch):
    monkeypatch.setenv("MM1_OFFLINE", "1")
    ran = mm1("models", "pull", "mini")
    assert ran.code == 2 and "MM1_OFFLINE allows no fetching" in ran.err


def test_hidden_and_ignored_files_are_read_when_asked_for(mm1, llama, notes):
    """Red: the flags do nothing, or bring git's own folder in."""
    write_files(notes, {".gitignore": "hat.txt\n", ".git/config": "[x]", "sub/hat.txt": "a rat"})
    common = ("tokens", notes, "--model", llama, "--json")

    def reasons(*flags: str) -> dict[str, str | None]:
        files = mm1(*common, *flags).json["manifest"]["files"]
        return {file["path"].removeprefix("notes/"): file["reason"] for file in files}

    plain = reasons()
    assert (plain[".hidden"], plain["sub/hat.txt"]) == ("hidden", "ignored by .gitignore")
    assert reasons("--no-gitignore")["sub/hat.txt"] is None
    shown = reasons("--hidden")
    assert shown[".hidden"] is None and shown[".git/"] == "hidden"


def test_the_text_a_model_would_get_can_be_read(mm1, llama, notes, tmp_path):
    """Red: what `mm1 read` prints is not what the model reads."""
    file = tmp_path / "prompt.txt"
    assert mm1("tokens", notes, "--model", llama, "--text", file).code == 0
    text = file.read_text()
    assert text.startswith("Contents: 3 documents\n1. notes/bridge.md\n")
    shown = mm1("read", notes)
    assert text.endswith(shown.out) and "Document: notes/sub/hat.txt\n\nThe hat" in shown.out
    assert "not read: notes/photo.png: format not supported" in shown.err
    assert mm1("read", notes / "photo.png").code == 3
    struck = tmp_path / "struck.html"
    struck.write_text("<p>The fee is <del>9</del> 7 crowns.</p>")
    assert "struck.html: 1 deletions left out" in mm1("read", struck).err


def test_strict_reading_fails_where_not_all_was_read(mm1, notes):
    """Red: a script takes half a folder, or half a file, for all of it."""
    ran = mm1("read", notes, "--strict")
    assert ran.code == 5 and "The hat" in ran.out
    assert "--strict: 1 of 5 left out, first notes/photo.png" in ran.err.splitlines()[-1]
    (notes / "photo.png").unlink()
    assert mm1("read", notes, "--strict").code == 0
    output = {"output_type": "stream", "name": "stdout", "text": "x\n" * 10_000}
    cell = {"cell_type": "code", "metadata": {}, "source": "run()", "outputs": [output]}
    (notes / "long.ipynb").write_text(json.dumps({"cells": [cell], "nbformat": 4}))
    ran = mm1("read", notes, "--strict")
    assert ran.code == 5 and "--strict: not all of notes/long.ipynb was read" in ran.err


@pytest.fixture
def site(tmp_path):
    """A web server of one page on loopback."""
    folder = write_files(tmp_path / "site", {"terms": "<html><p>The fee is 7 crowns.</p></html>"})
    serve = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    serve.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve.func) as server:
        server.RequestHandlerClass = serve
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_web_page_is_read_by_its_address(mm1, site):
    """Red: an address is taken for a path, is misspelt, or is fetched though --offline."""
    ran = mm1("read", f"{site}/terms")
    assert f"Document: {site}/terms\n" in ran.out and "The fee is 7 crowns." in ran.out
    assert mm1("read", f"{site}/terms", "--offline").code == 2
    ran = mm1("read", f"{site}/gone")
    assert ran.code == 3 and "the server says 404" in ran.err


def test_a_repository_is_read_by_its_address(mm1, monkeypatch, tmp_path):
    """Red: git is not asked, or its files have names of a temporary folder."""
    folder = write_files(tmp_path / "repository", {"a.py": "rat = 1\n"})
    for arguments in (
        ("init", "-q"),
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "a"),
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{folder}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://example.com/it.git")
    ran = mm1("read", "https://example.com/it.git")
    assert "Document: https://example.com/it.git/a.py\n\nrat = 1" in ran.out, ran.err


def test_errors_point_on(mm1, llama, notes):
    """Red: a newcomer is told that something is wrong, and not what to type."""
    assert f'mm1 analyze {notes} "QUESTION"' in mm1("ask", notes, ASK).err
    assert "mm1 context build" in mm1("ask", "no.mm1ctx", ASK).err
    assert "mm1 analyze PATHS" in mm1("analyze", notes).err
    Path("m.gguf").write_bytes(b"GGUF" + bytes(100))
    ran = mm1("analyze", "m.gguf", "--ask", ASK, "--model", llama)
    assert ran.code == 3 and "name it with -m" in ran.err
    assert not re.search("Traceback", ran.err)


def test_what_opens_an_address_is_not_told():
    """Red: a token in an address stands in notes, prompts, citations and caches."""
    shown = remote._shown("git+https://me:ghp_token@github.com/a/b.git/")
    assert shown == "https://github.com/a/b.git"
    assert remote._shown("git@github.com:a/b") == "git@github.com:a/b"
