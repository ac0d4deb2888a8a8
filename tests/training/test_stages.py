"""Red here means a stage learns nothing, or not what it would have learnt without a kill."""

import json
import signal

import pytest
import torch
from measure import relative_rms
from safetensors.torch import load_file
from tiny import load_model

from engine.context import Context
from engine.engine import Engine, check_tensors
from training import align, checkpointing, chunked_loss, distil

QKV = "model.layers.0.self_attn.qkv_proj.weight"
KEPT_OUT = "model.layers.1.self_attn.o_proj.weight"


def align_command(parent, records, run, *more):
    options = ["--parent", parent, "--run", run, "--preset", "smoke", "--keep", "1:8,3:0"]
    options += ["--text", records / "text.jsonl", *more]
    align.command([str(option) for option in options])


def distil_command(parent, student, records, run, *more):
    options = ["--parent", parent, "--student", student, "--run", run, "--preset", "smoke"]
    options += ["--text", records / "text.jsonl", "--qa", records / "qa.jsonl", *more]
    distil.command([str(option) for option in options])


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights_of(run):
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def aligned(parent, records, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "align"
    align_command(parent, records, run)
    return run


@pytest.fixture(scope="module")
def distilled(parent, aligned, records, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "distil"
    distil_command(parent, aligned / "model", records, run)
    return run


def test_aligned_layers_explain_more_of_the_parent(aligned):
    log = log_of(aligned)
    assert [line["step"] for line in log] == list(range(31))
    first, last = log[0]["held_out"], log[-1]["held_out"]
    assert sorted(last["by_layer"]) == ["0", "2"]
    for layer, explained in last["by_layer"].items():
        assert explained > first["by_layer"][layer] + 0.05
    assert log[-1]["loss"] < log[1]["loss"]
    assert log[-1]["tokens"] == 30 * 2 * 64
    assert log[-1]["flops"] == 30 * log[1]["flops"] > 0


def test_distilled_hybrids_are_closer_to_the_parent(distilled):
    first, *_, last = log_of(distilled)
    assert last["held_out"]["kl"] < 0.9 * first["held_out"]["kl"]
    assert last["held_out"]["parent_nll"] == pytest.approx(first["held_out"]["parent_nll"])
    assert last["held_out"]["nll"] < first["held_out"]["nll"]


def test_the_result_is_a_model_the_engine_reads(distilled):
    assert check_tensors(distilled / "model") > 30
    engine = Engine(distilled / "model")
    context = engine.new_context()
    context.extend([5, 6, 7])
    assert list(engine.decode(context, max_tokens=3))


def test_only_what_a_stage_trains_has_changed(parent, aligned, distilled):
    origin = load_file(parent / "model.safetensors")
    first, second = weights_of(aligned), weights_of(distilled)
    assert torch.equal(first[KEPT_OUT], origin[KEPT_OUT])
    for name, tensor in second.items():
        if "mlp." in name or "embed" in name:
            assert torch.equal(tensor, origin[name])
        else:
            assert not torch.equal(tensor, first[name]), name


class Kill(BaseException):
    """What no handler catches: the closest to kill -9 that a test can raise."""


@pytest.mark.parametrize("killed_at", [4, 11, 17])
def test_a_killed_run_ends_with_the_parameters_of_an_uninterrupted_one(
    parent, records, aligned, tmp_path, monkeypatch, killed_at
):
    learn, calls = align.Alignment.learn, []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 2 * killed_at:
            raise Kill
        return learn(self, *arguments)

    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr(align.Alignment, "learn", dying)
        align_command(parent, records, run)
    assert not (run / "model").exists()
    align_command(parent, records, run)
    got, want = weights_of(run), weights_of(aligned)
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert [line["step"] for line in log_of(run)] == list(range(31))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_and_it_goes_on(
    parent, aligned, records, distilled, tmp_path, monkeypatch, number
):
    learn, calls = distil.Distillation.learn, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(number)
        return learn(self, *arguments)

    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(distil.Distillation, "learn", interrupted)
        distil_command(parent, aligned / "model", records, run)
    assert ended.value.code == 128 + number
    assert checkpointing.load(run)[0]["step"] == 3
    distil_command(parent, aligned / "model", records, run)
    got, want = weights_of(run), weights_of(distilled)
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_another_seed_learns_something_else(parent, records, aligned, tmp_path):
    align_command(parent, records, tmp_path / "run", "--seed", "1")
    assert not torch.equal(weights_of(tmp_path / "run")[QKV], weights_of(aligned)[QKV])


def test_a_folder_of_another_run_is_refused(parent, records, aligned, capsys):
    with pytest.raises(SystemExit) as ended:
        align_command(parent, records, aligned, "--seed", "1")
    assert ended.value.code == 2
    assert "holds a run with seed = 0, not 1" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["aligned", "distilled"])
def test_the_training_forward_is_the_engines(stage, request):
    """Gradients on, a trace of keys and values, one pass; against packed weights and chunks."""
    directory = request.getfixturevalue(stage) / "model"
    ids = torch.randint(4, 290, (150,), generator=torch.Generator().manual_seed(8))
    training = load_model(directory)
    training.requires_grad_(True)
    hidden = training(ids, training.empty_states(differentiable=True), 0)
    want = training.logits(hidden).detach()
    engine = load_model(directory)
    engine.prepare_for_inference()
    context = Context(engine, 37)
    with torch.inference_mode():
        rows = [engine.logits(hidden) for _, hidden in context.chunks(ids.tolist())]
    assert want.std() > 0.5
    assert (torch.cat(rows) - want).abs().max() < 1e-4


def test_the_gradient_of_a_distillation_is_that_of_the_loss_in_one_piece(
    parent, aligned, monkeypatch
):
    """The head runs a few rows at a time; their gradients must add up to the whole."""
    monkeypatch.setitem(chunked_loss.ROWS, "cpu", 7)
    ids = torch.randint(4, 290, (40,), generator=torch.Generator().manual_seed(8))
    is_answer = torch.arange(40) > 30
    stage = distil.Distillation(load_model(aligned / "model"), load_model(parent))
    loss = stage.learn(ids, is_answer, 0.5)
    got = {name: parameter.grad.clone() for name, parameter in stage.parameters.items()}

    whole = distil.Distillation(load_model(aligned / "model"), load_model(parent))
    ours = whole.model.logits(whole.model(ids, whole.model.empty_states(differentiable=True), 0))
    with torch.no_grad():
        theirs = whole.teacher.logits(whole.teacher(ids, whole.teacher.empty_states(), 0))
    p, log_q = theirs.softmax(-1), ours.log_softmax(-1)
    divergence = (p * (p.log() - log_q)).sum(-1)[:-1]
    surprise = -log_q[torch.arange(39), ids[1:]]
    want = (divergence + 2 * surprise * is_answer[1:]).mean()
    (0.5 * want).backward()
    assert loss == pytest.approx(want.item(), rel=1e-5)
    for name, parameter in whole.parameters.items():
        assert relative_rms(got[name], parameter.grad) < 1e-3, name
