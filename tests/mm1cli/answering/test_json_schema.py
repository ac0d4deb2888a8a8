"""Red here means --schema is misread, or a mistake in it is not pointed at."""

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm1cli.answering import json_schema
from mm1cli.errors import UsageError
from mm1cli.grounding.facts import Facts, unknown_facts


def test_a_short_form_says_what_the_long_form_says():
    """Red: fields are lost, or a type means another."""
    got = json_schema.parse(
        "name, year int, tags [str], risk low|medium|high, ok bool?, at date: when"
    )
    assert (
        list(got["properties"]) == got["required"] == ["name", "year", "tags", "risk", "ok", "at"]
    )
    assert got["additionalProperties"] is False
    good = {"name": "a", "year": 3, "tags": ["x"], "risk": "low", "ok": None, "at": "2017-09-21"}
    jsonschema.validate(good, got)
    bad = {"name": 1, "year": 3.5, "tags": [1], "risk": "none", "ok": "yes", "at": 1}
    for name, value in bad.items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(good | {name: value}, got)
    assert got["properties"]["at"]["description"] == "when"


def test_lists_and_objects_nest():
    """Red: a list of objects cannot be asked for."""
    got = json_schema.parse("[party {name, role buyer|seller}, amounts [float]: in crowns]")
    value = [{"party": {"name": "x", "role": "buyer"}, "amounts": [1.5]}]
    jsonschema.validate(value, got)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{"party": {"name": "x", "role": "nobody"}, "amounts": []}], got)
    assert json_schema.parse("a\nb int\n") == json_schema.parse("a, b int")
    assert json_schema.parse("[a|b]")["items"] == {"enum": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "pointed"),
    [
        ("name, year integer", "▸integer"),
        (",a", "▸,a"),
        ("a int c", "▸c"),
        ("a, a", "▸a"),
        ("a [str", "▸"),
        ("a {b", "▸"),
        ("a low|", "▸"),
        ('"a"', '▸"a"'),
        ("", "▸"),
        ("9 lives", "▸9"),
        ("[" * 40, "▸["),
    ],
)
def test_a_mistake_is_pointed_at(text, pointed):
    """Red: people are told that it is wrong, but not where."""
    with pytest.raises(UsageError) as caught:
        json_schema.load(text)
    assert pointed in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text('ab1 ,[]{}|?:\n"é', max_size=30))
def test_any_text_is_a_schema_or_a_usage_error(text):
    """Red: a slip of the finger ends in a traceback."""
    try:
        got = json_schema.parse(text)
    except UsageError:
        return
    jsonschema.Draft202012Validator.check_schema(got)


def test_a_file_is_a_json_schema(tmp_path):
    """Red: a file is read as a short form, or its mistakes are told badly."""
    path = tmp_path / "paper.json"
    path.write_text(json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}}))
    assert json_schema.load(str(path))["properties"] == {"a": {"type": "integer"}}
    for content, complaint in [("{", "not JSON"), ("[]", "is an object"), ("[" * 10**5, "JSON")]:
        path.write_text(content)
        with pytest.raises(UsageError, match=complaint):
            json_schema.load(str(path))
    path.write_text('{"type": "array", "uniqueItems": true}')
    with pytest.raises(UsageError, match="uniqueItems"):
        json_schema.load(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        json_schema.load(str(tmp_path / "none.json"))


def test_numbers_are_said_as_they_were_written():
    """Red: 48.20 is looked up as 48.2, which no document says."""
    assert (
        json_schema.values_as_text('{"a": 48.20, "b": ["x", 1904, true, null]}') == "48.20\nx\n1904"
    )


def test_a_date_and_a_number_are_known_however_the_documents_write_them():
    """Red: a true date is called invented, or 11 passes because 11:30 stands in a mail's head."""
    text = '{"a": "2017-09-21", "b": "1499-09-24", "c": 11, "d": 11704.0, "e": "14th March 2017"}'
    said = json_schema.values_as_text(text)
    read = Facts.of(["Sent at 11:30:00. Opened on 21 September 2017 for EUR 11,704.00, 14 pumps."])
    assert unknown_facts(said, lambda: read) == ["1499-09-24", "11", "14th March 2017"]
