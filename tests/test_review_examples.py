"""The examples of `mm1 review`, run as their users run them: by git and a shell."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commandline import write_files, write_talkative
from reviewing import UTIL, git

EXAMPLES = Path(__file__).parents[1] / "examples" / "review"
SOURCES = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_talkative(tmp_path_factory.mktemp("checkpoint") / "llama", "llama")


@pytest.fixture
def work(tmp_path, monkeypatch, model) -> Path:
    """A repository with a change to util.py that is not committed, and `mm1` on the PATH, whose
    model finds that change bad."""
    programs = tmp_path / "bin"
    said = {
        "quote": "len(values) - 1",
        "first_line": 12,
        "last_line": 12,
        "severity": "high",
        "category": "bugs",
        "title": "One value too few",
        "explanation": "The mean divides by the number of values.",
        "fix": None,
    }
    scripted = (
        "import json\n"
        "from mm1cli import app\n"
        "from mm1cli.commands import review\n"
        "from mm1cli.review import reviewer\n"
        "from mm1cli.answering.generation import Generation\n"
        "class Scripted:\n"
        "    def __init__(self, *_, **__): pass\n"
        f"    def generate(self, *_): return Generation(json.dumps({{'findings': [{said!r}]}}))\n"
        "reviewer.Generator = Scripted\n"
        "review.SMALL_PARAMETERS = 0\n"
        "app.run()\n"
    )
    program = f"#!/bin/sh\nPYTHONPATH='{SOURCES}:{os.environ.get('PYTHONPATH', '')}' "
    program += f"exec '{sys.executable}' '{programs}/run.py' \"$@\"\n"
    write_files(programs, {"mm1": program, "run.py": scripted})
    (programs / "mm1").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("MM1_MODEL", str(model))
    monkeypatch.setenv("MM1_THREADS", "1")
    monkeypatch.delenv("MM1_REVIEW_FAIL_ON", raising=False)
    folder = write_files(tmp_path / "a repository", {"util.py": UTIL})
    git("init", "-q", "-b", "main", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-qm", "one", cwd=folder)
    write_files(folder, {"util.py": UTIL.replace("/ len(values)", "/ (len(values) - 1)")})
    return folder


def run(command: list[str] | str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    is_shell = isinstance(command, str)
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", command] if is_shell else command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_findings_come_out_of_a_pipe(work):
    """Red: `git diff main | mm1 review - --json | jq` shows nothing."""
    ran = run([str(EXAMPLES / "findings.sh"), "main"], work)
    assert (ran.returncode, ran.stdout) == (0, "util.py:12: high: One value too few\n"), ran.stderr


def test_the_hook_stops_a_bad_commit_and_no_other(work):
    """Red: a team's commits are stopped for nothing, or never."""
    hook = work / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    shutil.copy(EXAMPLES / "pre-commit", hook)
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-am", "two"]
    ran = run(commit, work, MM1_REVIEW_FAIL_ON="high")
    assert ran.returncode == 1 and "One value too few" in ran.stderr
    assert git("log", "--oneline", cwd=work).count("\n") == 1
    ran = run(commit, work, MM1_REVIEW_FAIL_ON="high", MM1_MODEL="/nowhere")
    assert ran.returncode == 0 and "could not run" in ran.stderr
    write_files(work, {".mm1-baseline.json": "[]", "util.py": "x = 1\n"})
    ran = run(commit, work, MM1_REVIEW_FAIL_ON="high")
    assert ran.returncode == 0 and "--baseline .mm1-baseline.json" in ran.stderr


def test_the_hook_only_tells_where_nobody_asked_it_to_stop(work):
    """Red: the hook stops commits of people who never set a severity."""
    hook = work / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    shutil.copy(EXAMPLES / "pre-commit", hook)
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "two"]
    ran = run(commit, work)
    assert ran.returncode == 0 and "One value too few" in ran.stderr


def test_the_steps_of_the_workflow_run(work):
    """Red: the action in the examples fails on the first pull request."""
    (job,) = yaml.safe_load((EXAMPLES / "github-action.yml").read_text())["jobs"].values()
    steps = {step["name"]: step["run"] for step in job["steps"] if "run" in step}
    assert list(steps) == ["Review", "Annotate"]
    base = git("rev-parse", "HEAD", cwd=work).strip()
    assert run(steps["Review"], work, BASE=base, GITHUB_ACTIONS="true").returncode == 0
    log = json.loads((work / "review.sarif").read_text())
    assert log["runs"][0]["results"][0]["message"]["text"].startswith("One value too few")
    ran = run(steps["Annotate"], work, BASE=base, GITHUB_ACTIONS="true")
    assert ran.returncode == 1
    assert ran.stdout.startswith("::error file=util.py,line=12,")
    assert "::" not in ran.stderr
