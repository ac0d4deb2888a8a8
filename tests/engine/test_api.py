"""Red here means the command line's door to the engine has changed, or loads what it must not."""

import inspect
import json
import subprocess
import sys

import pytest
from tiny import llama_config, write_checkpoint

from engine import api, model_files, protocols
from engine.api import Quotes, open_engine
from engine.errors import RoomError

NAMES = """
    FAST MOST_TOKENS UNKNOWN_CONTEXT BuildResult Capabilities CheckpointError ConfigError
    Constraint Context ContextPlan Decoding Engine EngineError GgufError Grammar GrammarError
    IoStats Judged KeyRefusedError Kind Level Markers Numbers OnProgress Piece PlacementError
    Quotes RetrievalHead
    RoomError SavedContext SelectedBlock Selection ServerError ServerInfo StopReason StoreError
    SuffixArray TokenScores Tokenizer TokenizerError TooLongError Turn check_schema
    export_context fingerprint import_context max_positions num_parameters open_engine
    open_server open_tokenizer probe_server quotation_spans quotations saved_attachment
    saved_context saved_tokens suffix_array thinking_markers thinks tokens_differ
    tool_call_markers unfinished_quotation usable_cores verify_context why_foreign
"""
FILES = """
    Form ModelFacts Needle Probe USUAL apply_delta available_bytes calibrate check_score_memory
    check_tensors facts gguf_architectures gguf_info gguf_kinds gguf_parts import_gguf
    model_types plan quantize score_error verify
"""
HEAVY = ("torch", "numpy", "tokenizers", "jinja2", "llguidance", "gguf", "safetensors")


@pytest.fixture
def engine(tmp_path):
    return open_engine(write_checkpoint(tmp_path / "m", llama_config()), threads=1)


def test_the_exported_names_are_these():
    """Red: who stands behind the same door must have more, or may have less. Say so there first."""
    assert api.__all__ == NAMES.split()
    assert all(hasattr(api, name) for name in api.__all__)


def test_the_other_door_has_these():
    imported = {
        "Callable",
        "Mapping",
        "OnProgress",
        "Path",
        "Sequence",
        "TYPE_CHECKING",
        "dataclass",
    }
    public = {name for name in vars(model_files) if not name.startswith("_")}
    assert sorted(public - imported) == sorted(FILES.split())


@pytest.mark.parametrize("module", ["engine.api", "engine.model_files", "engine.protocols"])
def test_a_door_loads_nothing_heavy(module):
    """Red: `mm1 --help` waits for torch."""
    program = f"import sys, json, {module}; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not set(HEAVY) & set(json.loads(done.stdout))


def test_an_engine_here_has_every_member_of_its_protocol(engine):
    """Red: the contract names what this engine does not have, or in another form."""
    pairs = [
        (protocols.Engine, engine),
        (protocols.Tokenizer, engine.tokenizer),
        (protocols.Context, engine.new_context()),
    ]
    for protocol, real in pairs:
        for name, member in vars(protocol).items():
            if name.startswith("_") and name != "__len__":
                continue
            assert hasattr(real, name), f"{protocol.__name__}.{name}"
            if inspect.isfunction(member) and name != "__len__":
                wanted = set(inspect.signature(member).parameters) - {"self"}
                assert wanted <= set(inspect.signature(getattr(real, name)).parameters), name


def test_what_belongs_to_another_engine_is_refused(engine):
    """Red: a context or grammar of another engine is taken for one of this."""
    context = engine.new_context()
    context.extend([5, 6])
    with pytest.raises(TypeError, match="another engine"):
        engine.decode(object(), max_tokens=1)
    with pytest.raises(TypeError, match="another engine"):
        engine.decode(context, max_tokens=1, constraint=object())


def test_a_grammar_says_when_there_is_no_room(engine):
    """Red: a run reads for an hour and then finds that no answer is that short."""
    grammar = engine.grammar({"type": "object", "properties": {}, "additionalProperties": False})
    grammar.check_room(8)
    with pytest.raises(RoomError, match="--max-tokens"):
        grammar.check_room(0)


def test_a_damaged_suffix_array_is_built_anew():
    texts = ["the rat sat", "on the mat"]
    built = api.suffix_array(texts)
    for saved in (b"", b"no array", built.dump()[:-1], built.dump()):
        again = api.suffix_array(texts, saved)
        assert again.find_all(b"the", 5) == built.find_all(b"the", 5) != []


def test_quotes_are_held_while_an_answer_is_decoded(engine):
    """Red: the constraint that is data is not made into a mask."""
    assert engine.capabilities.has_quotes
    context = engine.new_context()
    context.extend(engine.tokenizer.encode('say "'))
    asked = []

    def suffixes():
        asked.append(1)
        return api.suffix_array(["the rat sat"])

    text = "".join(engine.decode(context, max_tokens=6, constraint=Quotes(suffixes, 'say "')))
    assert asked, "nobody looked into what may be quoted"
    assert text.strip() and text.partition('"')[0].strip() in "the rat sat"
