"""Stage 5: the hybrid answers by itself, and what a program finds right is made likelier (CISPO).

    python -m training.reinforce --parent DIR --student runs/read/model --text text.jsonl.xz \\
        --qa qa.jsonl.xz --run runs/reinforce

Per prompt a group of answers is sampled by the engine's own decoding. Each is rewarded for being
exact, for standing in the text word for word, or for refusing where there is no answer
(`training.reward`), relative to its group. Every group gives one update, so the importance weights
make up for what decoding and training round differently: answers are drawn in float32, on a GPU by
recorded steps, and learnt with the products of the run. The loss in the log is 1 - mean reward.
"""

import argparse
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.api import StopReason
from engine.context import Context
from engine.decode import Decoding, Sampler, Sampling
from engine.layers.kv_cache import DifferentiableKV
from engine.model import Model
from engine.placement import flops
from engine.tokenizer import Tokenizer
from training import cispo, sft_loss, window_mask
from training.command import Prepared, TrainingInputs, main
from training.data import Sequences
from training.data_mixture import Mixture
from training.reward import reward
from training.schedule import Schedule

MIXTURE = Mixture(text=0.0, qa=0.3, generated=0.7)
CHUNK_TOKENS = 512

PRESETS = {
    "smoke": Schedule(
        steps=4,
        batch_sequences=2,
        sequence_tokens=288,
        peak_rate=1e-3,
        final_rate=1e-4,
        warmup_steps=1,
        norm_factor=1.0,
        save_every=2,
        evaluate_every=4,
        num_held_out=2,
    ),
    "cpu": Schedule(
        steps=200,
        batch_sequences=4,
        sequence_tokens=768,
        peak_rate=1e-5,
        final_rate=1e-6,
        warmup_steps=10,
        norm_factor=1.0,
        save_every=10,
        evaluate_every=50,
        num_held_out=16,
    ),
    "gpu": Schedule(
        steps=200,
        batch_sequences=8,
        sequence_tokens=1024,
        peak_rate=5e-06,
        final_rate=1e-06,
        warmup_steps=2,
        norm_factor=1.0,
        save_every=5,
        evaluate_every=200,
        num_held_out=16,
        micro_batch_sequences=1,
    ),
}

Reward = Callable[[str, str, str], float]  # prompt, right answer, answer


@dataclass(frozen=True, slots=True)
class Rules:
    """`group` answers to a prompt, each of at most `max_tokens`; the bounds are those of CISPO."""

    group: int = 8
    max_tokens: int = 64
    low: float = 1.0
    high: float = 2.0

    def __post_init__(self) -> None:
        if self.group < 2 or self.max_tokens < 1:
            raise ValueError(f"{self.group} answers of {self.max_tokens} tokens, expected 2 of 1")
        if self.low < 0 or self.high < 0:
            raise ValueError(f"bounds {self.low} and {self.high}, expected 0 or more")


@dataclass(frozen=True, slots=True)
class Drawn:
    """An answer, its end included if it came to one, and the log-likelihoods it was drawn with."""

    token_ids: list[int]
    log_p: Tensor  # [t]
    text: str


class Reinforcement:
    """Trains mixers and norms of `student` in place; see `training.run.Stage`.

    A sequence is one prompt and its answer, as `Reader.read` gives with `single`.
    """

    def __init__(
        self, student: Model, tokenizer: Tokenizer, rules: Rules, reward: Reward = reward
    ) -> None:
        self.model, self.rules = student, rules
        self._tokenizer, self._reward = tokenizer, reward
        self._end = tokenizer.eos_ids()[:1]
        self.parameters: dict[str, nn.Parameter] = {}
        for name, parameter in student.named_parameters():
            if ".mixer." in name or "norm" in name:
                parameter.requires_grad_(True)
                self.parameters[name] = parameter
        self.clip_groups = [list(self.parameters.values())]

    def learn(self, token_ids: Tensor, is_answer: Tensor, weight: float) -> float:
        if token_ids.dim() == 2:  # a sequence in each column
            columns = zip(token_ids.unbind(1), is_answer.unbind(1), strict=True)
            share = 1 / token_ids.shape[1]
            return sum(share * self.learn(*column, weight * share) for column in columns)
        prompt, wanted = self._parts(token_ids, is_answer)
        drawn = self._draw(prompt)
        asked = self._tokenizer.decode(prompt)
        rewards = [self._reward(asked, wanted, answer.text) for answer in drawn]
        gain = cispo.advantages(rewards, self.model.device)
        if gain.any():
            (weight * self._loss(prompt, drawn, gain)).backward()  # type: ignore[no-untyped-call]
        for parameter in self.parameters.values():  # the optimizer keeps moments of every one
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return 1 - sum(rewards) / len(rewards)

    @torch.no_grad()
    def judge(self, held_out: Sequences) -> dict[str, Any]:
        """Of greedy answers: mean reward, and the share that is exactly right."""
        total, num_exact = 0.0, 0
        for index in range(len(held_out)):
            prompt, wanted = self._parts(*held_out.at(index))
            with self._plainly():
                answer = self._answer(self._read(prompt), Sampling())[1]
            total += self._reward(self._tokenizer.decode(prompt), wanted, answer)
            num_exact += answer.strip() == wanted.strip()
        return {"reward": total / len(held_out), "exact": num_exact / len(held_out)}

    def flops_per_sequence(self, num_tokens: int) -> int:
        """The prompt read to draw and read to learn, every answer as long as it may be."""
        config, most = self.model.config, self.rules.max_tokens
        prompt = flops.of_model(config, num_tokens, num_scored=0).total
        answer = flops.of_model(config, most, before=num_tokens, num_scored=most).total
        return 4 * prompt + 5 * self.rules.group * answer

    def _parts(self, token_ids: Tensor, is_answer: Tensor) -> tuple[list[int], str]:
        """The prompt's tokens and the right answer's text."""
        first = int(is_answer.int().argmax())
        wanted = token_ids[is_answer].tolist()
        return token_ids[:first].tolist(), self._tokenizer.decode(wanted)

    def _draw(self, prompt: list[int]) -> list[Drawn]:
        """A group of answers. Prompt and weights decide: a resumed run draws the same."""
        weights = self.model.norm.weight.detach().cpu().numpy().tobytes()
        seed = zlib.crc32(repr(prompt).encode(), zlib.crc32(weights))
        drawn = []
        with self._plainly():
            context = self._read(prompt)
            for number in range(self.rules.group):
                ids, text = self._answer(context.fork(), Sampling(1.0, seed=seed + number))
                drawn.append(Drawn(ids, context.score(ids).clone(), text))
        return drawn

    def _plainly(self) -> AbstractContextManager[object]:
        """Without autocast, under which a context's keys and queries would differ in dtype, a GPU
        records no steps, and every token would have all weights rounded anew."""
        return torch.autocast(self.model.device.type, enabled=False)

    def _read(self, prompt: list[int]) -> Context:
        context = Context(self.model, CHUNK_TOKENS)
        border = window_mask.border(len(prompt))
        context.extend(prompt[:border])
        context.end_of_documents()
        context.extend(prompt[border:])
        return context

    def _answer(self, context: Context, sampling: Sampling) -> tuple[list[int], str]:
        decoding = Decoding(
            context,
            self._tokenizer,
            Sampler(sampling, self.model.suppressed_ids()),
            max_tokens=self.rules.max_tokens,
            max_positions=len(context) + self.rules.max_tokens,
            stop_ids=frozenset(self._end),
        )
        text = "".join(decoding)
        end = self._end if decoding.stop_reason is StopReason.END else ()
        return [*decoding.token_ids, *end], text

    def _loss(self, prompt: list[int], drawn: Sequence[Drawn], gain: Tensor) -> Tensor:
        """The prompt is read once; every answer goes on from its states."""
        device = self.model.device
        states = self.model.empty_states(differentiable=True)
        for state in states:
            if isinstance(state, DifferentiableKV):
                state.global_attention_from = window_mask.border(len(prompt))
        hidden: Tensor = self.model(torch.tensor(prompt, device=device), states, 0)[-1:]
        total = torch.zeros((), device=device)
        for answer, advantage in zip(drawn, gain, strict=True):
            ids = torch.tensor(answer.token_ids, device=device)
            rows = hidden
            if len(ids) > 1:
                own = [state.fork() for state in states]
                rows = torch.cat([hidden, self.model(ids[:-1], own, len(prompt))])
            scores = torch.log_softmax(self.model.logits(rows), dim=-1)
            log_p = scores.gather(1, ids[:, None])[:, 0]
            bounds = {"low": self.rules.low, "high": self.rules.high}
            total = total + cispo.loss(log_p, answer.log_p, advantage, **bounds)
        return total / sum(len(answer.token_ids) for answer in drawn)


def prepare(job: TrainingInputs, options: argparse.Namespace) -> Prepared:
    _check_prompts(job.data)
    _check_prompts(job.held_out)
    student = sft_loss.load_student(options.student, job.place.device)
    rules = Rules(options.group, options.max_tokens, options.low, options.high)
    shared = {"stage": "reinforce", "student": student.fingerprint, "rules": asdict(rules)}
    stage = Reinforcement(student.model, Tokenizer(options.student), rules)
    return Prepared(stage, student.config, shared, compiles=False)


def _check_prompts(data: Sequences) -> None:
    """Raises ValueError unless each sequence is one prompt and its answer."""
    begins = data.is_answer[:, 1:] & ~data.is_answer[:, :-1]
    if data.is_answer[:, 0].any() or not (begins.sum(dim=1) == 1).all():
        raise ValueError("sequences that are not one prompt with its answer; use those packed so")


def command(arguments: Sequence[str] | None = None) -> None:
    def add_options(parser: argparse.ArgumentParser) -> None:
        rules = Rules()
        parser.add_argument("--student", type=Path, required=True, help="the model to go on with")
        parser.add_argument("--group", type=int, default=rules.group, help="answers to a prompt")
        parser.add_argument("--max-tokens", type=int, default=rules.max_tokens, help="of an answer")
        parser.add_argument("--low", type=float, default=rules.low, help="weights from 1 - LOW")
        parser.add_argument("--high", type=float, default=rules.high, help="weights to 1 + HIGH")
        parser.set_defaults(mixture=MIXTURE, single=True)

    main(__doc__ or "", PRESETS, prepare, add_options, arguments)


if __name__ == "__main__":
    command()
