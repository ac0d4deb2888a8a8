"""Red here means a later stage learns something else than its loss says, or nothing."""

import json

import pytest
import torch
from measure import relative_rms
from safetensors.torch import load_file
from tiny import all_logits, llama_config, load_model

from engine.config import Mixer
from engine.engine import check_tensors
from training import checkpointing, chunked_loss, lengthen, read, sft_loss
from training.convert import ConversionConfig, convert, hybrid_config, with_softmax
from training.data import Sequences
from training.export import write_model

CONFIG = llama_config(num_hidden_layers=4, head_dim=16)
IDS = torch.randint(4, 290, (40,), generator=torch.Generator().manual_seed(8))
IS_ANSWER = torch.arange(40) > 30


@pytest.fixture(scope="module")
def student(parent, tmp_path_factory):
    config = hybrid_config(CONFIG, ConversionConfig.parse("1:8,3:0"))
    directory = tmp_path_factory.mktemp("student") / "model"
    write_model(convert(load_model(parent), config), config, parent, directory)
    return directory


def stage_command(stage, parent, student, records, run, *more):
    options = ["--parent", parent, "--student", student, "--run", run, "--preset", "smoke"]
    options += ["--text", records / "text.jsonl", "--qa", records / "qa.jsonl", *more]
    stage.command([str(option) for option in options])


def log_of(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights_of(run):
    return load_file(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def lengthened(parent, student, records, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "lengthen"
    more = ["--softmax", "1:0g", "--log-scale", "50", "--positions", "9000", "--text-weight", "0.5"]
    stage_command(lengthen, parent, student, records, run, *more)
    return run


@pytest.fixture(scope="module")
def has_read(parent, lengthened, records, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "read"
    stage_command(read, parent, lengthened / "model", records, run)
    return run


def test_a_lengthened_hybrid_has_the_form_asked_for(lengthened):
    assert check_tensors(lengthened / "model") > 30
    config = load_model(lengthened / "model").config
    first, last = config.layers[1].softmax, config.layers[3].softmax
    assert (first.rotary_frequencies, first.output_gate) == ((), True)
    assert not last.output_gate
    for options in (first, last):
        assert (options.log_scale_base, options.log_scale_from_tokens) == (50, 288)
    assert config.count(Mixer.LIGHTNING) == 2
    assert config.max_positions == 9000


def test_lengthening_makes_text_and_answers_likelier(lengthened):
    first, *_, last = log_of(lengthened)
    assert last["step"] == 12
    assert last["held_out"]["nll"] < first["held_out"]["nll"] - 0.3
    assert last["held_out"]["answer_nll"] < first["held_out"]["answer_nll"] - 0.3


def test_reading_makes_answers_likelier(has_read):
    first, *_, last = log_of(has_read)
    assert last["held_out"]["answer_nll"] < first["held_out"]["answer_nll"]
    assert 0 < last["held_out"]["answer_right"] <= 1
    assert last["loss"] < first["held_out"]["answer_nll"] * read.WEIGHTS.answer


def test_only_mixers_and_norms_change(lengthened, has_read):
    before, after = weights_of(lengthened), weights_of(has_read)
    for name, tensor in after.items():
        if "mlp." in name or "embed" in name:
            assert torch.equal(tensor, before[name])
        else:
            assert not torch.equal(tensor, before[name]), name


class Kill(BaseException):
    pass


def test_a_killed_run_ends_as_an_uninterrupted_one(
    parent, lengthened, has_read, records, tmp_path, monkeypatch
):
    learn, calls = sft_loss.Tuning.learn, []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 2 * 7:
            raise Kill
        return learn(self, *arguments)

    options = [read, parent, lengthened / "model", records, tmp_path / "run"]
    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr(sft_loss.Tuning, "learn", dying)
        stage_command(*options)
    assert checkpointing.load(tmp_path / "run")[0]["step"] == 6
    stage_command(*options)
    got, want = weights_of(tmp_path / "run"), weights_of(has_read)
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert [line["step"] for line in log_of(tmp_path / "run")] == list(range(13))


def test_another_weight_is_another_run(parent, student, records, lengthened, capsys):
    with pytest.raises(SystemExit) as ended:
        stage_command(lengthen, parent, student, records, lengthened, "--kl-weight", "1")
    assert ended.value.code == 2
    assert "holds a run with" in capsys.readouterr().err


@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_the_gradient_is_that_of_the_loss_in_one_piece(parent, student, monkeypatch, kl):
    monkeypatch.setattr(chunked_loss, "ROWS", {"cpu": 7})
    weights = sft_loss.Weights(text=0.5, answer=2.0, kl=kl)
    stage = sft_loss.Tuning(load_model(student), load_model(parent), weights)
    loss = stage.learn(IDS, IS_ANSWER, 0.5)

    whole = sft_loss.Tuning(load_model(student), load_model(parent), weights)
    ours = whole.model.logits(whole.model(IDS, whole.model.empty_states(differentiable=True), 0))
    with torch.no_grad():
        theirs = whole.teacher.logits(whole.teacher(IDS, whole.teacher.empty_states(), 0))
    p, log_q = theirs.softmax(-1), ours.log_softmax(-1)
    divergence = (p * (p.log() - log_q)).sum(-1)[:-1]
    surprise = -log_q[torch.arange(39), IDS[1:]]
    want = (kl * divergence + 0.5 * surprise + 2 * surprise * IS_ANSWER[1:]).mean()
    (0.5 * want).backward()
    assert loss == pytest.approx(want.item(), rel=1e-5)
    for name, parameter in whole.parameters.items():
        assert relative_rms(stage.parameters[name].grad, parameter.grad) < 1e-3, name


def test_sequences_beside_each_other_are_averaged(parent, student):
    def fresh():
        return sft_loss.Tuning(load_model(student), load_model(parent), lengthen.WEIGHTS)

    rows, answers = torch.stack([IDS, IDS.flip(0)]), torch.stack([IS_ANSWER, ~IS_ANSWER])
    one, both = fresh(), fresh()
    alone = sum(one.learn(*pair, 0.5) for pair in zip(rows, answers, strict=True))
    assert both.learn(rows.T, answers.T, 1.0) == pytest.approx(alone / 2, rel=1e-5)
    for name, parameter in both.parameters.items():
        assert relative_rms(parameter.grad, one.parameters[name].grad) < 1e-5


def test_the_answers_judged_are_those_marked(parent, student):
    stage = sft_loss.Tuning(load_model(student), load_model(parent), read.WEIGHTS)
    found = stage.judge(Sequences(IDS[None].int(), IS_ANSWER[None]))
    log_p = torch.log_softmax(all_logits(load_model(student), IDS.tolist(), 64), -1)
    surprise = -log_p[torch.arange(39), IDS[1:]]
    assert found["answer_nll"] == pytest.approx(surprise[IS_ANSWER[1:]].mean().item(), rel=1e-4)
    assert found["nll"] == pytest.approx(surprise.mean().item(), rel=1e-4)


def reformed(directory, kept):
    student = sft_loss.load_student(directory)
    recipe = ConversionConfig.parse(kept)
    return with_softmax(student.model, student.config, student.model, CONFIG, recipe)


def test_a_form_that_changes_nothing_changes_nothing(student):
    model, _ = reformed(student, "1:8w40g,3:0")
    want = all_logits(load_model(student), IDS.tolist(), 64)
    assert relative_rms(all_logits(model, IDS.tolist(), 64), want) < 1e-5
    fewer, _ = reformed(student, "1:0")
    assert relative_rms(all_logits(fewer, IDS.tolist(), 64), want) > 1e-3


@pytest.mark.parametrize(
    ("kept", "said"), [("1:16", "only 8 do"), ("0", "has no softmax attention")]
)
def test_a_form_that_cannot_be_is_refused(student, kept, said):
    with pytest.raises(ValueError, match=said):
        reformed(student, kept)


def test_the_lengths_and_rates_of_a_preset_can_be_changed(parent, student, records, tmp_path):
    more = ["--sequence-tokens", "320", "--steps", "2", "--peak-rate", "1e-4"]
    more += ["--final-rate", "1e-6", "--save-every", "1", "--evaluate-every", "1"]
    more += ["--num-held-out", "3"]
    stage_command(lengthen, parent, student, records, tmp_path / "run", *more)
    log = log_of(tmp_path / "run")
    recipe = log[0]["recipe"]
    assert [line["tokens"] for line in log[1:]] == [640, 1280]
    assert all("held_out" in line for line in log)
    rates = recipe["peak_rate"], recipe["final_rate"]
    assert (*rates, recipe["save_every"], recipe["num_held_out"]) == (1e-4, 1e-6, 1, 3)
