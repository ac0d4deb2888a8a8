"""Red here means a batch learns something else than its sequences, or a limit of time is broken."""

import json
from dataclasses import replace

import pytest
import torch
from measure import relative_rms
from tiny import load_model

from training import align, distil, run
from training.budget import Budget
from training.convert import ConversionConfig, convert, hybrid_config
from training.data import Sequences
from training.device import Place
from training.schedule import Plan, Schedule

IDS = torch.randint(4, 290, (40, 6), generator=torch.Generator().manual_seed(8))
IS_ANSWER = torch.rand(IDS.shape, generator=torch.Generator().manual_seed(9)) > 0.7
SCHEDULE = Schedule(12, 4, 40, 1e-3, 1e-4, 2, 1.0, 4, 6, 2)
DATA = Sequences(IDS.T.int().contiguous(), IS_ANSWER.T.contiguous())


@pytest.fixture
def stages(parent):
    config = json.loads((parent / "config.json").read_text())

    def make(stage):
        teacher = load_model(parent)
        hybrid = convert(
            load_model(parent), hybrid_config(config, ConversionConfig.parse("1:8,3:0"))
        )
        return stage(hybrid, teacher)

    return make


def gradients(stage):
    return {name: parameter.grad.clone() for name, parameter in stage.parameters.items()}


@pytest.mark.parametrize("kind", [align.Alignment, distil.Distillation])
def test_a_batch_learns_what_its_sequences_do(stages, kind):
    together, alone = stages(kind), stages(kind)
    loss = together.learn(IDS, IS_ANSWER, 0.5)
    losses = [alone.learn(IDS[:, n], IS_ANSWER[:, n], 0.5 / 6) for n in range(6)]
    assert loss == pytest.approx(sum(losses) / 6, rel=1e-5)
    for name, gradient in gradients(alone).items():
        assert relative_rms(gradients(together)[name], gradient) < 1e-4, name


@pytest.mark.parametrize("kind", [align.Alignment, distil.Distillation])
def test_bf16_products_learn_nearly_the_same(stages, kind):
    exact, rounded = stages(kind), stages(kind)
    loss = exact.learn(IDS, IS_ANSWER, 1.0)
    with Place(torch.device("cpu"), torch.bfloat16).autocast():
        assert rounded.learn(IDS, IS_ANSWER, 1.0) == pytest.approx(loss, rel=0.05)
    for name, gradient in gradients(rounded).items():
        assert gradient.dtype == torch.float32
        assert 1e-5 < relative_rms(gradient, gradients(exact)[name]) < 0.3, name


def trained(stages, directory, schedule=SCHEDULE, *, seconds_per_look=0.0, minutes=None):
    """Parameters and log of a run whose clock goes on by so much at each look."""
    stage, time = stages(align.Alignment), [0.0]

    def now():
        time[0] += seconds_per_look
        return time[0]

    run.train(stage, DATA, DATA, schedule, directory, seed=0, inputs={}, minutes=minutes, now=now)
    log = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return {name: p.detach().clone() for name, p in stage.parameters.items()}, log


def test_how_many_are_in_memory_at_a_time_does_not_matter(stages, tmp_path):
    want, _ = trained(stages, tmp_path / "one")
    got, _ = trained(stages, tmp_path / "three", replace(SCHEDULE, micro_batch_sequences=3))
    for name, value in want.items():
        assert relative_rms(got[name], value) < 1e-3, name


def test_a_batch_too_large_for_the_gpu_is_halved(stages, tmp_path, monkeypatch):
    learn, sizes = align.Alignment.learn, []

    def failing(self, token_ids, is_answer, weight):
        sizes.append(token_ids[0].numel())
        loss = learn(self, token_ids, is_answer, weight)
        if sizes[-1] > 2:
            raise torch.cuda.OutOfMemoryError
        return loss

    want, _ = trained(stages, tmp_path / "two", replace(SCHEDULE, micro_batch_sequences=2))
    monkeypatch.setattr(align.Alignment, "learn", failing)
    got, _ = trained(stages, tmp_path / "four", replace(SCHEDULE, micro_batch_sequences=4))
    assert sizes[:4] == [4, 2, 2, 2]
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_old_runs_go_on(stages, tmp_path):
    """A checkpoint from before an option came to be has that option's default."""
    trained(stages, tmp_path)
    recipe = json.loads((tmp_path / "checkpoint.json").read_text())["recipe"]
    assert "micro_batch_sequences" not in recipe
    trained(stages, tmp_path)


def test_a_slow_machine_ends_in_time_with_the_rate_at_its_end(stages, tmp_path):
    schedule = replace(SCHEDULE, steps=1000, batch_sequences=1)
    _, log = trained(stages, tmp_path, schedule, seconds_per_look=2.0, minutes=5)
    assert 10 < log[-1]["step"] < 60
    assert log[-1]["rate"] < 1.05 * schedule.final_rate + 1e-6
    rates = [line["rate"] for line in log[1:]]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert max(rates) == pytest.approx(schedule.peak_rate)
    assert "held_out" in log[-1]


def test_a_run_in_time_takes_all_its_steps(stages, tmp_path):
    want, _ = trained(stages, tmp_path / "free")
    got, log = trained(stages, tmp_path / "timed", seconds_per_look=0.01, minutes=5)
    assert log[-1]["step"] == SCHEDULE.steps
    for name, value in want.items():
        assert relative_rms(got[name], value) < 1e-6, name


class Kill(BaseException):
    """What no handler catches."""


def test_a_killed_run_under_a_limit_keeps_its_plan(stages, tmp_path, monkeypatch):
    """Up to the next plan, what is done again after a kill is what was done before it."""
    schedule = replace(SCHEDULE, steps=1000, batch_sequences=1, save_every=10)
    take, killed_at = run._Steps.take, 17

    def dying(self, step, rate):
        if step == killed_at:
            raise Kill
        return take(self, step, rate)

    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr(run._Steps, "take", dying)
        trained(stages, tmp_path, schedule, seconds_per_look=2.0, minutes=5)
    before = (tmp_path / "log.jsonl").read_text().splitlines()
    _, log = trained(stages, tmp_path, schedule, seconds_per_look=2.0, minutes=5)
    first = {line["step"]: line for line in map(json.loads, before)}
    assert max(first) == killed_at
    for line in log:
        if 10 < line["step"] <= killed_at:
            assert all(line[key] == first[line["step"]][key] for key in ("loss", "rate"))
    assert log[-1]["rate"] < 1.05 * schedule.final_rate + 1e-6


def test_a_plan_goes_on_where_the_one_before_was():
    plan = Plan(10, 0.0, 110)
    schedule = replace(SCHEDULE, steps=1000, warmup_steps=10)
    budget = Budget(100.0, now=iter([0.0, 1.0, *[11.0] * 9]).__next__)
    budget.note_step(20)
    later = budget.plan(schedule, plan, 30)  # ten steps took 10 s, 89 are left
    assert later.share_at(30) == plan.share_at(30)
    assert later.share_at(31) > later.share_at(30)
    assert 30 + 80 < later.end < 30 + 89
    assert later.share_at(later.end) == 1.0


def test_a_spent_budget_ends_a_run_that_was_never_planned(stages, tmp_path):
    schedule = replace(SCHEDULE, steps=1000, warmup_steps=900)
    _, log = trained(stages, tmp_path, schedule, seconds_per_look=1.0, minutes=1)
    assert 1 < log[-1]["step"] < 60
    assert (tmp_path / "checkpoint.json").exists()


def test_no_gpu_is_said():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match="no CUDA device"):
        Place.choose("cuda", None)
    assert Place.choose(None, None) == Place(torch.device("cpu"), torch.float32)
