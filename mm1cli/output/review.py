"""A review for people and as JSON: findings by file, each with its lines marked; then the sums."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from mm1cli.code import as_json as facts_json
from mm1cli.output.code_view import share_words, telling
from mm1cli.output.facts import write_facts
from mm1cli.output.text import Channel, Style, elide_end, safe_line, wrap
from mm1cli.review.finding import Finding, Review, Severity

_STYLES = {
    Severity.CRITICAL: Style.ERROR,
    Severity.HIGH: Style.ERROR,
    Severity.MEDIUM: Style.WARNING,
    Severity.LOW: Style.DIM,
}
_SHOWN_CHARS = 400  # of a line of code
_NAMES_SHOWN = 5
_CODE_COLUMN = 6
_FEWEST_COLUMNS = 20


def as_json(review: Review) -> dict[str, object]:
    """`findings` is always a list; `findings_written` says whether the model was asked at all."""
    return {
        "findings": [finding.as_json() for finding in review.findings],
        "findings_written": review.is_written,
        "totals": {
            "shown": len(review.findings),
            "hidden_by_baseline": len(review.hidden),
            "not_shown": len(review.below),
            "dropped": {why.value: count for why, count in sorted(review.rejected.items())},
        },
        "plan": review.plan,
        "is_change": review.is_change,
        "read": [
            {"path": p.path, "first": p.first, "last": p.last, "tokens": p.tokens}
            for p in review.calls
        ],
        "not_reviewed": [{"path": path, "why": why} for path, why in review.not_reviewed],
        "surprise": None if review.surprise is None else _surprise_json(review),
        "facts": None if review.facts is None else facts_json(review.facts),
    }


def _surprise_json(review: Review) -> dict[str, object]:
    assert review.surprise is not None
    lines = [
        {
            "path": line.path,
            "line": line.line,
            "score": round(line.score, 4),
            "rank_share": round(line.rank_share, 6),
            "text": line.text,
            "tokens": [
                {"text": token.text, "column": token.column, "excess": round(token.excess, 4)}
                for token in line.tokens
            ],
        }
        for line in review.surprising
    ]
    return {**review.surprise.as_json(0), "lines": lines}


def write_review(review: Review, channel: Channel) -> None:
    if review.facts is not None and review.reports_facts:
        write_facts(review.facts, channel)
        channel.write("\n")
    if review.surprise is not None:
        _write_surprise(review, channel)
    ordered = sorted(review.findings, key=lambda f: (f.path, f.first, f.order))
    for path, findings in groupby(ordered, key=lambda f: f.path):
        channel.write(f"{safe_line(path)}\n", Style.BOLD)
        for finding in findings:
            _write_finding(finding, channel)
    for sentence in totals(review):
        _write_wrapped(sentence, channel, Style.BOLD)


def totals(review: Review) -> Iterator[str]:
    """Sentences that add up."""
    if review.is_written:
        severities = [f"{count:,} {name}" for name, count in review.counts.items() if count]
        parts = f" = {' + '.join(severities)}" if severities else ""
        more = [
            f"{len(found):,} {words}"
            for found, words in (
                (review.hidden, "known by the baseline"),
                (review.below, "below --severity or over --max-findings"),
            )
            if found
        ]
        yield "; ".join([f"{_count(len(review.findings), 'finding')}{parts}", *more])
        if review.rejected:
            reasons = [f"{count:,} {why}" for why, count in sorted(review.rejected.items())]
            total = sum(review.rejected.values())
            yield f"{total:,} dropped, as the program could not confirm them: {', '.join(reasons)}"
        if review.calls:
            yield _read(review)
    if review.not_reviewed:
        whys = sorted({why for _, why in review.not_reviewed})
        counts = [f"{sum(w == why for _, w in review.not_reviewed):,} {why}" for why in whys]
        yield f"{len(review.not_reviewed):,} not reviewed: {safe_line(', '.join(counts))}"


def _read(review: Review) -> str:
    files = len({one.path for one in review.calls})
    how = (
        "with the whole repository in context"
        if review.plan == "whole"
        else "behind the repository's map"
    )
    chunks, tokens = len(review.calls), sum(one.tokens for one in review.calls)
    return (
        f"reviewed {_count(files, 'file')} in {_count(chunks, 'chunk')}, {how}; "
        f"{tokens:,} tokens read for them"
    )


def _write_finding(finding: Finding, channel: Channel) -> None:
    lines = _lines(finding)
    head = f"{finding.severity} · {finding.category} · {lines}: "
    head = head.replace("·", channel.glyph("·", "|"))
    channel.write(f"  {head}", _STYLES[finding.severity])
    channel.write(f"{safe_line(finding.title)}\n", Style.BOLD)
    bar = channel.glyph("│", "|")
    width = len(str(finding.excerpt[-1][0])) if finding.excerpt else 1
    for number, text in finding.excerpt:
        is_marked = finding.first <= number <= finding.last
        mark = ">" if is_marked else " "
        shown = _fitted(safe_line(text.expandtabs(4)), channel, width + 7)
        style = Style.MARK if is_marked else Style.DIM
        channel.write(f"  {mark} {number:>{width}} {bar} {shown}".rstrip() + "\n", style)
    if finding.excerpt and finding.excerpt[-1][0] < finding.last:
        channel.write(f"    … to line {finding.last:,}\n", Style.DIM)
    _write_wrapped(safe_line(finding.explanation), channel, Style.PLAIN, indent="    ")
    if finding.patch:
        channel.write("    suggested:\n", Style.DIM)
        for line in finding.patch.splitlines()[2:]:
            channel.write(f"    {_fitted(safe_line(line.expandtabs(4)), channel, 4)}\n", Style.DIM)
    channel.write("\n")


def _write_surprise(review: Review, channel: Channel) -> None:
    surprise = review.surprise
    assert surprise is not None
    of = f"{len(surprise):,} lines ranked"
    _write_wrapped(f"improbable lines, the most improbable first ({of})", channel, Style.BOLD)
    for line in review.surprising:
        tokens = ", ".join(f"‹{text}›" for text in telling(line))
        place = f"{safe_line(line.path)}:{line.line}"
        share = f"{share_words(line.rank_share):<9}"
        channel.write(f"  {share}  {place}  {safe_line(tokens)}\n", Style.PLAIN)
        code = _fitted(safe_line(line.text.strip()), channel, _CODE_COLUMN, telling(line)[:1])
        channel.write(f"{' ' * _CODE_COLUMN}{code}\n", Style.DIM)
    for path, why in surprise.left_out[:_NAMES_SHOWN]:
        channel.write(f"  not ranked: {safe_line(path)} ({safe_line(why)})\n", Style.DIM)
    if (more := len(surprise.left_out) - _NAMES_SHOWN) > 0:
        channel.write(f"  and {more:,} more not ranked; --json has them\n", Style.DIM)
    channel.write("\n")


def _fitted(code: str, channel: Channel, indent: int, about: Sequence[str] = ()) -> str:
    """One line of code, cut where a terminal ends; what it is `about` is in what is left."""
    room = _SHOWN_CHARS
    if channel.is_terminal:
        room = max(channel.columns - indent, _FEWEST_COLUMNS)
    start = max((code.find(safe_line(text)) + len(text) - room + 2 for text in about), default=0)
    if start > 0:
        code = f"…{code[start:]}"
    return elide_end(code, room)


def _write_wrapped(text: str, channel: Channel, style: Style, indent: str = "") -> None:
    width = channel.columns - len(indent)
    for line in wrap(text, width) if channel.is_terminal else [text]:
        channel.write(f"{indent}{line}\n", style)


def _lines(finding: Finding) -> str:
    if finding.first == finding.last:
        return f"line {finding.first:,}"
    return f"lines {finding.first:,}-{finding.last:,}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
