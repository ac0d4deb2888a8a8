"""Several needles of one template in a haystack, each asked for: the others are distractors.

    python -m benchmarks.quality.multikey [--model DIR] [--lengths 1024 8192] [--keys 4]

The needles stand evenly spaced; the text is read once and every question asked on a fork of it, so
a row costs one prefill. Measures and intervals are those of `needle`; `other` is the share of
answers that give the number of another key.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.quality.ask import asked, frame
from benchmarks.quality.baselines import BM25, FIRST, FIRST_TOKENS, bm25_holds
from benchmarks.quality.command import Command, left_out, main, positive
from benchmarks.quality.haystack import Haystack, cut
from benchmarks.quality.needle import (
    LENGTHS,
    NEEDLE_NOTE,
    add_length_options,
    allowed_lengths,
    judge,
    put,
)
from benchmarks.quality.stats import wilson
from benchmarks.quality.subject import Subject
from benchmarks.quality.table import Table
from benchmarks.quality.templates import Needle, needles
from benchmarks.quality.work import Key, Result, Work, digest
from engine.tokenizer import Tokenizer

VERSION = 1
NUM_KEYS = 4


@dataclass(frozen=True, slots=True)
class Strewn:
    """Haystack and needles as one text of tokens; `ends[i]` is where needle i ends in it."""

    needles: list[Needle]
    token_ids: list[int]
    ends: list[int]


def strew(tokenizer: Tokenizer, hay: Sequence[int], length: int, keys: int, seed: int) -> Strewn:
    """`keys` needles, evenly spaced, in so much of `hay` that every question fits in `length`."""
    placed = needles(seed, keys)
    encoded = tokenizer.encode_batch([f"\n{needle.sentence}\n" for needle in placed])
    questions = [frame(tokenizer, needle.question, needle.answer_begins) for needle in placed]
    num_hay = length - max(map(len, questions)) - sum(map(len, encoded))
    if num_hay < keys:
        raise ValueError(f"no room for {keys} needles in {length:,} tokens")
    ids: list[int] = []
    ends: list[int] = []
    read = 0
    for number, needle_ids in enumerate(encoded):
        at = cut(tokenizer, hay[:num_hay], (number + 0.5) / keys)
        ids += [*hay[read:at], *needle_ids]
        ends.append(len(ids))
        read = at
    return Strewn(placed, ids + list(hay[read:num_hay]), ends)


def measure(subject: Subject, strewn: Strewn, work: Work) -> Result:
    """One model's answers to the questions for all needles of one text."""
    tokenizer = subject.engine.tokenizer
    context = subject.engine.new_context()
    context.extend(frame(tokenizer, "").before + strewn.token_ids, work.reading)
    answers = []
    for needle in strewn.needles:
        asks = frame(tokenizer, needle.question, needle.answer_begins)
        found = judge(subject, asked(context, asks), needle.value)
        others = [other.value for other in strewn.needles if other is not needle]
        answers.append(found | {"other": found["written"] in others})
    return {"answers": answers}


def build(subjects: Sequence[Subject], options: argparse.Namespace, work: Work) -> Table:
    title = f"Multi-key: one of {options.keys} needles of the same template asked for"
    table = Table("multikey", title)
    books = Haystack(options.shared / "corpora")
    for number, subject in enumerate(subjects):
        tokenizer = subject.engine.tokenizer
        lengths = allowed_lengths(subject, options, table)
        hay = books.token_ids(tokenizer, max(lengths, default=1))
        work.stage(f"multikey, {subject.name}", len(lengths) * options.seeds)
        for length in lengths:
            condition = {"tokens": f"{length:,}", "keys": str(options.keys)}
            answers: list[Result] = []
            texts = []
            for seed in range(options.seed, options.seed + options.seeds):
                strewn = strew(tokenizer, hay, length, options.keys, seed)
                texts.append(strewn)
                done = work.do(
                    _key(subject, length, strewn),
                    partial(measure, subject, strewn, work),
                )
                answers += done["answers"] if done else []
            if answers:
                put(table, condition, subject.name, answers, options.seed)
                others = wilson(sum(a["other"] for a in answers), len(answers))
                table.put(condition, "other", subject.name, others)
            if number == 0:
                put_baselines(table, condition, tokenizer, texts)
        left_out(table, work, subject.name)
    table.note(
        f"Texts per row: {options.seeds}, every key asked for. Answers about one text hang "
        f"together, so the intervals are too narrow for few texts. {NEEDLE_NOTE}"
    )
    return table


def put_baselines(
    table: Table, condition: dict[str, str], tokenizer: Tokenizer, texts: Sequence[Strewn]
) -> None:
    found = within = total = 0
    for strewn in texts:
        text = tokenizer.decode(strewn.token_ids)
        for needle, end in zip(strewn.needles, strewn.ends, strict=True):
            found += bm25_holds(text, needle.question, needle.value)
            within += end <= FIRST_TOKENS
            total += 1
    table.put(condition, "exact", BM25, wilson(found, total))
    table.put(condition, "exact", FIRST, wilson(within, total))


def _key(subject: Subject, length: int, strewn: Strewn) -> Key:
    return {
        "table": "multikey",
        "version": VERSION,
        "model": subject.engine.fingerprint,
        "tokens": length,
        "text": digest(strewn.token_ids),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    add_length_options(parser, LENGTHS)
    parser.add_argument("--keys", type=positive, default=NUM_KEYS)
    parser.add_argument("--seeds", type=positive, default=1, help="texts per length")


COMMAND = Command("multikey", __doc__ or "", add_options, build)

if __name__ == "__main__":
    main(COMMAND)
