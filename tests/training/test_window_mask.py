"""Red here means windows of document tokens are trained as the engine will never use them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from measure import relative_rms
from tiny import load_model

from engine.context import Context
from training import distil, lengthen, reinforce, window_mask
from training.convert import ConversionConfig, convert, hybrid_config
from training.data import Sequences

IDS = torch.randint(4, 290, (90,), generator=torch.Generator().manual_seed(3))
IS_ANSWER = torch.arange(90) >= 80


@pytest.fixture
def windowed(parent):
    """Layer 3 shows document tokens 8 tokens and one sink, layer 1 never more than 12."""
    config = hybrid_config(
        {**_config_of(parent), "max_position_embeddings": 512},
        ConversionConfig.parse("1:8w12,3:8d8+1"),
    )
    return convert(load_model(parent), config)


def _config_of(parent):
    import json

    return json.loads((parent / "config.json").read_text())


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.integers(0, 70))
def test_answers_and_the_tokens_before_them_see_everything(is_answer, before):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_mask, "QUESTION_TOKENS", before)
        got = window_mask.global_mask(torch.tensor(is_answer)).tolist()
    assert got == [any(is_answer[n : n + before + 1]) for n in range(len(is_answer))]


def hidden_of(model, ids, is_answer):
    return distil.Distillation._hidden(model, ids, is_answer)


def engine_logits(model, ids, border):
    context = Context(model, 32)
    rows = [logits for _, logits in context.chunks(ids[:border].tolist())]
    context.end_of_documents()
    rows += [logits for _, logits in context.chunks(ids[border:].tolist())]
    return model.logits(torch.cat(rows))


@torch.no_grad()
def test_training_sees_what_the_engine_sees(windowed, monkeypatch):
    monkeypatch.setattr(window_mask, "QUESTION_TOKENS", 20)
    got = windowed.logits(hidden_of(windowed, IDS, IS_ANSWER))
    want = engine_logits(windowed, IDS, 60)
    assert relative_rms(got, want) < 1e-4
    all_near = windowed.logits(hidden_of(windowed, IDS, torch.zeros(90, dtype=torch.bool)))
    assert relative_rms(all_near[:60], want[:60]) < 1e-4
    assert relative_rms(all_near[60:], want[60:]) > 1e-2


@torch.no_grad()
def test_a_document_after_an_answer_has_its_window_again(windowed, monkeypatch):
    """The same tokens before and after: only those marked differ from a sequence without marks."""
    monkeypatch.setattr(window_mask, "QUESTION_TOKENS", 10)
    layer = windowed.layers[3].mixer
    hidden = torch.randn(90, windowed.config.hidden_size)
    is_answer = (torch.arange(90) >= 40) & (torch.arange(90) < 50)

    def out(marks):
        states = windowed.empty_states(differentiable=True)
        window_mask.mark(states, marks)
        return layer(hidden, states[3], 0)

    differs = (out(is_answer) - out(torch.zeros_like(is_answer))).abs().amax(dim=1) > 1e-6
    assert differs.tolist() == [30 <= n < 50 for n in range(90)]


def test_a_batch_marks_each_sequence_by_its_own_answers(parent, windowed, monkeypatch):
    monkeypatch.setattr(window_mask, "QUESTION_TOKENS", 5)
    ids = torch.stack([IDS, IDS.flip(0), IDS.roll(7)], dim=1)
    is_answer = torch.stack([IS_ANSWER, IS_ANSWER.roll(40), IS_ANSWER & False], dim=1)
    stage = distil.Distillation(windowed, load_model(parent))
    loss = stage.learn(ids, is_answer, 1.0)
    together = {name: p.grad.clone() for name, p in stage.parameters.items()}
    for parameter in stage.parameters.values():
        parameter.grad = None
    losses = [stage.learn(ids[:, n], is_answer[:, n], 1 / 3) for n in range(3)]
    assert loss == pytest.approx(sum(losses) / 3, rel=1e-5)
    for name, gradient in together.items():
        assert relative_rms(gradient, stage.parameters[name].grad) < 1e-4, name


def test_judging_sees_what_learning_sees(parent, windowed, monkeypatch):
    monkeypatch.setattr(window_mask, "QUESTION_TOKENS", 5)
    data = Sequences(IDS[None].int(), IS_ANSWER[None])
    stage = distil.Distillation(windowed, load_model(parent))
    marked = stage.judge(data)["kl"]
    unmarked = stage.judge(Sequences(IDS[None].int(), IS_ANSWER[None] & False))["kl"]
    assert marked != pytest.approx(unmarked, rel=1e-3)
    want = stage.learn(IDS, IS_ANSWER & False, 1.0)  # without answers the loss is the KL
    assert unmarked == pytest.approx(want, rel=1e-4)


def test_an_answer_is_drawn_and_learnt_with_the_same_sight(parent, windowed, monkeypatch):
    """Else the importance weights of stage 5 would be wrong from the first step on."""
    monkeypatch.setattr(window_mask, "QUESTION_TOKENS", 20)
    from engine.tokenizer import Tokenizer

    rules = reinforce.Rules(group=2, max_tokens=4)
    stage = reinforce.Reinforcement(windowed, Tokenizer(parent), rules, lambda *_: 0.0)
    prompt = IDS[:80].tolist()
    (answer, *_) = stage._draw(prompt)
    states = windowed.empty_states(differentiable=True)
    mask = torch.arange(80 + len(answer.token_ids)) >= 80
    window_mask.mark(states, mask)
    ids = torch.tensor([*prompt, *answer.token_ids])
    with torch.no_grad():
        scores = windowed.logits(windowed(ids, states, 0)).log_softmax(-1)[79:-1]
    want = scores.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
    assert torch.allclose(answer.log_p, want, atol=1e-4)
    ratios = []
    monkeypatch.setattr(
        reinforce.cispo,
        "loss",
        lambda log_p, before, *_, **__: ratios.append((log_p - before).abs().max()) or log_p.sum(),
    )
    stage._loss(prompt, [answer], torch.ones(1))
    assert max(ratios) < 1e-4


def test_a_hybrid_is_lengthened_with_windows(parent, windowed, records, tmp_path):
    from training.export import write_model

    config = hybrid_config(_config_of(parent), ConversionConfig.parse("1:8,3:8"))
    write_model(convert(load_model(parent), config), config, parent, tmp_path / "student")
    options = ["--parent", parent, "--student", tmp_path / "student", "--run", tmp_path / "run"]
    options += ["--preset", "smoke", "--text", records / "text.jsonl", "--steps", "2"]
    options += ["--qa", records / "qa.jsonl", "--softmax", "3:8d40+4", "--kl-weight", "1"]
    lengthen.command([str(option) for option in options])
    softmax = load_model(tmp_path / "run" / "model").config.layers[3].softmax
    assert (softmax.window_tokens, softmax.sink_tokens, softmax.sliding_window) == (40, 4, False)
