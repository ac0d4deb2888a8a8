"""Red here means the command line's door to the engine has changed, or loads what it must not."""

import inspect
import json
import subprocess
import sys

import pytest
from tiny import llama_config, write_checkpoint

from engine import api, model_files, protocols
from engine.api import ContextPlan, EngineError, Quotes, RetrievalHead, open_engine
from engine.errors import RoomError
from engine.remote.chat import ChatServer, TextTokenizer
from engine.remote.client import Client
from engine.remote.dialect import Dialect
from engine.remote.engine import RemoteEngine
from engine.remote.llama import LlamaServer
from engine.remote.saved import BuildResult
from engine.remote.sglang import SglangServer
from engine.remote.vllm import VllmServer

NAMES = """
    FAST MOST_TOKENS UNKNOWN_CONTEXT BuildResult Capabilities CheckpointError ConfigError
    Constraint Context ContextPlan Decoding Engine EngineError GgufError Grammar GrammarError
    IoStats Judged KeyRefusedError Kind Level Markers Numbers OnProgress Piece PlacementError
    Quotes RetrievalHead
    RoomError SavedContext SelectedBlock Selection ServerError ServerInfo StopReason StoreError
    SuffixArray TokenScores Tokenizer TokenizerError TooLongError Turn check_schema
    export_context fingerprint import_context max_positions num_parameters open_engine open_model
    open_server open_tokenizer probe_server quotation_spans quotations saved_attachment
    saved_context suffix_array thinking_markers thinks tokens_differ
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


def over_servers(model, info):
    """An engine for each kind of server; nothing is sent."""
    tokenizer, client = api.open_tokenizer(model), Client("http://127.0.0.1:1")
    dialects = (LlamaServer(client), VllmServer(client, "m"), SglangServer(client, "m"))
    engines = [RemoteEngine(info, one, tokenizer, fingerprint="f") for one in dialects]
    text = TextTokenizer()
    chat = ChatServer(client, "m", text)
    return [*engines, RemoteEngine(info, chat, text, fingerprint="f")], [*dialects, chat]


def has_form_of(function, contract):
    """Whether it can be called as the contract says, with the same defaults."""
    own, wanted = (inspect.signature(one).parameters for one in (function, contract))
    own_forms, wanted_forms = (
        [(one.name, one.kind, one.default) for one in parameters.values()]
        for parameters in (own, wanted)
    )
    more = own_forms[len(wanted_forms) :]
    is_optional = all(default is not inspect.Parameter.empty for _, _, default in more)
    return own_forms[: len(wanted_forms)] == wanted_forms and is_optional


def test_an_engine_has_every_member_of_its_protocol_in_its_form(engine, tmp_path):
    """Red: the contract names what an engine, here or over a server, has not, or not so: a
    parameter that is missing, that goes by another name or has another default. Types, mypy holds,
    where `open_engine` and `open_server` return an `Engine`."""
    info = api.ServerInfo("127.0.0.1:1", api.Kind.OPENAI, has_schemas=True)
    remote, dialects = over_servers(tmp_path / "m", info)
    engines, context = [engine, *remote], remote[0].new_context()
    pairs = [(protocols.Engine, one) for one in engines]
    pairs += [(protocols.Tokenizer, one.tokenizer) for one in engines]
    pairs += [(protocols.Context, one.new_context()) for one in engines]
    pairs += [(Dialect, one) for one in dialects]
    for one in (engine, remote[0]):
        pairs.append((protocols.Decoding, one.decode(one.new_context(), max_tokens=1)))
        pairs.append((protocols.Grammar, one.grammar({"type": "boolean"})))
    pairs.append((protocols.BuildResult, BuildResult(context, 0, False)))
    for protocol, real in pairs:
        for name, member in vars(protocol).items():
            if name.startswith("_") and name not in {"__len__", "__iter__"}:
                continue
            where = f"{type(real).__module__}.{type(real).__name__}.{name}"
            assert hasattr(real, name), where
            if inspect.isfunction(member):
                assert has_form_of(getattr(type(real), name), member), where


def test_what_an_engine_over_a_server_cannot_do_is_an_error_of_the_engine(engine, tmp_path):
    """Red: what `Capabilities` deny comes as a traceback, or as an answer that is none."""
    for one in over_servers(tmp_path / "m", api.ServerInfo("h", api.Kind.OPENAI))[0]:
        can, context = one.capabilities, one.new_context()
        denied = [
            (can.has_token_scores, context.extend, ([5], None, lambda _: None)),
            (can.has_attention, context.judge, ([5], [6], RetrievalHead(0, 0, 1))),
            (can.has_grammars, one.grammar, ({"type": "boolean"},)),
            (can.has_relevance, one.relevance, ("q", ["a"])),
            (can.can_save, one.build_context, (tmp_path / "c", ContextPlan([5]))),
            (can.can_save, one.open_context, (tmp_path / "c",)),
        ]
        for is_able, call, given in denied:
            assert not is_able
            with pytest.raises(EngineError):
                call(*given)
        assert context.attention([5]) is None and context.search([5]) is None
        assert list(context.select([5])) == []


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
