"""Red here means the hybrid chosen is not the one that was asked for, or its costs are wrong."""

import json
import math

import pytest
import torch
from measure import relative_rms
from tiny import all_logits, llama_config, load_model

from engine.config import Mixer
from engine.layers.softmax import SoftmaxAttention
from training import layer_selection
from training.convert import ConversionConfig, convert, hybrid_config, match_variance
from training.data import Sequences
from training.export import write_model

CONFIG = llama_config(num_hidden_layers=4, head_dim=16)
IDS = torch.randint(4, 290, (3, 60), generator=torch.Generator().manual_seed(3))
IS_ANSWER = torch.arange(180).view(3, 60) % 7 == 0
DATA = Sequences(IDS.int(), IS_ANSWER)


@pytest.fixture
def model(parent):
    return load_model(parent)


@pytest.fixture
def student(model, parent, tmp_path):
    """Keeps layer 3; of its Lightning layers 1 is the worst by far."""
    config = hybrid_config(CONFIG, ConversionConfig.parse("3"))
    hybrid = convert(model, config)
    match_variance(hybrid, model, IDS[0])
    hybrid.layers[1].mixer.out.mul_(30)
    write_model(hybrid, config, parent, tmp_path / "student")
    return tmp_path / "student"


def test_the_cost_of_a_layer_is_that_of_the_parent_with_it_alone(model, student):
    hybrid = load_model(student)
    found = layer_selection.costs(model, hybrid, DATA)
    assert sorted(cost.layer for cost in found) == [0, 1, 2]
    assert found[0].layer == 1
    assert [cost.kl for cost in found] == sorted((cost.kl for cost in found), reverse=True)
    assert all(isinstance(layer.mixer, SoftmaxAttention) for layer in model.layers)

    alone = convert(model, hybrid_config(CONFIG, ConversionConfig.parse("0,2,3")))
    alone.layers[1].mixer = hybrid.layers[1].mixer
    rows = [
        [torch.log_softmax(all_logits(x, ids.tolist(), 64)[:-1].double(), -1) for ids in IDS]
        for x in (model, alone)
    ]
    theirs, ours = (torch.cat(row) for row in rows)
    kl = (theirs.exp() * (theirs - ours)).sum(-1).mean()
    following = IDS[:, 1:].reshape(-1, 1)
    less = (theirs - ours).gather(1, following)[:, 0]
    answers = less[IS_ANSWER[:, 1:].flatten()]
    assert found[0].kl == pytest.approx(kl.item(), rel=1e-4)
    assert found[0].nll == pytest.approx(less.mean().item(), rel=1e-3, abs=1e-5)
    assert found[0].answer == pytest.approx(answers.mean().item(), rel=1e-3, abs=1e-5)


def test_layers_go_back_to_what_they_were_in_the_parent(model, student, parent, tmp_path):
    out = tmp_path / "chosen"
    options = ["--parent", parent, "--student", student, "--softmax", "0,1:16w80,2", "--out", out]
    layer_selection.command([str(option) for option in options])
    ids = IDS[0].tolist()
    assert relative_rms(all_logits(load_model(out), ids, 32), all_logits(model, ids, 32)) < 1e-6


def test_the_other_layers_stay_the_students(student, parent, tmp_path):
    out = tmp_path / "chosen"
    options = ["--parent", parent, "--student", student, "--softmax", "0:16w8+2", "--out", out]
    layer_selection.command([str(option) for option in options])
    got, was = load_model(out), load_model(student)
    assert got.config.count(Mixer.LIGHTNING) == 2
    assert got.layers[0].config.softmax.window_tokens == 8
    for index in (1, 2, 3):
        assert got.config.layers[index] == was.config.layers[index]
        own = dict(was.layers[index].named_parameters())
        for name, parameter in got.layers[index].named_parameters():
            assert torch.equal(parameter, own[name])
    kinds = json.loads((out / "config.json").read_text())["layer_kinds"]
    assert sorted(kinds) == ["far-16", "local", "near-16w8+2"]


def test_layers_that_keep_what_they_learnt_change_their_form_alone(student, parent, tmp_path):
    trained = tmp_path / "trained"
    hybrid = load_model(student)
    hybrid.layers[3].mixer.out.mul_(1.5)
    config = json.loads((student / "config.json").read_text())
    write_model(hybrid, config, parent, trained)
    options = ["--parent", parent, "--student", trained, "--own", "--out", tmp_path / "out"]
    layer_selection.command([str(x) for x in [*options, "--softmax", "3:16d8+2"]])
    got, was = load_model(tmp_path / "out"), load_model(trained)
    softmax = got.layers[3].config.softmax
    assert (softmax.window_tokens, softmax.sink_tokens, softmax.sliding_window) == (8, 2, False)
    ours, theirs = dict(got.named_parameters()), dict(was.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_table_is_measured_on_held_out_text(student, parent, records, capsys):
    options = ["--parent", parent, "--student", student, "--text", records / "text.jsonl"]
    layer_selection.command(
        [str(option) for option in [*options, "--sequences", 4, "--tokens", 288]]
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3
    rows = [[float(cell) for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert rows[0][0] == 1
    assert all(math.isfinite(cell) for row in rows for cell in row)


def test_a_command_without_work_is_refused(student, parent, capsys):
    with pytest.raises(SystemExit) as ended:
        layer_selection.command(["--parent", str(parent), "--student", str(student)])
    assert ended.value.code == 2
    assert "give --text" in capsys.readouterr().err
