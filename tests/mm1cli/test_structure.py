"""Red here means --schema and --think do not do on the command line what their parts do."""

import json

import jsonschema
import pytest
from commandline import ASK, FAMILIES, SHORT

from mm1cli.answering import json_schema

FIELDS = "name, year int, tags [str], risk low|medium|high"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0, 2])
def test_the_answer_is_json_of_that_schema(mm1, checkpoints, notes, family, temperature):
    """Red: --schema prints what another program cannot read."""
    asked = ("analyze", notes, "--ask", ASK, "--model", checkpoints[family], "--threads", 1)
    ran = mm1(*asked, "--schema", FIELDS, "--max-tokens", 90, "--temperature", temperature)
    assert ran.code == 0, ran.err
    jsonschema.validate(json.loads(ran.out), json_schema.parse(FIELDS))


def test_one_object_carries_text_and_value(mm1, llama, notes):
    """Red: --json loses the parsed value, or checks its keys as if they were quotes."""
    asked = ("analyze", notes, "--ask", ASK, "--model", llama, "--threads", 1)
    told = mm1(*asked, "--schema", "a_b int, c date", "--max-tokens", 60, "--json").json
    (answer,) = told["answers"]
    assert json.loads(answer["answer"]) == answer["value"]
    assert set(answer["value"]) == {"a_b", "c"}
    assert str(answer["value"]["a_b"]) in " ".join(answer["unverified"]) or not answer["unverified"]


def test_too_few_tokens_are_an_error_and_nothing_is_printed(mm1, llama, notes):
    """Red: half an object comes out with exit code 0."""
    ran = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT, "--schema", FIELDS)
    assert (ran.code, ran.out) == (4, "")
    assert "--max-tokens" in ran.err


@pytest.mark.parametrize("command", ["analyze", "ask"])
def test_a_bad_schema_is_told_before_anything_is_read(mm1, command):
    """Red: an hour of reading ends in a usage error."""
    more = ("--ask", ASK) if command == "analyze" else (ASK,)
    ran = mm1(command, "nowhere", *more, "--schema", "name, year integer")
    assert ran.code == 2
    assert "▸integer" in ran.err
