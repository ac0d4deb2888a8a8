"""Red here means that --fit select reads less than it says, or asks a saved context otherwise."""

import json

import pytest
from commandline import ASK, POSITIONS, SELECTION, SHORT

from engine.api import StoreError, fingerprint
from engine.engine import Engine
from mm1cli.models import calibration
from mm1cli.models.calibration import Calibration


def test_all_of_it_is_read_and_asked_from_the_saved_context_alike(mm1, calibrated, large, tmp_path):
    run = ("--model", calibrated, "--fit", "select")
    ran = mm1("analyze", large, *run, *SHORT, "--json", "--ask", ASK)
    assert ran.code == 0, ran.err
    manifest = ran.json["manifest"]
    assert manifest["plan"] == "whole" and manifest["totals"]["tokens"] > POSITIONS
    assert "all of them are read" in ran.err
    again = mm1("analyze", large, *run, *SHORT, "--json", "--ask", ASK)
    assert again.json["answers"][0]["usage"]["reused_tokens"] > POSITIONS
    assert again.json["answers"][0]["answer"] == ran.json["answers"][0]["answer"]
    built = mm1("context", "build", large, "-o", tmp_path / "c", *run)
    assert built.code == 0, built.err
    asked = mm1("ask", tmp_path / "c", ASK, *SHORT[:2], "--json")
    assert asked.code == 0, asked.err
    assert asked.json["answers"][0]["answer"] == ran.json["answers"][0]["answer"]
    told = mm1("ask", tmp_path / "c", ASK, *SHORT[:2]).err
    assert "tokens, read when this context was built" in told and "budget" not in told
    assert "each question selects what it sees of them" in told


def test_what_fits_is_read_as_ever(mm1, calibrated, notes):
    run = ("analyze", notes, "--model", calibrated, *SHORT, "--json", "--ask", ASK)
    plain, select = mm1(*run), mm1(*run, "--fit", "select")
    assert select.json["answers"][0]["answer"] == plain.json["answers"][0]["answer"]
    assert "are more than" not in select.err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 7, "mm1 models calibrate"),
        (("--context-tokens", 9000), 2, "--context-tokens 9,000 does not let it"),
    ],
)
def test_who_cannot_select_is_told_what_to_do(mm1, llama, large, options, code, words):
    run = ("--model", llama, "--fit", "select", "--ask", ASK)
    ran = mm1("analyze", large, *run, *options)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err.splitlines()[-1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"selection": 1}', '{"selection": {}}'])
def test_a_damaged_calibration_is_named(mm1, calibrated, large, content):
    calibration.keep(fingerprint(calibrated), Calibration(SELECTION)).write_text(content)
    ran = mm1("analyze", large, "--model", calibrated, "--fit", "select", "--ask", ASK)
    assert ran.code == 3
    assert "is damaged; remove it" in ran.err.splitlines()[-1]


def test_a_calibration_of_other_weights_is_refused(mm1, calibrated, large):
    """Red: a head that finds nothing in these weights selects."""
    other = calibration.keep("0" * 64, Calibration(SELECTION))
    other.replace(calibration.keep(fingerprint(calibrated), Calibration(SELECTION)))
    ran = mm1("analyze", large, "--model", calibrated, "--fit", "select", "--ask", ASK)
    assert ran.code == 3
    assert "measured with other weights (000000000000" in ran.err.splitlines()[-1]


def test_a_context_that_was_read_in_full_is_not_selected_from(mm1, calibrated, notes, tmp_path):
    """Red: what its far layers do not hold is scanned."""
    built = mm1("context", "build", notes, "-o", tmp_path / "c", "--model", calibrated)
    assert built.code == 0, built.err
    asked = mm1("ask", tmp_path / "c", ASK, *SHORT[:2], "--json")
    assert asked.code == 0 and asked.json["answers"]
    with pytest.raises(StoreError, match="read in full; build it again"):
        Engine(calibrated, selection=SELECTION).open_context(tmp_path / "c")


def test_a_question_longer_than_the_window_is_noted(mm1, calibrated, large):
    run = ("analyze", large, "--model", calibrated, "--fit", "select", *SHORT, "--json", "--ask")
    assert "most layers see the last 32 only" in mm1(*run, "where is the rat, the cat? " * 4).err
    assert "most layers see" not in mm1(*run, "rat?").err


def test_what_is_kept_is_read_again(llama):
    path = calibration.keep(fingerprint(llama), Calibration(SELECTION, 5, 6, 8000))
    assert calibration.of(llama) == SELECTION
    assert json.loads(path.read_text())["found"] == 5
