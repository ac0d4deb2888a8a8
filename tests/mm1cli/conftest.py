"""The command line on tiny random checkpoints."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import FAMILIES, NOTES, SELECTION, Ran, write_files, write_talkative
from reportlab.pdfgen.canvas import Canvas

from engine.api import fingerprint
from mm1cli import app
from mm1cli.answering import context_source
from mm1cli.models import calibration
from mm1cli.models.calibration import Calibration


class Untouchable(io.RawIOBase):
    """A standard input that fails the test that reads it."""

    @property
    def buffer(self) -> "Untouchable":
        return self

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        raise AssertionError("standard input was read without -")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """A random checkpoint of each family, tokenizer and chat template included."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: write_talkative(root / family, family) for family in FAMILIES}


@pytest.fixture(scope="session")
def llama(checkpoints) -> Path:
    return checkpoints["llama"]


@pytest.fixture
def make_pdf() -> Callable[..., bytes]:
    """A PDF with one page for each text; a page for "" is blank."""

    def make(*pages: str) -> bytes:
        output = io.BytesIO()
        canvas = Canvas(output, invariant=1)
        for text in pages:
            canvas.drawString(72, 700, text)
            canvas.showPage()
        canvas.save()
        return output.getvalue()

    return make


@pytest.fixture
def notes(no_settings) -> Path:
    """By its relative name: paths are part of what the model reads."""
    return write_files(Path("notes"), NOTES)


@pytest.fixture
def no_settings(monkeypatch, tmp_path) -> None:
    """A folder to work in, and an environment, without settings of mm1."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in [name for name in os.environ if name.startswith("MM1_")]:
        if name == "MM1_STATE_DIR":
            continue
        monkeypatch.delenv(name)
    monkeypatch.setenv("MM1_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MM1_NO_LOG", "1")  # but where the log is what is tested
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # no test fetches the default
    # A random checkpoint finds nothing likelier for a passage; its answers are wanted anyway.
    monkeypatch.setenv("MM1_ALWAYS_ANSWER", "1")
    monkeypatch.setenv("MM1_WRITE", "1")


@pytest.fixture
def mm1(monkeypatch, capsys, no_settings) -> Callable[..., Ran]:
    """Runs `mm1 ARGS` in this process."""

    def run(*arguments: object, stdin: bytes | None = None) -> Ran:
        text = Untouchable() if stdin is None else io.TextIOWrapper(io.BytesIO(stdin))
        monkeypatch.setattr(sys, "stdin", text)
        monkeypatch.setattr(sys, "argv", ["mm1", *map(str, arguments)])
        code = 0
        try:
            app.run()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def large(tmp_path) -> Path:
    """More than `POSITIONS` tokens, and one fact."""
    folder = tmp_path / "large"
    tale = "the cat sat on the mat and the hat, " * 1500
    return write_files(folder, {"tale.txt": tale, "fact.txt": "The rat is at the zoo.\n"})


@pytest.fixture
def calibrated(llama, monkeypatch) -> Path:
    """A model that selects, and whose contexts are kept however short."""
    monkeypatch.setattr(context_source, "FEWEST_SAVED_TOKENS", 16)
    calibration.keep(fingerprint(llama), Calibration(SELECTION, 6, 6, 8000))
    return llama
