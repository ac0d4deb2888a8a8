"""The examples with the embedded model: what the README shows is what people get."""

import json
import os
from pathlib import Path

import jsonschema
import pytest
from commandline import start

from mm1cli.answering import json_schema

PAPERS = Path(__file__).parents[1] / "examples" / "papers"

pytestmark = [pytest.mark.rest, pytest.mark.mini]


@pytest.mark.parametrize(
    ("plan", "arguments"), [("whole", ()), ("focus", ("--context-tokens", 2000))]
)
def test_the_builder_is_found_in_the_papers(mini_dir, tmp_path, plan: str, arguments):
    """Red: the first command in the README gives no evidence for its answer."""
    asked = ("analyze", PAPERS, "--ask", "Who built the crossing?", "--max-tokens", 40, *arguments)
    environment = os.environ | {"MM1_DATA_DIR": str(mini_dir.parents[1])}
    with start(*asked, "--json", env=environment, cwd=tmp_path) as process:
        out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["manifest"]["plan"] == plan
    assert any("Calder and Vane" in citation["text"] for citation in told["citations"])
    assert told["answer"].strip()


def test_json_of_the_papers_follows_its_schema(mini_dir, tmp_path):
    """Red: the JSON in the README is not what comes out."""
    fields = "builder, cost float: million crowns, opened date, late bool"
    asked = ("--ask", "Who built the crossing, and what did it cost?", "--max-tokens", 80)
    environment = os.environ | {"MM1_DATA_DIR": str(mini_dir.parents[1])}
    more = ("--context-tokens", 2500, "--schema", fields, "--json")
    with start("analyze", PAPERS, *asked, *more, env=environment, cwd=tmp_path) as process:
        out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err
    (answer,) = json.loads(out)["answers"]
    assert answer["value"] == json.loads(answer["answer"])
    jsonschema.validate(answer["value"], json_schema.parse(fields))
    assert answer["stop_reason"] == "end"
