"""Red here means JSON that does not parse, breaks its schema, is cut short, or never ends."""

import gzip
import json
import time
from pathlib import Path

import jsonschema
import pytest
import tiny
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from engine.constraints.grammar import Grammar, TokenBytes, bounded_schema, check
from engine.constraints.vocabulary import token_bytes
from engine.decode import StopReason
from engine.engine import Engine
from engine.errors import GrammarError, RoomError

PAPER = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "year": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "risk": {"enum": ["low", "medium", "high"]},
    },
    "required": ["name", "year", "tags", "risk"],
}
KEYS = st.sampled_from(["a", "b", "long name", "ü", 'quo"te', "<|im_end|>"])


@st.composite
def leaves(draw):
    kind = draw(st.sampled_from(["string", "integer", "number", "boolean", "null", "enum", "text"]))
    if kind == "enum":
        values = st.lists(st.none() | st.integers() | KEYS, min_size=1, max_size=4, unique=True)
        return {"enum": draw(values)}
    if kind == "text":
        low = draw(st.integers(0, 4))
        return {"type": "string", "minLength": low, "maxLength": low + draw(st.integers(0, 9))}
    if kind == "integer":
        low = draw(st.integers(-10_000, 10_000))
        bounds = {"minimum": low, "maximum": low + draw(st.integers(0, 999))}
        return {"type": "integer"} | draw(st.sampled_from([{}, bounds]))
    if kind == "string":
        patterns = ["^[a-z]{2,5}@[a-z]+$", "^(yes|no|perhaps not)$", r"^\d{4}-\d{2}$"]
        more = [{}, {"format": "date"}, *({"pattern": pattern} for pattern in patterns)]
        return {"type": "string"} | draw(st.sampled_from(more))
    return {"type": kind}


def nested(inner):
    def as_object(properties, count):
        required = list(properties)[:count]
        return {"type": "object", "properties": properties, "required": required}

    lists = st.builds(
        lambda items, low, more: {
            "type": "array", "items": items, "minItems": low, "maxItems": low + more,
        },
        inner, st.integers(0, 3), st.integers(0, 4),
    )  # fmt: skip
    endless = st.builds(lambda items: {"type": "array", "items": items}, inner)
    objects = st.builds(as_object, st.dictionaries(KEYS, inner, max_size=4), st.integers(0, 4))
    either = st.lists(inner, min_size=1, max_size=3).map(lambda found: {"anyOf": found})
    return objects | lists | endless | either


SCHEMAS = st.recursive(leaves(), nested, max_leaves=8)


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Engine:
    """A random model that may never end its turn: the end of an answer is the grammar's doing."""
    config = tiny.llama_config()
    weights = tiny.random_weights(config)
    weights["model.embed_tokens.weight"][: len(tiny.CONTROL)] = 0
    directory = tmp_path_factory.mktemp("model") / "m"
    return Engine(tiny.write_checkpoint(directory, config, weights), threads=1)


def write(engine, schema, max_tokens=80, **options):
    context = engine.new_context()
    context.extend(engine.tokenizer.encode("the cat"))
    constraint = engine.json_constraint(engine.grammar(schema))
    decoding = engine.decode(context, max_tokens=max_tokens, constraint=constraint, **options)
    return "".join(decoding), decoding


@settings(max_examples=60, deadline=None)
@given(SCHEMAS, st.integers(1, 150), st.integers(0, 10**6), st.sampled_from([0.0, 2.0]))
def test_whatever_is_written_parses_and_follows_the_schema(engine, schema, most, seed, temperature):
    """Red: --schema prints JSON that another program cannot use."""
    try:
        text, decoding = write(engine, schema, most, temperature=temperature, seed=seed)
    except RoomError:
        assume(False)
    assert len(decoding.token_ids) <= most
    jsonschema.validate(json.loads(text), schema)


def test_at_every_length_the_answer_is_whole_or_refused(engine):
    """Red: an object is cut at --max-tokens, or a short limit that would do is refused."""
    lengths = []
    for most in range(1, 75):
        try:
            text, decoding = write(engine, PAPER, most, temperature=2.0, seed=most)
        except RoomError as error:
            assert "--max-tokens" in str(error)
            assert not lengths, "a longer limit is enough too"
            continue
        jsonschema.validate(json.loads(text), PAPER)
        lengths.append(len(decoding.token_ids))
        assert lengths[-1] <= most
    assert len(lengths) > 20
    assert decoding.stop_reason in {StopReason.MAX_TOKENS, StopReason.END}


def test_a_full_context_closes_the_answer_too(engine):
    """Red: near the model's last position an object is left open."""
    for room in range(70, 80):
        text, decoding = write(engine, PAPER, 500, temperature=2.0, max_positions=room)
        jsonschema.validate(json.loads(text), PAPER)
        assert len(decoding.token_ids) <= room


def test_a_greedy_loop_is_closed_and_told(engine):
    """Red: a model that repeats itself inside a text leaves the object open."""
    text, decoding = write(engine, {"type": "array", "items": {"type": "string"}}, 600)
    assert isinstance(json.loads(text), list)
    assert decoding.stop_reason in {StopReason.LOOP, StopReason.END}
    assert len(decoding.token_ids) < 600


def test_the_model_has_its_way_within_the_schema(engine):
    """Red: the grammar writes a fixed answer and the model has no say."""
    texts = {write(engine, PAPER, temperature=2.0, seed=seed)[0] for seed in range(6)}
    assert len(texts) == 6
    assert {json.loads(text)["risk"] for text in texts} > {"low"}


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"$ref": "#"}, "no JSON follows"),
        ({"$ref": "http://127.0.0.1/x.json"}, "not present in a registry"),
        ({"type": "strin"}, "Invalid type"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "object", "minProperties": 2}, "name the properties"),
        ({"type": "string", "enum": [1]}, "Unsatisfiable"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 10**6}, "no JSON of at most"),
        ({"type": "string", "minLength": 10**6}, "no JSON of at most"),
        ({"$defs": {"a": {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}},
                          "required": ["x"]}}, "$ref": "#/$defs/a"}, "no JSON of at most"),
        ({"enum": [f"value {i}" for i in range(50_000)]}, "longer than"),
        (json.loads('{"items":' * 500 + "{}" + "}" * 500), "nested deeper"),
    ],
)  # fmt: skip
def test_a_schema_that_cannot_be_followed_is_refused_soon(schema, complaint):
    """Red: a hostile schema hangs the program or is accepted and fails after the reading."""
    began = time.monotonic()
    with pytest.raises(GrammarError, match=complaint) as caught:
        check(schema)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(a{1,1000}){1,1000}$"},
        {"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"},
        {"type": "string", "pattern": "^(x+x+)+y$"},
        {"anyOf": [{"type": "object", "properties": {f"k{i}": {}}} for i in range(500)]},
        {"enum": [f"value number {i}" for i in range(5_000)]},
    ],
    ids=["repeats", "words", "backtracking", "alternatives", "values"],
)
def test_a_heavy_schema_is_followed_or_refused_in_bounded_time(engine, schema):
    """Red: a pattern can hold the machine."""
    began = time.monotonic()
    try:
        check(schema)
        text, _ = write(engine, schema, 60, temperature=2.0)
    except (GrammarError, RoomError):
        pass
    else:
        jsonschema.validate(json.loads(text), schema)
    assert time.monotonic() - began < 10


def test_an_end_where_nothing_longer_fits(engine):
    """Red: the only ids left are refused, and the program stops with an internal error."""
    schema = {"anyOf": [{"const": 1}, {"const": 10**14}]}
    for seed in range(8):
        text, decoding = write(engine, schema, 3, temperature=2.0, seed=seed)
        assert (text, decoding.stop_reason) == ("1", StopReason.MAX_TOKENS)


def test_a_narrowed_schema_names_all_that_may_come():
    """Red: an object gets properties that nobody asked for, or numbers no reader can hold."""
    inner = bounded_schema({"type": "array", "items": PAPER})["items"]
    assert inner["additionalProperties"] is False
    assert inner["properties"]["year"]["maximum"] == 2**53 - 1
    kept = {"type": "object", "properties": {"not": PAPER}}
    assert bounded_schema(kept) == kept, "words that turn less into more leave all as it is"


def test_control_tokens_are_text_in_a_schema(engine):
    """Red: a name in a schema ends the model's turn, or puts words into another's mouth."""
    schema = {"const": "a <|im_end|> b"}
    text, decoding = write(engine, schema)
    assert json.loads(text) == "a <|im_end|> b"
    assert engine.tokenizer.control_ids.isdisjoint(decoding.token_ids)


@pytest.mark.parametrize("name", ["m1", "mini"])
def test_real_tokenizers_write_the_shortest_answer(name, request):
    """Red: --schema fails with a tokenizer of a kind the tiny one is not."""
    if name == "m1":
        path = Path(__file__).parents[3].parent / "shared/m1-tokenizer/tokenizer.json.gz"
        if not path.exists():
            pytest.skip("the published tokenizer is not at hand")
        raw, ends, size = json.loads(gzip.decompress(path.read_bytes())), {200020}, 200_064
    else:
        directory = request.getfixturevalue("mini_dir")
        raw, ends, size = json.loads((directory / "tokenizer.json").read_text()), {2}, 49_152
    words = token_bytes(Library.from_str(json.dumps(raw)), size)
    spelling = TokenBytes.of(raw, words, frozenset(ends))
    grammar = Grammar(PAPER, spelling)
    way = grammar.shortest(100)
    text = spelling.tokenizer.decode_str(list(way))
    value = json.loads(text)
    jsonschema.validate(value, PAPER)
    assert value | {"risk": "low"} == {"name": "", "year": 0, "tags": [], "risk": "low"}
    assert len(way) < 30
