"""Repositories, and a model whose answers the test writes."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import write_files
from reviewing import MAIN, UTIL, git

from mm1cli.answering.generation import Generation
from mm1cli.review import reviewer

Script = Callable[[str, int, int], list[dict]]


@pytest.fixture
def script(monkeypatch) -> Callable[[Script], list[str]]:
    """Puts `answers(path, first, last)` in the model's place; returns the prompts it was asked."""

    def install(answers: Script) -> list[str]:
        prompts: list[str] = []

        class Scripted:
            def __init__(self, engine, settings, **_) -> None:
                self._engine = engine

            def generate(self, context, grammar) -> Generation:
                prompts.append(self._engine.tokenizer.decode(context.token_ids))
                *_, (first, last, path) = re.findall(
                    r"^Lines (\d+)-(\d+) of (.*):$", prompts[-1], re.MULTILINE
                )
                return Generation(json.dumps({"findings": answers(path, int(first), int(last))}))

        monkeypatch.setattr(reviewer, "Generator", Scripted)
        return prompts

    return install


@pytest.fixture
def repository(no_settings) -> Path:
    """The current folder: two files in one commit."""
    write_files(Path(), {"util.py": UTIL, "main.py": MAIN})
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "one")
    return Path()
