"""All that training on another machine needs, but the code: tokens, parent and tokenizer.

    python -m training.pack --parent DIR --text text.jsonl.xz --qa qa.jsonl.xz --out FOLDER

FOLDER/part-00, part-01, ... are each under 60 MiB and can travel one by one; `training.job` runs
the stages from them. The parent's weights are as small as the quantised file they came from and
come back exactly. Sets of tokens that other stages need are added as --set STAGE=FILE.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from engine.tokenizer import Tokenizer
from training import compact, packed, parts
from training.data import Reader
from training.export import MODEL_FILES
from training.mixture import Mixture
from training.overlap import Overlap
from training.shards import fingerprint

PART_BYTES = 56 * 2**20
PARENT = "parent.safetensors"
TOKENS = ".tokens.safetensors"
MAIN = "main"  # the set for stages that have none of their own


def pack(options: argparse.Namespace) -> str:
    """Writes the folder; returns what is in it. Raises ValueError for inputs that cannot be."""
    if options.out.exists() and any(options.out.iterdir()):
        raise ValueError(f"{options.out} is not empty")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        tensors = load_file(options.parent / "model.safetensors")
        save_file(compact.shrink(tensors), scratch / PARENT)
        files = {PARENT: scratch / PARENT}
        files |= {n: options.parent / n for n in MODEL_FILES if (options.parent / n).exists()}
        tokenizer = Tokenizer(options.parent)
        known = Overlap.with_evaluation(options.exclude)
        counts = []
        for held_out, wanted in ((False, options.max_sequences), (True, options.held_out)):
            reader = Reader(tokenizer, options.seed, held_out, known)
            counts.append(
                reader.read(
                    options.text,
                    options.qa,
                    sequence_tokens=options.sequence_tokens,
                    num_sequences=wanted,
                    mixture=options.mixture,
                )
            )
        files[MAIN + TOKENS] = scratch / (MAIN + TOKENS)
        packed.write(files[MAIN + TOKENS], *counts)
        for stage, _, path in (entry.partition("=") for entry in options.set):
            files[stage + TOKENS] = Path(path)
        facts = {"parent": fingerprint(tensors), "seed": options.seed}
        number = parts.split(files, options.out, PART_BYTES, facts)
    return (
        f"{len(counts[0]):,} sequences of {options.sequence_tokens:,} tokens and "
        f"{len(counts[1]):,} held out, with the parent, in {number} parts"
    )


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
        "--mixture", type=Mixture.parse, help="shares of text, questions and generated tasks"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="STAGE=FILE", help="more tokens")
    parser.add_argument("--sequence-tokens", type=int, default=1024)
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
