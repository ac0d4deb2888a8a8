"""quality.md and quality.json in one folder: all tables of one run and what they rest on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.table import Table, markdown_grid


@dataclass(frozen=True, slots=True)
class Section:
    command: str
    table: Table


@dataclass(frozen=True, slots=True)
class Report:
    """`date` is ISO 8601; `seconds` the last run's alone, without what was known before."""

    models: Sequence[Mapping[str, object]]
    machine: Mapping[str, object]
    date: str
    command: str
    seconds: float
    sections: Sequence[Section]
    remark: str = ""

    def as_json(self) -> dict[str, object]:
        return {
            "benchmark": "quality",
            "models": list(self.models),
            "machine": dict(self.machine),
            "date": self.date,
            "command": self.command,
            "remark": self.remark,
            "seconds": round(self.seconds, 1),
            "tables": [
                {"command": section.command, **section.table.as_json()} for section in self.sections
            ],
        }

    def as_markdown(self) -> str:
        lines = [["model", "trained for, tokens", "fingerprint"]]
        for model in self.models:
            lines.append(
                [str(model["name"]), f"{model['trained_tokens']:,}", f"{model['fingerprint']}"]
            )
        facts = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        parts = [
            "# Quality",
            "As measured, good or bad. Written by the command below; do not edit by hand.",
            f"    {self.command}",
            f"{self.date}; {facts}. {self.remark}".strip(),
            "Results that earlier runs of the same commands kept are among them.",
            "Intervals in brackets are 95 %: Wilson's for shares and scores, bootstrap for AUROC "
            "and a needle's nats, 1.96 standard errors for perplexity. `of 4`: so many items; few "
            "make wide intervals, so read the interval, not the number. A dash: not measured, or "
            "without meaning.",
            markdown_grid(lines),
        ]
        for section in self.sections:
            parts += [section.table.as_markdown(), f"    {section.command}"]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "quality.md").write_text(self.as_markdown(), encoding="utf-8")
        text = json.dumps(self.as_json(), indent=1, ensure_ascii=False)
        (folder / "quality.json").write_text(text + "\n", encoding="utf-8")
