"""A needle in a haystack: length x depth, several seeds, the exact value asked for.

    python -m benchmarks.quality.needle [--model DIR] [--lengths 1024 8192] [--depths 0 0.5 1]

A sentence with a seven-digit number is put into books; the question asks for the number. `exact`:
greedy writing begins with the number. `digits`: share of its digits in their place. `nats`: the
number's -log p, mean per token. The text before a needle is read once for all lengths, depths and
seeds, so a row costs what stands after its needles. Intervals, 95 %: Wilson for `exact` and
`digits`, bootstrap over needles for `nats`.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.quality.ask import Frame, asked, frame
from benchmarks.quality.baselines import BM25, FIRST, FIRST_TOKENS, bm25_holds
from benchmarks.quality.command import Command, left_out, main, positive
from benchmarks.quality.haystack import Haystack, cut
from benchmarks.quality.stats import bootstrap_mean, wilson
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.templates import Needle, needles
from benchmarks.quality.work import Key, Result, Work, digest
from engine.tokenizer import Tokenizer

if TYPE_CHECKING:
    from engine.context import Context

VERSION = 1  # of what is measured; another one does not read the results kept of this one
LENGTHS = (1024, 2048, 4096, 8192)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
NUM_SEEDS = 2
NEEDLE_NOTE = (
    f"{BM25}: the passage it puts first holds the number; {FIRST}: the needle stands in them, the "
    "most that reading only them can give."
)


@dataclass(frozen=True, slots=True)
class Trial:
    """`needle` after `at` of `num_hay` haystack tokens; `length` counts the prompt as well."""

    length: int
    depth: float
    seed: int
    needle: Needle
    at: int
    num_hay: int
    needle_ids: list[int]
    frame: Frame
    digest: str  # of the text around the needle


def trials(
    tokenizer: Tokenizer,
    hay: Sequence[int],
    lengths: Sequence[int],
    depths: Sequence[float],
    seeds: Sequence[int],
) -> list[Trial]:
    """In the order in which one pass over `hay` meets them."""
    found = []
    for length in lengths:
        for seed in seeds:
            needle = needles(seed)[0]
            ids = tokenizer.encode(f"\n{needle.sentence}\n")
            asks = frame(tokenizer, needle.question, needle.answer_begins)
            num_hay = length - len(asks) - len(ids)
            if num_hay < 1:
                raise ValueError(f"no room for text beside the question in {length:,} tokens")
            text = digest(list(hay[:num_hay]))
            for depth in depths:
                at = cut(tokenizer, hay[:num_hay], depth)
                found.append(Trial(length, depth, seed, needle, at, num_hay, ids, asks, text))
    return sorted(found, key=lambda trial: trial.at)


def measure(subject: Subject, hay: Sequence[int], planned: Sequence[Trial], work: Work) -> None:
    """Runs what is not known yet; each haystack token before a needle is read once."""
    trunk = subject.engine.new_context()

    def compute(trial: Trial) -> Result:
        if not len(trunk):
            trunk.extend(trial.frame.before)
        read = len(trunk) - len(trial.frame.before)
        trunk.extend(hay[read : trial.at], work.reading)
        branch = trunk.fork()
        branch.extend([*trial.needle_ids, *hay[trial.at : trial.num_hay]], work.reading)
        return judge(subject, asked(branch, trial.frame), trial.needle.value)

    for trial in planned:
        work.do(key(subject, trial), partial(compute, trial))


def judge(subject: Subject, context: "Context", wanted: str) -> Result:
    """What the model writes next, and how likely it finds `wanted`."""
    ids = subject.engine.tokenizer.encode(f" {wanted}")
    nats = -float(context.score(ids).mean())
    text = subject.write(context, len(ids) + 2)
    return {
        "exact": is_exact(text, wanted),
        "digits": digits(text, wanted),
        "nats": nats,
        "written": number(text),
    }


def number(text: str) -> str:
    """The number that `text` begins with, white space aside; "" if there is none."""
    found = re.match(r"\s*(\d+)", text)
    return found[1] if found else ""


def is_exact(text: str, wanted: str) -> bool:
    """Whether `text` begins with the number `wanted`, and it ends there."""
    return number(text) == wanted


def digits(text: str, wanted: str) -> float:
    """Share of the digits of `wanted` in their place in the number that `text` begins with."""
    right = sum(one == other for one, other in zip(number(text), wanted, strict=False))
    return right / len(wanted)


def put(
    table: Table, condition: dict[str, str], name: str, results: Sequence[Result], seed: int
) -> None:
    """The measures of one cell of the grid."""
    exact = wilson(sum(result["exact"] for result in results), len(results))
    table.put(condition, "exact", name, exact)
    right = wilson(sum(result["digits"] for result in results), len(results), "score")
    table.put(condition, "digits", name, right)
    nats = bootstrap_mean([result["nats"] for result in results], seed, "nats")
    table.put(condition, "nats", name, nats)


def build(subjects: Sequence[Subject], options: argparse.Namespace, work: Work) -> Table:
    table = Table("needle", "Needle in a haystack: one sentence with a number, asked for it")
    books = Haystack(options.shared / "corpora")
    seeds = range(options.seed, options.seed + options.seeds)
    for index, subject in enumerate(subjects):
        tokenizer = subject.engine.tokenizer
        lengths = allowed_lengths(subject, options, table)
        hay = books.token_ids(tokenizer, max(lengths, default=1))
        planned = trials(tokenizer, hay, lengths, options.depths, seeds)
        work.stage(f"needle, {subject.name}", len(planned))
        measure(subject, hay, planned, work)
        left_out(table, work, subject.name)
        for length in lengths:
            for depth in options.depths:
                here = [t for t in planned if (t.length, t.depth) == (length, depth)]
                done = [work.known(key(subject, trial)) for trial in here]
                condition = {"tokens": f"{length:,}", "depth": f"{depth:.0%}"}
                if results := [result for result in done if result is not None]:
                    put(table, condition, subject.name, results, options.seed)
                if index == 0:
                    put_baselines(table, condition, tokenizer, hay, here)
    table.note(f"Needles per cell: {options.seeds}. {NEEDLE_NOTE}")
    return table


def allowed_lengths(subject: Subject, options: argparse.Namespace, table: Table) -> list[int]:
    """Those to run; what is beyond the model's length is run or left out, and noted either way."""
    beyond = [length for length in options.lengths if subject.is_beyond(length)]
    for length in beyond:
        verb = "left out" if options.skip_beyond else "run all the same"
        table.note(f"{subject.beyond(f'{length:,} tokens')}: {verb}.")
    return [n for n in options.lengths if not (options.skip_beyond and n in beyond)]


def put_baselines(
    table: Table,
    condition: dict[str, str],
    tokenizer: Tokenizer,
    hay: Sequence[int],
    here: Sequence[Trial],
) -> None:
    found = within = 0
    for trial in here:
        text = tokenizer.decode(
            [*hay[: trial.at], *trial.needle_ids, *hay[trial.at : trial.num_hay]]
        )
        found += bm25_holds(text, trial.needle.question, trial.needle.value)
        within += trial.at + len(trial.needle_ids) <= FIRST_TOKENS
    table.put(condition, "exact", BM25, wilson(found, len(here)))
    table.put(condition, "exact", FIRST, wilson(within, len(here)))


def key(subject: Subject, trial: Trial) -> Key:
    return {
        "table": "needle",
        "version": VERSION,
        "model": subject.engine.fingerprint,
        "tokens": trial.length,
        "depth": trial.depth,
        "seed": trial.seed,
        "text": trial.digest,
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    add_length_options(parser, LENGTHS)
    parser.add_argument("--depths", type=depth, nargs="+", default=DEPTHS, help="from 0 to 1")
    parser.add_argument("--seeds", type=positive, default=NUM_SEEDS, help="needles per cell")


def add_length_options(parser: argparse.ArgumentParser, lengths: Sequence[int]) -> None:
    parser.add_argument("--lengths", type=positive, nargs="+", default=lengths, help="in tokens")
    parser.add_argument(
        "--skip-beyond", action="store_true", help="leave out lengths a model was not trained for"
    )


def depth(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise ValueError(text)
    return share


COMMAND = Command("needle", __doc__ or "", add_options, build)

if __name__ == "__main__":
    main(COMMAND)
