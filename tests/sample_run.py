"""A run made by hand, with everything a report can show: documents, citations, claims, losses."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mm1cli.ingest.corpus import Block, Corpus, Document, Omission, Place, Reason
from mm1cli.ingest.manifest import Manifest, ReadingPlan, build
from mm1cli.output.citation_context import Sources
from mm1cli.output.page import Collected, Option
from mm1cli.result import Answer, Citation, CitationKind, CitationStatus, Claim, PassageRead, Usage
from mm1cli.sink import RunInfo, Sink

MADE = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
USAGE = Usage(21_310, 21_310, 21_640, 21_500, 74, 0.8, 5.2, 14.1)
FILLER = (
    "The harbour office of Port Ellery kept a log of every tide. The quay was repaired twice in "
    "the years before the crossing opened, and the ferry ran at low water only. "
)


def document(path: str, kind: str, *texts: str, pages: bool = False, **fields: object) -> Document:
    blocks = tuple(
        Block(
            text,
            "paragraph" if kind == "docx" else "line",
            1 if pages else 1 + "\n".join(("", *texts[:index])).count("\n"),
            place=Place("page", index, ("i", "ii", "1")[min(index, 2)]) if pages else None,
            headings=("Costs",) if index == 1 else (),
        )
        for index, text in enumerate(texts)
    )
    values = {"num_bytes": sum(map(len, texts)), "sha256": "0" * 64, "reader": "text 1"}
    return Document(path, kind, blocks=blocks, **values | fields)  # type: ignore[arg-type]


COST = "The final cost is 48.2 million crowns, against a budget of 45.0 million crowns."
OPENED = "The crossing opened to the public on 21 September 2017."
CODE = "def level(hours):\n    return 2.1 * cos(hours / 12.42)"
DOCUMENTS = (
    document(
        "papers/council-minutes.docx",
        "docx",
        f"Report on the harbour crossing\n{FILLER * 2}{OPENED} More than 4,000 people walked over "
        f"it on the first day.\n{FILLER}",
        f"{FILLER}\n{COST} The member for Saltmarsh asked who would pay.\n{FILLER * 3}",
    ),
    document("papers/ferry-survey.md", "markdown", FILLER * 9),
    document(
        "papers/harbour-crossing-report.pdf",
        "pdf",
        FILLER * 6,
        f"{FILLER * 3}\n{COST}\n{FILLER * 5}",
        FILLER * 8,
        pages=True,
        warnings=("page 7 has no text layer",),
    ),
    document("papers/tide_model.py", "python", f"import math\n\n{CODE}\n"),
)
TOKENS = (6_020, 3_110, 11_890, 290)
OMISSIONS = (
    Omission("papers/.git", Reason.HIDDEN),
    Omission("papers/scan.pdf", Reason.NO_TEXT, "12 pages; --ocr reads them"),
    Omission("papers/keys.env", Reason.SECRET, "line 3: a private key; --allow-secrets reads it"),
)
CORPUS = Corpus(DOCUMENTS, OMISSIONS)


def cite(
    number: int, index: int, block: int, text: str, score: float, **fields: object
) -> Citation:
    one = DOCUMENTS[index]
    start = one.blocks[block].text.index(text)
    end = start + len(text)
    values = {"block": block, "start": start, "end": end, "status": CitationStatus.EXACT}
    locator = one.blocks[block].locate(start, end)
    return Citation(number, one.path, locator, text, score=score, **values | fields)  # type: ignore[arg-type]


SENTENCES = (
    "The crossing cost 48.2 million crowns, 3.2 million more than was planned.",
    "It opened on 21 September 2017, and the minutes say that “More than 4,000 people walked "
    "over it”.",
    "Everybody was pleased with it.",
)
TEXT = " ".join(SENTENCES)
CITATIONS = (
    cite(1, 0, 1, COST, -1.42, gain=0.83, attention=0.21),
    cite(2, 2, 1, COST, -1.61, gain=0.80, attention=0.17),
    cite(3, 0, 0, OPENED, -2.35, gain=0.31, attention=0.06),
    cite(4, 3, 0, CODE, -3.9, gain=-0.02),
    cite(
        5,
        0,
        0,
        "More than 4,000 people walked over it",
        0.0,
        kind=CitationKind.QUOTE,
        status=CitationStatus.NORMALISED,
    ),
)


def _claims() -> tuple[Claim, ...]:
    claims, at = [], 0
    for sentence, numbers in zip(SENTENCES, ((1, 2), (3, 5), ()), strict=True):
        claims.append(Claim(at, at + len(sentence), numbers))
        at += len(sentence) + 1
    return tuple(claims)


ANSWER = Answer(
    question="What did the crossing cost, and when did it open?",
    text=TEXT,
    citations=CITATIONS,
    usage=USAGE,
    plan=ReadingPlan.WHOLE,
    stop_reason="end",
    seed=0,
    model_fingerprint="5d0f" * 16,
    read=tuple(
        PassageRead(one.path, None, count) for one, count in zip(DOCUMENTS, TOKENS, strict=True)
    ),
    unverified=("3.2",),
    claims=_claims(),
    thinking="The minutes give the cost.\nThe report gives it, too.",
)
NOT_FOUND = replace(
    ANSWER,
    question="Who designed the lighthouse?",
    text="Not found in the 4 documents read (21,310 of 21,310 tokens).",
    citations=(cite(1, 0, 0, OPENED, -6.1),),
    unverified=(),
    claims=(),
    is_found=False,
    thinking="",
)
TABLE = replace(
    ANSWER,
    question="Compare what the papers say about cost and date.",
    text=(
        "Two papers give **both**:\n\n| paper | cost | opened |\n|---|---|---|\n"
        "| council minutes | 48.2 million crowns | 21 September 2017 |\n"
        "| crossing report | 48.2 million crowns | not said |\n\n- They agree on the cost.\n"
        "- Only `council-minutes.docx` has the day."
    ),
    claims=(),
    unverified=(),
    thinking="",
    plan=ReadingPlan.RETRIEVAL,
    usage=replace(USAGE, read_tokens=1_904, reused_tokens=0),
    read=(
        PassageRead(DOCUMENTS[0].path, CITATIONS[0].locator, 700),
        PassageRead(DOCUMENTS[2].path, CITATIONS[1].locator, 1_204),
    ),
    stop_reason="max tokens",
)
TABLE = replace(
    TABLE,
    claims=tuple(
        Claim(TABLE.text.index(words), TABLE.text.index(words) + len(words), numbers)
        for words, numbers in [
            ("48.2 million crowns", (1,)),
            ("21 September 2017", (3,)),
            ("not said", (2,)),
            ("They agree on the cost.", (1, 2)),
        ]
    ),
)
OPTIONS = (
    Option("model", "mini", "default"),
    Option("max_tokens", "400", "--max-tokens"),
    Option("seed", "0", "default"),
)


def manifest(corpus: Corpus = CORPUS, tokens: tuple[int, ...] = TOKENS) -> Manifest:
    return build(corpus, tokens, 65_000)


def collected(*answers: Answer) -> Collected:
    return Collected(
        made=MADE,
        version="0.1.0",
        options=OPTIONS,
        run=RunInfo("analyze", "mini"),
        manifest=manifest(),
        sources=Sources(CORPUS, TOKENS),
        notes=["the answer says, but nothing that was read does: “3.2”"],
        answers=list(answers or (ANSWER,)),
    )


def play(sink: Sink, *answers: Answer) -> None:
    """The calls of a run that gave these answers, up to and without `close`."""
    sink.init(RunInfo("analyze", "mini"))
    sink.manifest(manifest(), show=False)
    sink.corpus(CORPUS, TOKENS)
    for index, answer in enumerate(answers):
        sink.question(answer.question, index, len(answers))
        if answer.thinking:
            sink.thinking(answer.thinking)
        for word in answer.text.split(" "):
            sink.token(word if answer.text.endswith(word) else f"{word} ")
        for citation in answer.citations:
            sink.citation(citation)
        sink.answer(answer)


def write(path: Path, *answers: Answer) -> Path:
    from mm1cli.output.page import render

    path.write_text(render(collected(*answers)), encoding="utf-8")
    return path


HOSTILE = (
    "<script>document.documentElement.dataset.hacked=1</script></style></svg></title>\"'>"
    "<img src=x onerror=document.documentElement.dataset.hacked=1>{{ 7*7 }}&lt;"
    "\x00\x1b[31m\u202egpj\u2066"
)


def hostile_run() -> Collected:
    """Every text a stranger could have written is hostile, and one line is 1 MB long."""
    line = "x" * 1_000_000
    path = f"a\n{HOSTILE}/{'very-long-name' * 30}.pdf"
    blocks = (Block(f"{HOSTILE}\n{line}{HOSTILE}{line}\n"),)
    document = Document(path, HOSTILE, 9, "0", "r", blocks, (HOSTILE,))
    corpus = Corpus((document,), (Omission(f"{HOSTILE}/b", Reason.UNREADABLE, HOSTILE),))
    at = blocks[0].text.rindex(HOSTILE)
    citations = tuple(
        Citation(
            number,
            path,
            blocks[0].locate(start, start + len(HOSTILE)),
            HOSTILE,
            CitationStatus.EXACT,
            float("nan"),
            block=0,
            start=start,
            end=start + len(HOSTILE),
        )
        for number, start in ((1, 0), (2, at))
    )
    text = f"{HOSTILE} {'word' * 5_000}\n\n|{HOSTILE}|b|\n|---|---|\n|{'cell' * 900}|{HOSTILE}|"
    answer = replace(
        ANSWER,
        question=HOSTILE + "?" * 3_000,
        text=text,
        citations=citations,
        claims=(Claim(0, 40, (1, 2)), Claim(41, 300, ())),
        unverified=(HOSTILE, "7"),
        read=(PassageRead(path, None, 3), PassageRead("gone", citations[0].locator, 3)),
        thinking=HOSTILE,
        stop_reason=HOSTILE,
        model_fingerprint=HOSTILE,
    )
    return replace(
        collected(answer, replace(answer, is_found=False)),
        run=RunInfo(HOSTILE, HOSTILE),
        manifest=build(corpus, [70_000], 10),
        sources=Sources(corpus, [70_000]),
        notes=[HOSTILE],
        errors=[HOSTILE],
    )


FILLED = replace(
    ANSWER,
    question="compare / What did it cost?",
    text=(
        "| Document | What did it cost? |\n|---|---|\n"
        f"| {DOCUMENTS[0].path} | 48.2 million \\[sic\\] crowns \\| all told [1] |\n"
        f"| {DOCUMENTS[1].path} | not found |\n\nTogether: 48.2 million.\n"
    ),
    citations=CITATIONS[:1],
    claims=(),
    unverified=(),
    thinking="",
    value={"template": "compare", "columns": ["Document"], "rows": []},
)
VALUE = {
    "title": "The crossing",
    "years": [2015, 2017],
    "costs": [
        {"what": "bridge", "crowns": 48.2},
        {"what": "quay", "crowns": None, "note": {"from": "minutes"}},
    ],
}
STRUCTURED = replace(
    ANSWER, text=json.dumps(VALUE), value=VALUE, claims=(), unverified=(), thinking=""
)
