"""Red here means the reward does not pay for what is right, or does not make it likelier."""

import json
import math

import pytest
import torch
from measure import relative_rms
from safetensors.torch import load_file
from tiny import llama_config, load_model

from engine.tokenizer import Tokenizer
from training import checkpointing, cispo, reinforce
from training.convert import ConversionConfig, convert, hybrid_config
from training.data import Sequences
from training.device import Place
from training.export import write_model
from training.reward import reward
from training.templates import REFUSAL

PROMPT = list(range(5, 25))


@pytest.fixture(scope="module")
def student(parent, tmp_path_factory):
    config = hybrid_config(
        llama_config(num_hidden_layers=4, head_dim=16), ConversionConfig.parse("1:8,3:0")
    )
    directory = tmp_path_factory.mktemp("student") / "model"
    write_model(convert(load_model(parent), config), config, parent, directory)
    return directory


def fresh(student, rules, reward):
    return reinforce.Reinforcement(load_model(student), Tokenizer(student), rules, reward)


def sequence(prompt=PROMPT, answer=(40, 41)):
    ids = torch.tensor([*prompt, *answer])
    return ids, torch.arange(len(ids)) >= len(prompt)


DOCUMENT = "The boat lies at berth 4711. Another lies at berth 9."


@pytest.mark.parametrize(
    ("wanted", "answer", "worth"),
    [
        ("4711", "4711", 1.0),
        ("4711", " 4711\n", 1.0),
        ("4711", "4712", 0.0),
        ("4711", "berth 9", 0.2),
        ("4711", "4", 0.0),  # a scrap
        ("by train", "by train", 0.8),  # right, but in no document
        ("4711", REFUSAL, 0.0),
        (REFUSAL, REFUSAL, 1.0),
        (REFUSAL, "berth 4711", 0.0),
    ],
)
def test_an_answer_is_worth_what_can_be_checked_of_it(wanted, answer, worth):
    assert reward(DOCUMENT, wanted, answer) == pytest.approx(worth)


def test_advantages_are_relative_to_the_group():
    gain = cispo.advantages([1.0, 0.0, 0.0, 0.0])
    assert gain.tolist() == pytest.approx([math.sqrt(3), *[-1 / math.sqrt(3)] * 3])
    assert cispo.advantages([0.2] * 5).tolist() == [0.0] * 5


def test_the_gradient_is_the_formula_of_the_paper():
    """d(-J)/d(logits) = -clip(r) A (onehot - p), for every token, however far r is out."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 9, generator=draw, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([0, 3, 8, 2, 2, 5])
    log_p = scores.log_softmax(-1).gather(1, ids[:, None])[:, 0]
    ratios = torch.tensor([0.01, 0.5, 1.0, 1.5, 3.5, 40.0], dtype=torch.float64)
    sampled = log_p.detach() - ratios.log()
    for advantage in (1.3, -0.7):
        value = cispo.loss(log_p, sampled, torch.tensor(advantage), low=0.4, high=2.0)
        (got,) = torch.autograd.grad(value, scores, retain_graph=True)
        weights = torch.tensor([0.6, 0.6, 1.0, 1.5, 3.0, 3.0], dtype=torch.float64)
        onehot = torch.nn.functional.one_hot(ids, 9)
        want = -(weights * advantage)[:, None] * (onehot - scores.softmax(-1))
        assert torch.allclose(got, want)
        assert got.abs().sum(-1).min() > 0
        assert value.item() == pytest.approx(-(weights * advantage * log_p).sum().item())


def test_the_loss_is_over_all_tokens_of_the_group(student):
    """Against the likelihoods of whole sequences read anew, one by one."""
    rules = reinforce.Rules(group=3, max_tokens=5)
    stage = fresh(student, rules, lambda *_: 0.0)
    drawn = stage._draw(PROMPT)
    gain = torch.tensor([1.0, -0.5, 0.25])
    stage._loss(PROMPT, drawn, gain).backward()

    model = load_model(student)
    model.requires_grad_(True)
    total = torch.zeros(())
    for answer, advantage in zip(drawn, gain, strict=True):
        ids = torch.tensor([*PROMPT, *answer.token_ids])
        hidden = model(ids[:-1], model.empty_states(differentiable=True), 0)
        scores = model.logits(hidden).log_softmax(-1)[len(PROMPT) - 1 :]
        log_p = scores.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0]
        assert torch.allclose(log_p, answer.log_p, atol=1e-4)  # so that every weight is about 1
        total = total - advantage * log_p.sum()
    (total / sum(len(answer.token_ids) for answer in drawn)).backward()
    own = dict(model.named_parameters())
    for name, parameter in stage.parameters.items():
        assert relative_rms(parameter.grad, own[name].grad) < 1e-3, name


def test_the_reward_rises_on_a_toy_task(student):
    """Paid for: an answer whose first character is a letter of the first half. Held against the
    probability of such an answer, which, unlike a few draws, is the same for every seed."""

    def paid(_prompt, _wanted, answer):
        return float(answer[:1].lower() in set("abcdefghijklm"))

    stage = fresh(student, reinforce.Rules(group=12, max_tokens=1), paid)
    tokenizer = Tokenizer(student)
    is_paid = torch.tensor(
        [paid("", "", tokenizer.decode([i])) > 0 for i in range(tokenizer.vocab_size)]
    )

    @torch.no_grad()
    def paid_probability():
        hidden = stage.model(torch.tensor(PROMPT), stage.model.empty_states(), 0)
        return float(stage.model.logits(hidden[-1:]).softmax(-1)[0, : len(is_paid)][is_paid].sum())

    before = paid_probability()
    optimizer = torch.optim.AdamW(stage.parameters.values(), lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        stage.learn(*sequence(), 1.0)
        torch.nn.utils.clip_grad_norm_(stage.clip_groups[0], 1.0)
        optimizer.step()
    assert before < 0.7
    assert paid_probability() > 0.9


def test_equal_rewards_teach_nothing_and_are_no_accident(student):
    stage = fresh(student, reinforce.Rules(group=4, max_tokens=3), lambda *_: 1.0)
    assert stage.learn(*sequence(), 1.0) == 0.0
    assert all(not parameter.grad.any() for parameter in stage.parameters.values())


def test_answers_are_drawn_by_prompt_and_weights(student):
    stage = fresh(student, reinforce.Rules(group=4, max_tokens=8), lambda *_: 0.0)
    first, again, other = stage._draw(PROMPT), stage._draw(PROMPT), stage._draw(PROMPT[1:])
    texts = [[answer.token_ids for answer in drawn] for drawn in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]
    assert len({tuple(ids) for ids in texts[0]}) > 1
    stage.model.norm.weight.data.mul_(1 + 1e-6)
    assert [answer.token_ids for answer in stage._draw(PROMPT)] != texts[0]


def test_no_tensor_is_put_where_the_model_is_not(student):
    """What is made without naming a device lands on meta here, and would be on the CPU of a GPU."""

    def paid(_prompt, _wanted, answer):
        return float(len(answer))

    found = []
    for device in ("cpu", "meta"):
        stage = fresh(student, reinforce.Rules(group=4, max_tokens=5), paid)
        ids, is_answer = sequence()
        stage.model(ids, stage.model.empty_states(), 0)  # decays are kept from the first pass on
        with torch.device(device):
            loss = stage.learn(ids, is_answer, 1.0)
            held_out = stage.judge(Sequences(ids[None], is_answer[None]))
        found.append((loss, held_out, {n: p.grad for n, p in stage.parameters.items()}))
    (*want, gradients), (*got, others) = found
    assert got == want
    assert any(gradient.any() for gradient in gradients.values())
    assert all(torch.equal(others[name], gradient) for name, gradient in gradients.items())


def test_products_are_rounded_where_answers_are_learnt_and_not_where_they_are_drawn(student):
    rounded = Place(torch.device("cpu"), torch.bfloat16)
    gain = torch.tensor([1.0, -0.5, 0.25])
    drawn, gradients = [], []
    for place in (Place(torch.device("cpu")), rounded):
        stage = fresh(student, reinforce.Rules(group=3, max_tokens=5), lambda *_: 0.0)
        with place.autocast():
            drawn.append(stage._draw(PROMPT))
            stage._loss(PROMPT, drawn[-1], gain).backward()
        gradients.append({name: p.grad for name, p in stage.parameters.items()})
    for one, other in zip(*drawn, strict=True):
        assert one.token_ids == other.token_ids
        assert torch.equal(one.log_p, other.log_p)
    for name, gradient in gradients[0].items():
        assert 1e-5 < relative_rms(gradients[1][name], gradient) < 0.3, name


@pytest.mark.parametrize("answers", [[], [0], [3, 7], [5, 6, 9]])
def test_sequences_that_are_no_prompts_are_refused(answers):
    """Red: documents packed end to end are taken for a prompt, their answers for one."""
    is_answer = torch.zeros(2, 10, dtype=torch.bool)
    is_answer[:, 4:6] = True
    ids = torch.ones(2, 10, dtype=torch.int32)
    reinforce._check_prompts(Sequences(ids, is_answer))
    is_answer[1] = False
    is_answer[1, answers] = True
    with pytest.raises(ValueError, match="not one prompt with its answer"):
        reinforce._check_prompts(Sequences(ids, is_answer))


def reinforce_command(parent, student, records, run):
    options = ["--parent", parent, "--student", student, "--run", run, "--preset", "smoke"]
    options += ["--text", records / "text.jsonl", "--qa", records / "qa.jsonl"]
    reinforce.command([str(option) for option in [*options, "--group", 4, "--max-tokens", 6]])


class Kill(BaseException):
    pass


def test_a_killed_run_ends_as_an_uninterrupted_one(parent, student, records, tmp_path, monkeypatch):
    def paid(_prompt, _wanted, answer):  # random answers are never right
        return float(len(answer) % 3)

    def constructed(self, model, tokenizer, rules, _reward=None):
        construct(self, model, tokenizer, rules, paid)

    construct, learn = reinforce.Reinforcement.__init__, reinforce.Reinforcement.learn
    monkeypatch.setattr(reinforce.Reinforcement, "__init__", constructed)
    calls = []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 2 * 3:
            raise Kill
        return learn(self, *arguments)

    reinforce_command(parent, student, records, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Kill):
        patch.setattr(reinforce.Reinforcement, "learn", dying)
        reinforce_command(parent, student, records, tmp_path / "killed")
    assert checkpointing.load(tmp_path / "killed")[0]["step"] == 2
    reinforce_command(parent, student, records, tmp_path / "killed")
    got, want, before = (
        load_file(path / "model.safetensors")
        for path in (tmp_path / "killed" / "model", tmp_path / "whole" / "model", student)
    )
    assert all(torch.equal(got[name], want[name]) for name in want)
    assert any(not torch.equal(got[name], before[name]) for name in want)
    log = [json.loads(line) for line in (tmp_path / "killed/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(5))
    assert set(log[-1]["held_out"]) == {"reward", "exact"}


@pytest.mark.parametrize("rules", [{"group": 1}, {"max_tokens": 0}, {"low": -1}, {"high": -0.1}])
def test_rules_that_cannot_be_are_refused(rules):
    with pytest.raises(ValueError, match="expected"):
        reinforce.Rules(**rules)
