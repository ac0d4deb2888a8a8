"""Between stages 1 and 2: what each Lightning layer costs, and which go back to softmax.

    python -m training.layer_selection --parent DIR --student DIR --text text.jsonl.xz
    python -m training.layer_selection --parent DIR --student DIR --softmax 4:64w64+4,26:64w64+4 \\
        --out DIR
    python -m training.layer_selection --parent DIR --student DIR --softmax 8:64d256+4 --own \\
        --out DIR

With --text, each Lightning layer of the student is put into the parent alone, and what that costs
on held-out sequences is printed, the dearest first: nats per token, nats per token of answers, and
KL(parent || the parent with that layer). Half of the sequences are generated tasks, whose answers
these are. With --out, the student is written with the layers of --softmax taken from the parent
again, ready for `training.distil`; with --own they keep what they have learnt and change their form
alone, to see what that costs before it is trained so.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.checkpoint import Checkpoint
from engine.config import Mixer
from engine.families import read_config
from engine.model import Layer, Model
from engine.tokenizer import Tokenizer
from engine.weights import load
from training.convert import JSON, RECIPE_HELP, ConversionConfig, with_softmax
from training.data import Reader, Sequences
from training.data_mixture import Mixture
from training.export import write_model

HEAD_ROWS = 256  # scores of so many tokens are in memory at a time


@dataclass(frozen=True, slots=True)
class Cost:
    """What a layer costs: nats per token more than the parent's, and KL from it in nats.

    `answer` is `nll` of the answers alone, NaN if there are none.
    """

    layer: int
    nll: float
    answer: float
    kl: float


@torch.no_grad()
def costs(
    parent: Model,
    student: Model,
    data: Sequences,
    on_layer: Callable[[Cost], object] = lambda _cost: None,
) -> list[Cost]:
    """Of each Lightning layer of `student` alone in `parent`, the dearest (by KL) first.

    Over all tokens of `data` but the first of each sequence. `parent` is left as it was.
    """
    rows = [data.at(index) for index in range(len(data))]
    wanted = [parent(ids, parent.empty_states(), 0) for ids, _ in rows]
    num_tokens, num_answers = data.token_ids[:, 1:].numel(), data.is_answer[:, 1:].sum()
    found = []
    for index, layer in enumerate(student.layers):
        origin = parent.layers[index]
        assert isinstance(layer, Layer) and isinstance(origin, Layer)
        if layer.config.mixer is not Mixer.LIGHTNING:
            continue
        own = origin.mixer
        origin.mixer = layer.mixer
        sums = torch.zeros(3, dtype=torch.float64)
        for (ids, is_answer), hidden in zip(rows, wanted, strict=True):
            states = parent.empty_states()
            states[index] = student.empty_states()[index]
            sums += _difference(parent, parent(ids, states, 0), hidden, ids, is_answer)
        origin.mixer = own
        nll, answer, kl = sums.tolist()
        answer = answer / num_answers.item() if num_answers else float("nan")
        found.append(Cost(index, nll / num_tokens, answer, kl / num_tokens))
        on_layer(found[-1])
    return sorted(found, key=lambda cost: cost.kl, reverse=True)


def _difference(
    model: Model, got: Tensor, wanted: Tensor, token_ids: Tensor, is_answer: Tensor
) -> Tensor:
    """Sums over the tokens: how much less likely each became, those of answers, the divergence."""
    sums = torch.zeros(3, dtype=torch.float64)
    for start in range(0, len(token_ids) - 1, HEAD_ROWS):
        end = min(start + HEAD_ROWS, len(token_ids) - 1)
        ours = torch.log_softmax(model.logits(got[start:end]), dim=-1)
        theirs = torch.log_softmax(model.logits(wanted[start:end]), dim=-1)
        following = slice(start + 1, end + 1)
        less = (theirs - ours).gather(1, token_ids[following, None])[:, 0]
        of_answers = less[is_answer[following]]
        divergence = theirs.exp() * (theirs - ours)
        sums += torch.stack([less.sum(), of_answers.sum(), divergence.sum()]).double()
    return sums


def table(found: Sequence[Cost]) -> str:
    """Markdown, in nats per token."""
    lines = ["| layer | NLL more | of answers | KL |", "|---|---|---|---|"]
    lines += [f"| {x.layer} | {x.nll:+.4f} | {x.answer:+.4f} | {x.kl:.4f} |" for x in found]
    return "\n".join(lines)


def command(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.text is None and options.out is None:
        parser.error("give --text to measure, --out to write, or both")
    torch.set_num_threads(options.threads)
    try:
        if options.text is not None:
            print(table(_measure(options)))
        if options.out is not None:
            _write(options)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _measure(options: argparse.Namespace) -> list[Cost]:
    data = Reader(Tokenizer(options.parent), options.seed, held_out=True).read(
        options.text,
        None,
        sequence_tokens=options.tokens,
        num_sequences=options.sequences,
        mixture=Mixture(text=0.5, qa=0.0, generated=0.5),
    )
    parent, student = _load(options.parent), _load(options.student)
    parent.prepare_for_inference()
    return costs(parent, student, data)


def _write(options: argparse.Namespace) -> None:
    parent_config, config = _config(options.parent), _config(options.student)
    recipe = ConversionConfig.parse(options.softmax)
    student = _load(options.student)
    origin = student if options.own else _load(options.parent)
    model, config = with_softmax(student, config, origin, parent_config, recipe)
    write_model(model, config, options.parent, options.out)
    num_lightning = model.config.count(Mixer.LIGHTNING)
    print(f"{options.out}: {num_lightning} of {model.config.num_layers} layers are Lightning")


def _load(directory: Path) -> Model:
    device = torch.device("cpu")
    config = read_config(directory)
    return load(Checkpoint(directory), config, device=device, dtype=torch.float32)


def _config(directory: Path) -> JSON:
    config: JSON = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return config


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parent", type=Path, required=True, help="the softmax model, a folder")
    parser.add_argument("--student", type=Path, required=True, help="the aligned hybrid, a folder")
    parser.add_argument("--text", type=Path, help="records of text to measure on")
    parser.add_argument("--sequences", type=int, default=8, help="held out, to measure on")
    parser.add_argument("--tokens", type=int, default=512, help="length of each of them")
    parser.add_argument("--softmax", default="", help=RECIPE_HELP)
    parser.add_argument(
        "--own", action="store_true", help="of --softmax the form alone, with the student's weights"
    )
    parser.add_argument("--out", type=Path, help="where to write the chosen hybrid")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    command()
