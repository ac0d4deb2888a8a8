"""A repository's facts for people: what it is made of, where it begins, what is largest in it."""

from collections.abc import Iterator, Sequence

from mm1cli.code import Mark, RepoIndex
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

MOST = 10  # rows of a list; `--json` has them all
_WIDEST_CELL = 60  # in a pipe; a longer one shifts its own row only
_NARROWEST_CELL = 12

Row = tuple[str, ...]


def write_facts(facts: RepoIndex, channel: Channel) -> None:
    """Tables of languages, entry points and the largest functions; then what is not plain source,
    by name and reason. Ends with totals that add up."""
    (titles, languages), *others = tables(facts)
    _write_table(titles, languages, channel)
    for titles, rows in others:
        _write_list(titles, rows, channel)
    for what, names in groups(facts):
        write_hanging(f"{what}: {_names(names)}", channel, Style.PLAIN)
    for file in facts.unparsed:
        text = f"! not parsed: {safe_line(file.path)} ({safe_line(file.unparsed)})"
        write_hanging(text, channel, Style.WARNING)
    channel.write("\n")
    text = totals(facts)
    for part in wrap(text, channel.columns) if channel.is_terminal else [text]:
        channel.write(f"{part}\n", Style.BOLD)


def tables(facts: RepoIndex) -> Iterator[tuple[Row, list[Row]]]:
    """Titles and all rows; the first is of languages. A column of numbers begins with a digit in
    each row."""
    yield (
        ("language", "files", "lines", "bytes"),
        [
            (t.language, f"{t.num_files:,}", f"{t.num_lines:,}", f"{t.num_bytes:,}")
            for t in facts.languages
        ],
    )
    yield (
        ("entry point", "kind", "name"),
        [(f"{e.path}:{e.line}", e.kind, e.name) for e in facts.entry_points],
    )
    yield (
        ("largest functions", "lines", "name"),
        [
            (f"{d.path}:{d.first}-{d.last}", f"{d.num_lines:,}", d.qualified_name)
            for d in facts.largest_functions
        ],
    )
    yield (
        ("most imported", "by files"),
        [(path, f"{count:,}") for path, count in facts.most_used],
    )


def groups(facts: RepoIndex) -> Iterator[tuple[str, Sequence[str]]]:
    """What is not plain source, or goes in a circle, or lies elsewhere: (what, paths)."""
    for mark in Mark:
        files = facts.marked(mark)
        if files and mark is not Mark.TEST:
            yield mark.value, [file.path for file in files]
    for cycle in facts.graph.cycles():
        yield "import cycle", cycle
    if facts.submodules:
        yield "submodules", facts.submodules


def totals(facts: RepoIndex) -> str:
    code = [file for file in facts.files if file.is_code]
    counts = ", ".join(f"{count:,} {status}" for status, count in facts.import_counts.items())
    num_other = len(facts.files) - len(code)
    return (
        f"{len(facts.files):,} files = {len(code):,} source + {num_other:,} other;"
        f" {len(facts.definitions):,} definitions; imports: {counts}"
    )


def _write_list(titles: Row, rows: Sequence[Row], channel: Channel) -> None:
    if not rows:
        return
    channel.write("\n")
    _write_table(titles, rows[:MOST], channel)
    if (more := len(rows) - MOST) > 0:
        channel.write(f"and {more:,} more\n", Style.DIM)


def _write_table(titles: Row, rows: Sequence[Row], channel: Channel) -> None:
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

    def line(row: Row) -> str:
        first = elide_middle(row[0], limit) if channel.is_terminal else row[0]
        rest = (
            f"{cell:>{width}}" if is_number else pad(cell, width)
            for cell, width, is_number in zip(row, widths, are_numbers, strict=True)
        )
        return "  ".join((pad(first, widths[0]), *list(rest)[1:])).rstrip() + "\n"

    channel.write(line(titles), Style.DIM)
    for row in cells:
        channel.write(line(row))


def _names(paths: Sequence[str]) -> str:
    more = len(paths) - MOST
    shown = ", ".join(map(safe_line, paths[:MOST]))
    return f"{shown} and {more:,} more" if more > 0 else shown
