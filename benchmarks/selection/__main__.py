"""What a model finds and answers in contexts longer than it was trained for, beside its ceiling.

    python -m benchmarks.selection [--model mini] [--tokens 8000]... [--text FILE]... [--save DIR]

One context per length holds everything: needles at ten depths, keys of one template, two needles
asked for at once, questions in other words than the needle, facts that stand in the texts anyway.
The texts are those of --text and the language reference that comes with Python (110,000 tokens);
benchmarks/selection/facts.jsonl has facts of War and Peace and Moby-Dick, too.

`found`: the scan puts the wanted block first; of two, both among the first two. `right`: all its
digits, or the word. `again`: the same, with the selected block's text once more before the
question, as `mm1 analyze` reads its best evidence. `alone`: from the passage that says it and
nothing else, the model's ceiling. `bm25`: the product's index puts the wanted passage first, or
among three. AUROC: how well the scan's mass on the best block, the lift of the question's
likelihood by it, and bm25's best score tell questions from twins that nothing answers. Intervals:
bootstrap, 95 %.

What was answered is kept in --cache, what was read in --save: a run that was stopped goes on from
there. --num-blocks: select so many, instead of as many as the model's settings say.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks import machine
from benchmarks.quality.command import ROOT, exits, positive, work_for
from benchmarks.quality.work import Work
from benchmarks.selection.haystack import Library, language_reference, read
from benchmarks.selection.measure import Reading
from benchmarks.selection.questions import NUM_SEEDS, Hidden, hidden
from benchmarks.selection.report import Length, Outcome, as_markdown, as_rows
from engine.api import MOST_TOKENS, ConfigError
from engine.engine import Engine
from mm1cli.models import calibration, library

CACHE = ROOT / ".cache" / "selection" / "results.jsonl"
LENGTHS = (8_000, 32_000)


def measure(
    engine: Engine,
    texts: Library,
    asked: list[Hidden],
    num_tokens: int,
    work: Work,
    save: Path | None,
) -> Length | None:
    """None if the time was over before anything was read."""
    haystack = texts.haystack(num_tokens)
    reading = Reading(engine, haystack, work, save)
    there = [one for one in asked if one.name in haystack.places]
    work.stage(f"{num_tokens:,} tokens", len(there) + 1)
    if (facts := reading.facts()) is None:
        return None
    length = Length(num_tokens, facts)
    for one in there:
        answered, alone = reading.ask(one), reading.alone(one)
        if answered is None or alone is None:
            length.left_out += 1
        else:
            length.outcomes.append(Outcome(one, answered, alone))
    return length


def main() -> None:
    parser = _parser()
    options = parser.parse_args()
    with exits(parser, work_for(options)) as work:
        lengths = options.tokens or LENGTHS
        if max(lengths) > MOST_TOKENS:
            raise ConfigError(f"a context to select from has at most {MOST_TOKENS:,} tokens")
        model = library.ensure(options.model, lambda *_: None)
        if (selection := calibration.of(model)) is None:
            raise ConfigError(f"{options.model} is not calibrated: mm1 models calibrate")
        if options.num_blocks is not None:
            selection = replace(selection, num_blocks=options.num_blocks)
        engine = Engine(
            model,
            kv=options.kv,
            selection=selection,
            threads=options.threads,
            num_tokens=max(lengths),
            is_mapped=options.save is not None,
        )
        asked = hidden(options.seeds)
        texts = Library(engine.tokenizer, [*map(read, options.text), language_reference()], asked)
        done = []
        for num_tokens in lengths:
            found = measure(engine, texts, asked, num_tokens, work, options.save)
            if found is None:
                break
            done.append(found)
            print(as_markdown([found]), flush=True)
        work.close()
        if len(done) > 1:
            print(f"\n{as_markdown(done)}")
        machine.print_result("selection", as_rows(done))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="mini")
    parser.add_argument("--tokens", type=positive, action="append", help="length; repeat it")
    parser.add_argument("--text", type=Path, action="append", default=[], help=".txt or .txt.gz")
    parser.add_argument("--seeds", type=int, choices=range(1, NUM_SEEDS + 1), default=NUM_SEEDS)
    parser.add_argument("--num-blocks", type=positive, help="blocks to select")
    parser.add_argument("--kv", default="int8")
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--save", type=Path, help="folder to keep what was read in")
    parser.add_argument("--minutes", type=float, help="begin nothing new after so long")
    parser.add_argument("--cache", type=Path, default=CACHE, help="results so far, JSON lines")
    return parser


if __name__ == "__main__":
    main()
