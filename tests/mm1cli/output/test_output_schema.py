"""docs/output.md and docs/output.schema.json are what programs rely on: they say all there is."""

import io
import json
from dataclasses import replace

import jsonschema
import pytest
import sample_run
from described import DOCS, SCHEMA, check_event, check_object

from mm1cli.output.events import JsonLines, JsonObject
from mm1cli.output.terminal import Terminal
from mm1cli.output.text import Channel

EVERY = (sample_run.ANSWER, sample_run.NOT_FOUND, replace(sample_run.TABLE, value={"a": [1]}))


def played(kind: type[JsonObject] | type[JsonLines], *answers) -> str:
    out, aside = io.StringIO(), Channel(io.StringIO())
    sink = kind(Channel(out), Terminal(aside, aside))
    sample_run.play(sink, *answers)
    sink.note("a note")
    sink.progress("prefill", 1, 2, "tokens")
    sink.error("left out", 5)
    sink.close()
    return out.getvalue()


@pytest.mark.parametrize("answers", [EVERY, EVERY[:1], ()])
def test_one_object_is_as_described(answers):
    """Red: a field was added, renamed or retyped, and scripts were not told."""
    check_object(json.loads(played(JsonObject, *answers)))


def test_each_line_is_as_described():
    events = [json.loads(line) for line in played(JsonLines, *EVERY).splitlines()]
    described = set(SCHEMA["$defs"]["event"]["properties"]["type"]["enum"])
    assert {event["type"] for event in events} == described - {"tool"}  # that of tests of tools
    for event in events:
        check_event(event)


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer.pop("not_read"),
        lambda answer: answer.update(is_found="yes"),
        lambda answer: answer.update(surprise=1),
        lambda answer: answer["citations"][0].update(status="fuzzy"),
        lambda answer: answer["citations"][0]["locator"]["place"].pop("label"),
        lambda answer: answer["usage"].update(read_tokens=-1),
    ],
)
def test_the_description_refuses_what_is_not_so(change):
    """Red: the schema would let anything pass."""
    value = json.loads(played(JsonObject, *EVERY))
    cited = value["answers"][0]["citations"]
    cited.sort(key=lambda one: one["locator"]["place"] is None)
    check_object(value)
    change(value["answers"][0])
    with pytest.raises(jsonschema.ValidationError):
        check_object(value)


def test_every_field_is_explained():
    words = (DOCS / "output.md").read_text(encoding="utf-8")
    names: set[str] = set()

    def collect(node: object) -> None:
        if isinstance(node, dict):
            names.update(node.get("properties", {}))
            for child in node.values():
                collect(child)
        elif isinstance(node, list):
            for child in node:
                collect(child)

    collect(SCHEMA)
    assert len(names) > 50
    assert [name for name in sorted(names) if f"`{name}`" not in words] == []
