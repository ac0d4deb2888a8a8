"""Quotations under the mask: building its suffix array, and the cost of a token, by corpus length.

    python -m benchmarks.quotes [FILE ...] [--model mini|DIR] [--quotes 40]

FILEs are plain text, or gzipped; without any the text is made of random words. The array is built
for 10K, 100K and 1M tokens of it, and for texts that are hard to sort: one letter, one sentence
again and again, and two copies of one text. Then true quotations of 24 tokens are written as a
model would that knows them, and the time of the mask is taken apart from everything else: its
first token (what can begin a quotation is kept, and was asked for before), the second, and those
after it; in microseconds. `free` is a token outside of quotations. All times are of the processor,
so that other work on the machine counts little.

Last, what it takes to find a quotation in a corpus of one block (the array built before): the first
and the next one, and a line of code in a file that has a line of 20,000 blanks.
"""

import argparse
import gzip
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks import machine
from engine.constraints.quote_constraint import QuoteConstraint, QuoteTokens
from engine.constraints.suffix_array import SuffixArray
from engine.tokenizer import Tokenizer
from mm1cli.grounding.normalize import CodeText, normalize
from mm1cli.grounding.quote_index import QuoteIndex
from mm1cli.ingest.corpus import Block, Corpus, Document
from mm1cli.models import library

SIZES = (10_000, 100_000, 1_000_000)
QUOTE_TOKENS = 24

Row = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--model", default=library.EMBEDDED)
    parser.add_argument("--quotes", type=int, default=40)
    arguments = parser.parse_args()
    directory = library.resolve(arguments.model)
    tokenizer = Tokenizer(directory)
    words = tokenizer.token_bytes(tokenizer.vocab_size)
    assert words is not None, "a tokenizer whose bytes are known"
    began = time.process_time()
    tokens = QuoteTokens(words)
    print(f"vocabulary of {len(words):,} as a trie: {time.process_time() - began:.2f} s")
    paragraphs = [paragraph for file in arguments.files for paragraph in _paragraphs(file)]
    paragraphs = paragraphs or _made_up(1_200_000)
    counts = [len(ids) for ids in tokenizer.encode_batch(paragraphs)]
    rows = _builds(paragraphs, counts)
    print(
        f"\n{'tokens':>9}  {'free':>6}  {'first':>6}  {'second':>6}  {'later':>6}  {'slowest':>7}"
    )
    for size in SIZES:
        rows.append(_writing(_first(paragraphs, counts, size), size, tokenizer, tokens, arguments))
    rows += _finding(_first(paragraphs, counts, SIZES[-1]))
    machine.print_result("quotes", rows)


def _paragraphs(file: Path) -> list[str]:
    content = file.read_bytes()
    text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode()
    return list(filter(None, map(normalize, re.split(r"\r?\n\s*\n", text))))


def _made_up(num_words: int) -> list[str]:
    """Words of a few syllables, as often as words are (Zipf), in sentences and paragraphs."""
    chance = random.Random(0)
    syllables = [a + b for a in "bdfghklmnprstvw" for b in "aeiou"]
    known = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(30_000)]
    weights = [1 / rank for rank in range(1, len(known) + 1)]
    text = chance.choices(known, weights, k=num_words)
    sentences = [" ".join(text[at : at + 15]) + "." for at in range(0, num_words, 15)]
    return [" ".join(sentences[at : at + 6]) for at in range(0, len(sentences), 6)]


def _first(paragraphs: list[str], counts: list[int], size: int) -> list[str]:
    total = 0
    for number, count in enumerate(counts):
        total += count
        if total >= size:
            return paragraphs[: number + 1]
    print(f"only {total:,} tokens of text for {size:,}")
    return paragraphs


def _builds(paragraphs: list[str], counts: list[int]) -> list[Row]:
    natural = {f"text, {size:,} tokens": _first(paragraphs, counts, size) for size in SIZES}
    largest = natural[f"text, {SIZES[-1]:,} tokens"]
    num_chars = sum(map(len, largest))
    sentence = "The cat sat on the mat. "
    texts = natural | {
        "one letter": ["a" * num_chars],
        "letters apart": ["a " * (num_chars // 2)],
        "one sentence": [sentence * (num_chars // len(sentence))],
        "two copies": (half := largest[: len(largest) // 2]) + half,
    }
    print(f"\n{'':<22}  {'MB of text':>10}  {'build s':>7}  {'open s':>7}  {'MB saved':>8}")
    rows: list[Row] = []
    for name, text in texts.items():
        began = time.process_time()
        suffixes = SuffixArray.build(text)
        build_s = time.process_time() - began
        saved = suffixes.dump()
        began = time.process_time()
        SuffixArray.load(saved, text)
        open_s = time.process_time() - began
        row = {"text": name, "text_bytes": len(suffixes.text), "saved_bytes": len(saved)}
        rows.append(row | {"build_s": build_s, "open_s": open_s})
        print(
            f"{name:<22}  {len(suffixes.text) / 1e6:>10.2f}  {build_s:>7.2f}  {open_s:>7.2f}"
            f"  {len(saved) / 1e6:>8.2f}"
        )
    return rows


def _writing(
    text: list[str],
    size: int,
    tokenizer: Tokenizer,
    tokens: QuoteTokens,
    arguments: argparse.Namespace,
) -> Row:
    suffixes = SuffixArray.build(text)
    chance = random.Random(size)
    took: dict[str, list[float]] = {"free": [], "first": [], "second": [], "later": []}
    for number in range(arguments.quotes + 1):
        quote = _quote(text, tokenizer, chance)
        verbatim = QuoteConstraint(tokens, lambda: suffixes)
        since = 0
        for token_id in tokenizer.encode("It says: “") + quote:
            quoted = verbatim.is_open
            began = time.process_time()
            allowed = verbatim.allowed()
            verbatim.push(token_id)
            seconds = time.process_time() - began
            assert allowed is None or allowed[token_id], "a true quotation is allowed"
            since = since + 1 if quoted else 0
            name = ("free", "first", "second")[since] if since < 3 else "later"
            if number:  # the first one asks what can begin a quotation
                took[name].append(seconds * 1e6)
    middle = {f"{name}_us": median(each) for name, each in took.items()}
    slowest = max(max(each) for each in took.values())
    print(f"{size:>9,}  " + "  ".join(f"{us:>7.0f}" for us in (*middle.values(), slowest)))
    return {"tokens": size, **middle, "slowest_us": slowest}


def _finding(text: list[str]) -> list[Row]:
    prose = QuoteIndex(_corpus("\n\n".join(text)))
    assert prose.suffixes
    code = QuoteIndex(_corpus("x = 1\n" + " " * 20_000 + "y\nz = 2\n"), normalized=CodeText)
    words = text[len(text) // 2]
    finds: Sequence[tuple[str, Callable[[], object]]] = (
        ("first quote in one block", lambda: prose.find(words)),
        ("next quote in it", lambda: prose.find(words)),
        ("code beside 20,000 blanks", lambda: next(code.find_all("z = 2"), None)),
    )
    rows: list[Row] = []
    print(f"\n{'':<26}  {'ms':>8}")
    for name, find in finds:
        began = time.process_time()
        assert find() is not None
        milliseconds = (time.process_time() - began) * 1e3
        rows.append({"find": name, "ms": milliseconds})
        print(f"{name:<26}  {milliseconds:>8.2f}")
    return rows


def _corpus(text: str) -> Corpus:
    """One document of one block."""
    return Corpus((Document("0.txt", "text", len(text), "0" * 64, "none", (Block(text),)),))


def _quote(text: list[str], tokenizer: Tokenizer, chance: random.Random) -> list[int]:
    while True:
        words = chance.choice(text).split(" ")
        if len(words) > QUOTE_TOKENS and "”" not in "".join(words):
            start = chance.randrange(len(words) - QUOTE_TOKENS)
            return tokenizer.encode(" ".join(words[start:]))[:QUOTE_TOKENS]


if __name__ == "__main__":
    main()
