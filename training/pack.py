"""All that training on another machine needs, but the code: tokens, parent and tokenizer.

    python -m training.pack --parent DIR --text text.jsonl.xz --qa qa.jsonl.xz --out FOLDER

FOLDER/part-00, part-01, ... are each under 60 MiB and can travel one by one; `training.job` runs
the stages from them. The parent's weights are as small as the quantised file they came from and
come back exactly. Stages 3 to 5 read sequences of other lengths and kinds than stages 1 and 2, so
each gets a set of its own, as many as its preset takes steps for, or --for STAGE:SEQUENCES; sets
made elsewhere are added as --set STAGE=FILE.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from engine.tokenizer import Tokenizer
from training import encoding, file_parts, lengthen, packed, read, reinforce
from training.data import Reader, Sequences
from training.data_mixture import Mixture
from training.decontamination import Overlap
from training.export import MODEL_FILES
from training.shards import fingerprint

PART_BYTES = 56 * 2**20
PARENT = "parent.safetensors"
TOKENS = ".tokens.safetensors"
MAIN = "main"  # the set for stages that have none of their own
OWN = {  # the stages that have: their presets, their mixture, and whether a sequence is one prompt
    "lengthen": (lengthen.PRESETS, lengthen.MIXTURE, False),
    "read": (read.PRESETS, read.MIXTURE, False),
    "reinforce": (reinforce.PRESETS, reinforce.MIXTURE, True),
}


def pack(options: argparse.Namespace) -> str:
    """Writes the folder; returns what is in it. Raises ValueError for inputs that cannot be."""
    if options.out.exists() and any(options.out.iterdir()):
        raise ValueError(f"{options.out} is not empty")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        tensors = load_file(options.parent / "model.safetensors")
        save_file(encoding.encode(tensors), scratch / PARENT)
        files = {PARENT: scratch / PARENT}
        files |= {n: options.parent / n for n in MODEL_FILES if (options.parent / n).exists()}
        told = []
        for name, (data, held_out) in _sets(options):
            files[name + TOKENS] = scratch / (name + TOKENS)
            packed.write(files[name + TOKENS], data, held_out)
            count, length = data.token_ids.shape
            told.append(f"{name}: {count:,} sequences of {length:,}, {len(held_out):,} held out")
        for stage, _, path in (entry.partition("=") for entry in options.set):
            files[stage + TOKENS] = Path(path)
        facts = {"parent": fingerprint(tensors), "seed": options.seed}
        number = file_parts.split(files, options.out, PART_BYTES, facts)
    return f"{'; '.join(told)}; with the parent, in {number} parts"


def _sets(options: argparse.Namespace) -> Iterator[tuple[str, tuple[Sequences, Sequences]]]:
    """Each set by its name: those to train on, and those held out."""
    tokenizer = Tokenizer(options.parent)
    known = Overlap.with_evaluation(options.exclude)
    wanted = [(MAIN, options.sequence_tokens, options.max_sequences, options.held_out)]
    for stage, _, count in (entry.partition(":") for entry in options.stages):
        if stage not in OWN or not (count or "1").isdecimal():
            raise ValueError(f"--for {stage}:{count} is not like {' or '.join(OWN)}:1000")
        preset = OWN[stage][0][options.preset]
        most = int(count or preset.steps * preset.batch_sequences)
        wanted.append((stage, preset.sequence_tokens, most, preset.num_held_out))
    for number, (name, sequence_tokens, *counts) in enumerate(wanted):
        _, mixture, single = OWN.get(name, (None, options.mixture, False))
        data, held_out = (
            Reader(tokenizer, options.seed + number, is_held_out, known).read(
                options.text,
                options.qa,
                sequence_tokens=sequence_tokens,
                num_sequences=count,
                mixture=mixture,
                single=single,
            )
            for is_held_out, count in zip((False, True), counts, strict=True)
        )
        yield name, (data, held_out)


def command(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parent", type=Path, required=True, help="the softmax model, a folder")
    parser.add_argument("--out", type=Path, required=True, help="an empty or new folder")
    parser.add_argument("--text", type=Path, help="records of text, .jsonl or .jsonl.xz")
    parser.add_argument("--qa", type=Path, help="records of prompt and answer")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="evaluation texts")
    parser.add_argument(
        "--mixture",
        type=Mixture.parse,
        help="shares of text, questions and generated tasks in stages 1 and 2",
    )
    parser.add_argument(
        "--for",
        dest="stages",
        nargs="*",
        default=list(OWN),
        metavar="STAGE[:SEQUENCES]",
        help=f"stages with a set of their own (default: {' '.join(OWN)})",
    )
    parser.add_argument(
        "--preset", choices=sorted(reinforce.PRESETS), default="gpu", help="of the stages of --for"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="STAGE=FILE", help="more tokens")
    parser.add_argument("--sequence-tokens", type=int, default=1024, help="in stages 1 and 2")
    parser.add_argument("--max-sequences", type=int, default=40_000)
    parser.add_argument("--held-out", type=int, default=64, help="sequences to judge on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        sys.stderr.write(pack(options) + "\n")
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    command()
