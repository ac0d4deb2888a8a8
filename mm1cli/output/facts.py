"""A repository's facts for people: what it is made of, where it begins, what is largest in it."""

from collections.abc import Sequence

from mm1cli.code import Facts, FileFacts, Mark
from mm1cli.output.text import (
    Channel,
    Style,
    cell_width,
    elide_middle,
    pad,
    safe_line,
    wrap,
    write_hanging,
)

_MOST = 10  # rows of a list; `--json` has them all
_WIDEST_CELL = 60  # in a pipe; a longer one shifts its own row only
_NARROWEST_CELL = 12

_Row = tuple[str, ...]


def write_facts(facts: Facts, channel: Channel) -> None:
    """Tables of languages, entry points and the largest functions; then what is not plain source,
    by name and reason. Ends with totals that add up."""
    _write_table(
        ("language", "files", "lines", "bytes"),
        [
            (t.language, f"{t.num_files:,}", f"{t.num_lines:,}", f"{t.num_bytes:,}")
            for t in facts.languages
        ],
        channel,
    )
    _write_list(
        ("entry point", "kind", "name"),
        [(f"{e.path}:{e.line}", e.kind, e.name) for e in facts.entry_points],
        channel,
    )
    _write_list(
        ("largest functions", "lines", "name"),
        [
            (f"{d.path}:{d.first}-{d.last}", f"{d.num_lines:,}", d.qualified_name)
            for d in facts.largest_functions
        ],
        channel,
    )
    _write_list(
        ("most imported", "by files"),
        [(path, f"{count:,}") for path, count in facts.most_used],
        channel,
    )
    for mark in Mark:
        if mark is not Mark.TEST:
            _write_names(mark, facts.marked(mark), channel)
    for cycle in facts.graph.cycles():
        write_hanging(f"import cycle: {_names(cycle)}", channel, Style.PLAIN)
    if facts.submodules:
        write_hanging(f"submodules: {_names(facts.submodules)}", channel, Style.PLAIN)
    for file in facts.unparsed:
        text = f"! not parsed: {safe_line(file.path)} ({safe_line(file.unparsed)})"
        write_hanging(text, channel, Style.WARNING)
    _write_totals(facts, channel)


def _write_list(titles: _Row, rows: Sequence[_Row], channel: Channel) -> None:
    if not rows:
        return
    channel.write("\n")
    _write_table(titles, rows[:_MOST], channel)
    if (more := len(rows) - _MOST) > 0:
        channel.write(f"and {more:,} more\n", Style.DIM)


def _write_table(titles: _Row, rows: Sequence[_Row], channel: Channel) -> None:
    """The first column gives way where a terminal is too narrow; numbers stand to the right."""
    if not rows:
        return
    cells = [tuple(map(safe_line, row)) for row in rows]
    widths = [max(map(cell_width, column)) for column in zip(titles, *cells, strict=True)]
    limit = _WIDEST_CELL
    if channel.is_terminal:
        limit = max(channel.columns - sum(widths[1:]) - 2 * len(widths[1:]), _NARROWEST_CELL)
    widths[0] = min(widths[0], limit)

    are_numbers = [cell[:1].isdigit() for cell in cells[0]]

    def line(row: _Row) -> str:
        first = elide_middle(row[0], limit) if channel.is_terminal else row[0]
        rest = (
            f"{cell:>{width}}" if is_number else pad(cell, width)
            for cell, width, is_number in zip(row, widths, are_numbers, strict=True)
        )
        return "  ".join((pad(first, widths[0]), *list(rest)[1:])).rstrip() + "\n"

    channel.write(line(titles), Style.DIM)
    for row in cells:
        channel.write(line(row))


def _write_names(mark: Mark, files: Sequence[FileFacts], channel: Channel) -> None:
    if files:
        names = _names([file.path for file in files])
        write_hanging(f"{mark}: {names}", channel, Style.PLAIN)


def _names(paths: Sequence[str]) -> str:
    more = len(paths) - _MOST
    shown = ", ".join(map(safe_line, paths[:_MOST]))
    return f"{shown} and {more:,} more" if more > 0 else shown


def _write_totals(facts: Facts, channel: Channel) -> None:
    code = [file for file in facts.files if file.is_code]
    counts = ", ".join(f"{count:,} {status}" for status, count in facts.import_counts.items())
    num_other = len(facts.files) - len(code)
    text = (
        f"{len(facts.files):,} files = {len(code):,} source + {num_other:,} other;"
        f" {len(facts.definitions):,} definitions; imports: {counts}"
    )
    channel.write("\n")
    for part in wrap(text, channel.columns) if channel.is_terminal else [text]:
        channel.write(f"{part}\n", Style.BOLD)
