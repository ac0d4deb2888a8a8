"""How often a model calls the right tool, and makes something of it.

    python -m benchmarks.tools --model small [--tool calc] [--folder reports] [--task 1]

Twelve questions about leases, minutes and reports of tests/evidence: ten that a tool answers, two
that none is needed for. `called`: some tool; `right`: the right one, and what it told holds what
was to be found; `said`: the answer holds it, too. Of the last two a call is a mistake. What was
called stands under each question.
"""

import argparse
import json
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from mm1cli.answering.question import Question
from mm1cli.commands.opened import open_paths
from mm1cli.commands.reading import Sources
from mm1cli.settings import Settings
from mm1cli.sink import Event, Sink, ToolEvent
from mm1cli.tools.toolbox import NAMES, ToolOptions

DOCUMENTS = Path(__file__).parents[1] / "tests" / "evidence" / "documents"
FOLDERS = ("leases", "minutes", "reports", "data")


@dataclass(frozen=True, slots=True)
class Task:
    """`found` must stand in what `tool` tells, `said` (if it is another) in the answer."""

    question: str
    tool: str
    found: str
    said: str = ""


TASKS = (
    Task("How many more passengers were carried in 2022 than in 2021?", "calc", r"\b54\b"),
    Task("By how much did income in 2022 exceed spending?", "calc", r"\b8000\b", r"8,?000"),
    Task("What is a quarter of the yearly rent of Unit 12?", "calc", r"\b4635\b", r"4,?635"),
    Task(
        "How many days lie between 19 August 2020, when the lease of Unit 12 was dated, and "
        "29 September 2020, when its term begins?",
        "calc",
        r"\b41\b",
    ),
    Task(
        "By what percentage is the tender of Halden & Roe higher than that of Kestrel Civil?",
        "calc",
        r"\b9\.4\d*|0\.094\d*",
        r"9\.4",
    ),
    Task("Which leases never contain the word dog?", "count", r"Never in: .*unit-15", r"15"),
    Task("How often does the word flood stand in the documents?", "count", r"\d+ in all"),
    Task("In which documents does the word scaffolding stand?", "count|search", r"2023-04"),
    Task(
        "Search the documents for steel cabinet and tell what is charged in it.",
        "search",
        r"Batteries",
        r"[Bb]atteries",
    ),
    Task("Open data/fleet.csv and tell who drives FV17 KLM.", "open", r"Birkett", r"Birkett"),
    Task("Who will become operations manager?", "", "", r"Whitcombe"),
    Task("What may the premises of Unit 12 be used for?", "", "", r"bicycles"),
)


@dataclass(slots=True)
class Kept(Sink):
    uses: list[ToolEvent] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        if isinstance(event, ToolEvent):
            self.uses.append(event)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="small")
    parser.add_argument("--tool", action="append", choices=NAMES)
    parser.add_argument("--folder", action="append", choices=FOLDERS)
    parser.add_argument("--task", action="append", type=int, help="by number, from 1")
    options = parser.parse_args()
    settings = Settings(model=options.model, max_tokens=96, write=True)
    kept = Kept()
    sources = Sources([str(DOCUMENTS / name) for name in options.folder or FOLDERS])
    opened = open_paths("analyze", sources, settings, kept)
    tools = ToolOptions(names=tuple(options.tool or NAMES))
    answerer = opened.answerer(kept, tools=tools)
    rows = []
    for task in [TASKS[number - 1] for number in options.task or range(1, len(TASKS) + 1)]:
        kept.uses.clear()
        began = time.perf_counter()
        answer = answerer.answer(Question(task.question))
        told = [use for use in kept.uses if re.fullmatch(task.tool or "-", use.name)]
        row = {
            "question": task.question,
            "called": bool(kept.uses),
            "right": any(re.search(task.found, use.result, re.DOTALL) for use in told),
            "said": bool(re.search(task.said or task.found, answer.text)),
            "seconds": round(time.perf_counter() - began, 1),
            "unverified": answer.unverified,
            "answer": answer.text,
        }
        rows.append({**row, "needs": task.tool})
        marks = " ".join(name for name in ("called", "right", "said") if row[name])
        print(f"{task.question}\n  [{marks}] {' '.join(answer.text.split())!r}")
        for use in kept.uses:
            error = " (refused)" if use.is_error else ""
            arguments = json.dumps(dict(use.arguments), ensure_ascii=False)
            print(f"    {use.name} {arguments}{error}: {' '.join(use.result.split())[:100]}")
        sys.stdout.flush()
    asked = [row for row in rows if row["needs"]]
    plain = [row for row in rows if not row["needs"]]
    counts = {name: sum(bool(row[name]) for row in asked) for name in ("called", "right", "said")}
    counts |= {"of": len(asked), "called_for_nothing": sum(bool(r["called"]) for r in plain)}
    print(counts | {"plain_said": sum(bool(row["said"]) for row in plain), "plain": len(plain)})
    print(json.dumps({"benchmark": "tools", "model": options.model, **counts, "rows": rows}))


if __name__ == "__main__":
    main()
