"""Red here means the door through which the command line reaches the engine is not as described."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import (
    LISTED,
    hf_spelling,
    llama_config,
    minimax_config,
    random_weights,
    tokenizer_json,
    write_checkpoint,
    write_config,
    write_tokenizer,
)

from engine.api import Turn, max_positions
from engine.engine import Engine
from engine.errors import EngineError, PlacementError, TokenizerError
from engine.placement import memory


@pytest.fixture
def directory(tmp_path):
    return write_checkpoint(tmp_path / "m1", minimax_config(), num_shards=2)


def answer(engine, *turns, **settings):
    context = engine.new_context()
    for piece in engine.tokenizer.chat([Turn("user", turns)]):
        context.extend(engine.tokenizer.encode_piece(piece))
    decoding = engine.decode(context, max_tokens=12, **settings)
    return "".join(decoding), decoding


@pytest.mark.parametrize("config", [minimax_config(), llama_config()], ids=["m1", "llama"])
def test_a_checkpoint_answers_the_same_every_time(tmp_path, config):
    directory = write_checkpoint(tmp_path / "m", config, template=LISTED)
    engines = [Engine(directory), Engine(directory)]
    texts = [answer(engine, "the cat", "sat on")[0] for engine in engines]
    assert texts[0] == texts[1] != ""
    assert engines[0].fingerprint == engines[1].fingerprint
    assert "float32" in engines[0].dtype_reason


def test_sampling_reaches_the_sampler(directory):
    engine = Engine(directory)
    texts = {answer(engine, "the cat", temperature=2.0, seed=seed)[0] for seed in (1, 2, 3)}
    assert len(texts) == 3
    top = [answer(engine, "cat", temperature=2.0, top_p=1e-6, seed=seed)[0] for seed in (1, 2)]
    assert top[0] == top[1] == answer(engine, "cat")[0]


def test_stop_ids_come_from_config_and_tokenizer(tmp_path):
    config = minimax_config(eos_token_id=[7, 9])
    engine = Engine(write_checkpoint(tmp_path / "m", config))
    _, decoding = answer(engine, "x")
    first = decoding.token_ids[0]
    for eos, kept in (([first], 0), ([], 12)):
        write_config(engine.directory, config | {"eos_token_id": eos})
        assert len(answer(Engine(engine.directory), "x")[1].token_ids) == kept
    write_config(engine.directory, config)
    raw = tokenizer_json()
    word = next(word for word, i in raw["model"]["vocab"].items() if i == first)
    write_tokenizer(engine.directory, eos_token=word)
    assert answer(Engine(engine.directory), "x")[1].token_ids == []


def test_the_context_may_not_outgrow_the_trained_length_unless_told(tmp_path):
    directory = write_checkpoint(tmp_path / "m", minimax_config(max_position_embeddings=40))
    assert max_positions(directory) == 40
    engine = Engine(directory)
    context = engine.new_context()
    context.extend([5] * 37)
    decoding = engine.decode(context, max_tokens=30)
    list(decoding)
    assert (len(context), decoding.stop_reason) == (40, "context full")
    list(engine.decode(context, max_tokens=10, max_positions=45))
    assert len(context) == 45


def test_the_fingerprint_is_of_config_weights_index_and_tokenizer(tmp_path, directory):
    fingerprint = Engine(directory).fingerprint
    config = minimax_config()
    assert Engine(write_checkpoint(tmp_path / "n", config)).fingerprint == fingerprint
    raw = tokenizer_json()
    raw["model"]["merges"].pop()
    changed = [
        lambda d: write_config(d, config | {"rms_norm_eps": 1e-6}),
        lambda d: write_tokenizer(d, raw=raw),
        lambda d: write_checkpoint(
            d, config, random_weights(config) | {"more.weight": torch.zeros(1)}
        ),
        lambda d: write_checkpoint(  # trained on: the same names and shapes
            d, config, {name: 1.001 * tensor for name, tensor in random_weights(config).items()}
        ),
    ]
    for number, change in enumerate(changed):
        other = write_checkpoint(tmp_path / f"other{number}", config)
        change(other)
        assert Engine(other).fingerprint != fingerprint


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(directory, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10**6)
    monkeypatch.setattr("engine.checkpoint.Checkpoint.read", lambda *_: pytest.fail("read"))
    with pytest.raises(PlacementError, match=r"needs .* GB = weights .* read less"):
        Engine(directory, num_tokens=100_000)


def test_a_model_that_fits_alone_is_refused_with_too_long_a_context(directory, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 8 * 2**20)
    Engine(directory)
    with pytest.raises(PlacementError, match=r"needs 0\.26 GB"):
        Engine(directory, num_tokens=1_000_000)


@pytest.mark.parametrize("device", ["tpu", "gpu", "", "mps", "meta", "cuda"])
def test_a_device_that_is_not_there_is_refused(directory, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="device") as caught:
        Engine(directory, device=device)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    """Else its highest ids would be read from outside the embedding, in the middle of a run."""
    directory = write_checkpoint(tmp_path / "m", minimax_config(vocab_size=200))
    with pytest.raises(TokenizerError, match=r"ids up to 2\d\d, but the model has 200"):
        Engine(directory)


def test_progress_ends_with_all_bytes(directory):
    seen = []
    Engine(directory, on_progress=lambda done, total: seen.append((done, total)))
    total = sum(tensor.nbytes for tensor in random_weights(minimax_config()).values())
    assert seen[-1] == (total, total)


def test_threads_are_set_when_asked_for(directory):
    before = torch.get_num_threads()
    try:
        Engine(directory, threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_hf_spelling_answers_the_same(tmp_path, directory):
    config = minimax_config()
    other = write_checkpoint(tmp_path / "hf", hf_spelling(config), random_weights(config))
    assert answer(Engine(other), "the cat")[0] == answer(Engine(directory), "the cat")[0]


def test_every_error_of_the_engine_is_one_line_and_a_value_error():
    from engine import errors

    for name in ("ConfigError", "CheckpointError", "TokenizerError", "GgufError", "PlacementError"):
        error = getattr(errors, name)("a\nb\r\n  c")
        assert isinstance(error, EngineError)
        assert isinstance(error, ValueError)
        assert str(error) == "a b c"
        assert name in (errors.__doc__ or "")


def test_importing_the_door_does_not_import_torch():
    code = "import sys, engine.engine; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert found.stdout == "False\n"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors.index.json"])
def test_a_directory_that_is_no_model_says_what_is_missing(tmp_path, directory, name):
    (directory / name).unlink()
    wanted = "model.safetensors" if "index" in name else name
    with pytest.raises(EngineError, match=wanted):
        Engine(directory)
    with pytest.raises(EngineError, match=r"no config\.json; is this a model folder"):
        Engine(tmp_path / "nowhere")


def test_a_chunk_size_changes_an_answer_by_rounding_only(directory):
    contexts = []
    for chunk_tokens in (25, 512):  # 16 rows and fewer are products with float16 weights
        context = Engine(directory, chunk_tokens=chunk_tokens).new_context()
        context.extend([5 + n for n in range(50)])
        contexts.append(context)
    assert (contexts[0].logits - contexts[1].logits).abs().max() < 1e-4
    assert json.dumps(contexts[0].token_ids) == json.dumps(contexts[1].token_ids)
