"""Red here means that another program misreads a review, or obeys the code that was reviewed."""

import io
import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest
from corpora import document
from hypothesis import given
from hypothesis import strategies as st
from reviewing import raw
from sample_review import surprise

from mm1cli.output.github import annotations
from mm1cli.output.github_escape import harmless
from mm1cli.output.markdown import markdown
from mm1cli.output.review import as_json, write_review
from mm1cli.output.sarif import sarif, sarif_text
from mm1cli.output.text import Channel
from mm1cli.review.checks import checked
from mm1cli.review.finding import Category, Rejection, Review, Severity
from mm1cli.review.locate import FileText

SCHEMA = json.loads((Path(__file__).parent / "sarif-2.1.0-rtm.5.json").read_text())
VALIDATOR = jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
HOSTILE = [
    "::error file=x::forged",
    "\n::error file=x::forged",
    "\r\n::set-output name=a::b",
    "##[error]forged",
    "%0A::error::forged",
    "a,line=1::forged",
    "\x1b[2J\x1b]0;title\x07",
    "\u202egnp.exe",
    "\u2028::error::forged",
    "</script><b>x</b>",
    "```\n# forged\n",
    "[click](http://example.com) {0} @team",
    "\udcff lone",
    "\0",
]
words = st.lists(st.sampled_from([*HOSTILE, "plain words", " "]), min_size=1, max_size=3).map(
    "".join
)


def review(path: str, code: str, title: str, explanation: str, fix: str | None) -> Review:
    """Two findings, one of them hidden, on the first line of `code` that has something."""
    text = FileText(document(f"before\n{code}\nquoted_line = 1\nafter\n"))
    line = text.lines.index("quoted_line = 1") + 1
    changes = {"title": title, "explanation": explanation, "fix": fix, "category": "security"}
    one = checked(raw("quoted_line = 1", line, **changes), path, text, None)
    two = checked(raw("after", line + 1, **changes), path, text, None)
    return Review(
        None,
        is_written=True,
        is_change=False,
        plan="retrieval",
        findings=(one,),
        hidden=(two,),
        rejected=Counter({Rejection.NOT_THERE: 2}),
        not_reviewed=((path, "generated"),),
    )


reviews = st.builds(review, words, words, words, words, words | st.none())


@given(reviews)
def test_sarif_is_valid_and_leads_to_the_code(told: Review):
    """Red: code scanning refuses the upload, or marks other lines."""
    log = json.loads(sarif_text(told, "model"))
    VALIDATOR.validate(log)
    (run,) = log["runs"]
    shown, known = run["results"]
    finding = told.findings[0]
    place = shown["locations"][0]["physicalLocation"]
    uri = place["artifactLocation"]["uri"]
    assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", uri)
    assert not re.match(r"[a-z]+:|//", uri)
    assert unquote(uri, errors="surrogateescape").removeprefix(".") in (
        finding.path,
        f"/{finding.path}",
        finding.path.removeprefix("."),
    )
    region = place["region"]
    assert (region["startLine"], region["endLine"]) == (finding.first, finding.last)
    assert region["endColumn"] - region["startColumn"] == len("quoted_line = 1")
    assert region["snippet"]["text"] == "quoted_line = 1"
    assert shown["partialFingerprints"] == {"mm1/v1": finding.fingerprint}
    assert run["tool"]["driver"]["rules"][shown["ruleIndex"]]["id"] == shown["ruleId"]
    assert float(shown["properties"]["security-severity"]) > 7
    assert known["suppressions"] and "suppressions" not in shown
    assert sarif_text(told, "model").isascii() and "##[" not in sarif_text(told, "model")
    if finding.fix is not None:
        (change,) = shown["fixes"][0]["artifactChanges"]
        assert change["replacements"][0]["deletedRegion"]["startLine"] == finding.first


def test_sarif_says_when_nothing_was_written():
    """Red: a run of a small model reads as a clean bill."""
    log = sarif(Review(None, is_written=False, is_change=False, plan="surprise"), "mini")
    VALIDATOR.validate(log)
    notes = log["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert any("too small" in note["message"]["text"] for note in notes)


@given(reviews)
def test_annotations_are_one_line_each_and_only_ours(told: Review):
    """Red: a file, or what a model says of it, speaks to the workflow's runner in our name."""
    lines = annotations(told).split("\n")
    assert lines.pop() == "" and len(lines) == len(told.findings) + 1
    assert not re.search("[\r\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", "".join(lines))
    command, notice = lines
    found = re.fullmatch(
        r"::(\w+) file=([^,:]*),line=(\d+),endLine=(\d+),title=([^,:]*)::.*", command
    )
    assert found and found[1] == "error"
    assert int(found[3]) == told.findings[0].first
    assert notice.startswith("::notice title=mm1 review::")


@given(words)
def test_no_other_text_is_a_command_to_the_runner(text: str):
    """Red: a file name in a note forges an annotation."""
    for line in harmless(text).split("\n"):
        assert not line.lstrip().startswith("::") and "##[" not in line


@given(reviews)
def test_a_terminal_gets_no_control_characters(told: Review):
    """Red: reviewed code drives the terminal of whoever reviews it."""
    stream = io.StringIO()
    write_review(told, Channel(stream))
    written = stream.getvalue()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", written)
    assert re.search(r"^ *> +\d+ │ quoted_line = 1$", written, re.MULTILINE)
    assert "1 finding = 1 high; 1 known by the baseline" in written
    assert "2 dropped" in written and "1 not reviewed: 1 generated" in written


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_code_fits_a_narrow_terminal_and_shows_what_it_is_about(columns: int):
    """Red: a terminal breaks code in the middle of words, or the odd token is cut off."""
    code = f"value = {' + '.join(f'part_{n}' for n in range(30))} ++ tail({', '.join('abcdef')})"
    found = surprise((document(code, "a.py", "python"),), {"a.py": "tail"})
    told = Review(
        None,
        is_written=True,
        is_change=False,
        plan="whole",
        findings=(checked(raw("part_2 + part_3", 1), "a.py", FileText(document(code)), None),),
        surprise=found,
        surprising=tuple(found.top(1)),
    )
    stream = io.StringIO()
    write_review(told, Channel(stream, is_terminal=True, width=columns))
    lines = stream.getvalue().splitlines()
    assert all(len(line) <= columns for line in lines), lines
    assert any("++ tail" in line for line in lines)
    assert any(line.startswith("  > 1 │ value = part_0") for line in lines)


@given(reviews)
def test_markdown_has_no_structure_but_ours(told: Review):
    """Red: code or a model's words forge headings, links, mentions or HTML in a comment."""
    text = markdown(told)
    outside, fence = [], ""
    for line in text.split("\n"):
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line.rstrip("dif")
        else:
            outside.append(line)
    assert not fence
    assert [line for line in outside if line.startswith("#")] == [
        "# Review",
        *(line for line in outside if line.startswith("## ")),
    ]
    assert sum(line.startswith("## ") for line in outside) == 1
    assert not re.search(r"(?<!\\)[<>@\[\]]", "\n".join(outside))


@given(reviews)
def test_json_has_every_field_and_the_sums(told: Review):
    """Red: a pipeline on --json loses findings."""
    found = as_json(told)
    (one,) = found["findings"]
    assert one["quote"] == "quoted_line = 1" and one["severity"] is Severity.HIGH
    assert one["category"] is Category.SECURITY
    assert found["totals"] == {
        "shown": 1,
        "hidden_by_baseline": 1,
        "not_shown": 0,
        "dropped": {"quote not in the file": 2},
    }


@pytest.mark.parametrize("severity", Severity)
def test_every_severity_has_its_level(severity: Severity):
    """Red: a critical finding is shown as a remark."""
    text = FileText(document("x = 1\n"))
    found = checked(raw("x = 1", 1, severity=severity.value), "a.py", text, None)
    told = Review(None, is_written=True, is_change=False, plan="whole", findings=(found,))
    levels = {"low": "note", "medium": "warning", "high": "error", "critical": "error"}
    assert sarif(told, "m")["runs"][0]["results"][0]["level"] == levels[severity]
    commands = levels | {"low": "notice"}
    assert annotations(told).startswith(f"::{commands[severity]} ")
