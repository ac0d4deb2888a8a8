"""Reviews made by hand, with everything a page can show of one: findings, heat, facts, losses."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
from corpora import document
from reviewing import MAIN, UTIL, raw
from sample_run import HOSTILE, MADE, OPTIONS

from mm1cli.code import index_of
from mm1cli.ingest.corpus import Corpus, Document, Omission, Reason
from mm1cli.ingest.manifest import build
from mm1cli.ingest.pack import Span
from mm1cli.output.citation_context import Sources
from mm1cli.output.page import Collected
from mm1cli.review.checks import checked
from mm1cli.review.finding import Finding, Rejection, Review
from mm1cli.review.locate import FileText
from mm1cli.sink import RunInfo
from mm1cli.surprisal import SurprisalMap, lex
from mm1cli.surprisal.lines import SHIPPED, file_tokens, score_lines

LONG = "".join(f"value_{n} = {n}\n" for n in range(1, 201))


def surprise(documents: tuple[Document, ...], odd: dict[str, str]) -> SurprisalMap:
    """A map in which the words of `odd`, by path, are what nobody would expect."""
    files = []
    for one in documents:
        text = one.blocks[0].text
        words = [x.start for x in lex(text, "python")]
        cuts = list(pairwise(sorted({0, *words, len(text)})))
        spans = [Span(one.blocks[0], start, end) for start, end in cuts]
        draw = np.random.default_rng(len(text))
        scores = np.zeros((3, len(spans)), np.float32)
        scores[0] = -draw.uniform(0, 1, len(spans))
        for index, (start, end) in enumerate(cuts):
            if odd.get(one.path) and text[start:end].strip() == odd[one.path]:
                scores[0, index] = -20
        files.append(file_tokens(one, spans, scores, lex))
    return SurprisalMap(tuple(score_lines(files, SHIPPED)), SHIPPED, (), 8192, 0, ())


def found(path: str, text: str, quote: str, line: int, **changes: object) -> Finding:
    finding = checked(raw(quote, line, **changes), path, FileText(document(text)), None)
    assert isinstance(finding, Finding)
    return finding


def collected(review: Review, corpus: Corpus, tokens: tuple[int, ...]) -> Collected:
    return Collected(
        made=MADE,
        version="0.1.0",
        options=OPTIONS,
        run=RunInfo("review", "mini"),
        manifest=build(corpus, tokens, 65_000),
        sources=Sources(corpus, tokens),
        notes=["reviewing what changed since main"],
        review=review,
    )


def sample(**changes: object) -> Collected:
    documents = (
        document(UTIL, "src/util.py", "python"),
        document(MAIN.replace("util", "src.util"), "main.py", "python"),
        document(LONG, "long.py", "python"),
        document("# Notes\n", "README.md", "markdown"),
    )
    corpus = Corpus(documents, (Omission("photo.png", Reason.BINARY),))
    mean = "return sum(values) / len(values)"
    review = Review(
        index_of(corpus, num_workers=1),
        is_written=True,
        is_change=True,
        plan="whole",
        findings=(
            found("src/util.py", UTIL, mean, 12, fix="return fmean(values)"),
            found("long.py", LONG, "value_150 = 150", 150, severity="low", title="A constant"),
        ),
        rejected=Counter({Rejection.NOT_THERE: 2, Rejection.OUTSIDE: 1}),
        surprise=surprise(documents[:3], {"src/util.py": "sum", "long.py": "value_40"}),
        not_reviewed=(("README.md", "not source code"), ("photo.png", "binary")),
        added={"src/util.py": frozenset({12})},
    )
    assert review.surprise is not None
    review = replace(review, **{"surprising": tuple(review.surprise.top(3))} | changes)
    return collected(review, corpus, (70, 40, 900, 4))


def hostile() -> Collected:
    """Every text a stranger could have written is hostile, and one line is 1 MB long."""
    path = f"a {HOSTILE}/{'very-long-name' * 30}.py"
    text = f"x = 1\nquoted = '{HOSTILE}'\n{'y' * 1_000_000} = {'9' * 5_000}\n"
    one = document(text, path, "python")
    corpus = Corpus((one,), (Omission(f"{HOSTILE}/b", Reason.UNREADABLE, HOSTILE),))
    words = {"title": HOSTILE * 9, "explanation": HOSTILE, "fix": f"{HOSTILE}\n+{HOSTILE}"}
    review = Review(
        index_of(corpus, num_workers=1),
        is_written=True,
        is_change=False,
        plan="retrieval",
        findings=(
            found(path, text, f"quoted = '{HOSTILE}'", 2, **words),
            found(path, text, "9" * 100, 3, **words),
        ),
        surprise=surprise((one,), {path: "quoted"}),
        not_reviewed=((f"{HOSTILE}/b", HOSTILE),),
    )
    assert review.surprise is not None
    review = replace(review, surprising=tuple(review.surprise.top()))
    shown = collected(review, corpus, (90,))
    shown.errors.append(HOSTILE)
    return shown
