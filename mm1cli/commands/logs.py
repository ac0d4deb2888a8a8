"""`mm1 logs`: the answers that were given."""

import json
import os
import time
from collections.abc import Iterable
from typing import TextIO

from mm1cli.answer_log import AnswerLog, Entry
from mm1cli.output.text import Channel, Style, cell_width, elide_end, safe, safe_line, wrap


def show_list(stdout: TextIO, *, most: int, as_json: bool) -> None:
    _write_list(AnswerLog().newest(most), stdout, as_json=as_json)


def search(words: str, stdout: TextIO, *, most: int, as_json: bool) -> None:
    _write_list(AnswerLog().search(words, most), stdout, as_json=as_json)


def show(number: int, stdout: TextIO, *, as_json: bool) -> None:
    """One answer with its sources. Raises InputError if there is none of that number."""
    entry = AnswerLog().get(number)
    if as_json:
        stdout.write(json.dumps(entry.as_json()) + "\n")
        return
    channel = Channel.from_environment(stdout, os.environ)
    told = entry.told
    channel.write(f"{safe_line(' '.join(entry.question.split()))}\n", Style.BOLD)
    channel.write(f"{safe(entry.answer)}\n\n")
    for one in told["citations"]:
        channel.write(f"[{one['number']}] {safe_line(one['path'])}, ")
        channel.write(f"{safe_line(one['locator']['display'])}\n")
        for line in wrap(safe(one["text"]), channel.columns - 6):
            channel.write(f"    {channel.glyph('│', '|')} {line}\n")
    facts = (_when(entry), entry.command, entry.model, f"seed {entry.seed}", entry.corpus[:12])
    channel.write(f"\n{' · '.join(map(safe_line, facts))}\n", Style.DIM)


def export(stdout: TextIO) -> None:
    """All of them, one JSON object a line, the oldest first."""
    for entry in AnswerLog().all():
        stdout.write(json.dumps(entry.as_json()) + "\n")


def _write_list(entries: Iterable[Entry], stdout: TextIO, *, as_json: bool) -> None:
    found = list(entries)
    if as_json:
        stdout.write(json.dumps({"answers": [entry.as_json() for entry in found]}) + "\n")
        return
    channel = Channel.from_environment(stdout, os.environ)
    for entry in found:
        head = f"{entry.number:>5}  {_when(entry)}  {safe_line(entry.model)}"
        question = safe_line(" ".join(entry.question.split()))
        room = channel.columns - cell_width(head) - 2
        if not channel.is_terminal:
            channel.write(f"{head}  {question}\n")
        elif room >= 20:
            channel.write(f"{head}  {elide_end(question, room)}\n")
        else:
            channel.write(f"{elide_end(head, channel.columns)}\n")
            channel.write(f"       {elide_end(question, max(channel.columns - 7, 1))}\n")
    if not found:
        channel.write("no answers in the log\n")


def _when(entry: Entry) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.made_s))
