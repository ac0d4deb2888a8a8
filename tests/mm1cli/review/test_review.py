"""`mm1 review` from the outside."""

import json
import re
from pathlib import Path

import pytest
from commandline import Ran, write_files
from reviewing import git, raw

SMALL = ("--threads", 1)
BUG = "    return sum(values) / (len(values) - 1)"


@pytest.fixture
def review(mm1, llama, repository):
    """`mm1 review ARGS` on a random checkpoint, which is small, so findings are forced."""

    def run(*arguments: object, stdin: bytes | None = None, findings: bool = True) -> Ran:
        forced = ("--findings",) if findings else ()
        return mm1("review", *arguments, *forced, "--model", llama, *SMALL, stdin=stdin)

    return run


@pytest.fixture
def changed(repository) -> bytes:
    """The diff of a change that divides by the wrong number."""
    text = Path("util.py").read_text()
    Path("util.py").write_text(text.replace("    return sum(values) / len(values)", BUG))
    return git("diff").encode()


def found(path: str, first: int, last: int) -> list[dict]:
    """What a model that sees the mistake writes, among two things it should not have."""
    if path != "util.py" or not first <= 12 <= last:
        return []
    mean = raw("return sum(values) / (len(values) - 1)", 12, fix="return sum(values) / len(values)")
    return [mean, raw("if value < low:", 6), raw("no such code", 3)]


def test_any_words_of_a_model_become_a_review(review):
    """Red: what a model writes does not parse, or what it invents is shown."""
    ran = review("--json", "--max-tokens", 240)
    assert ran.code == 0, ran.err
    told = ran.json
    assert told["command"] == "review" and told["findings_written"] is True
    assert {part["path"] for part in told["read"]} == {"util.py", "main.py"}
    assert told["plan"] == "whole"
    lines = {path: Path(path).read_text().split("\n") for path in ("util.py", "main.py")}
    for finding in told["findings"]:
        here = lines[finding["path"]][finding["first_line"] - 1 : finding["last_line"]]
        assert finding["quote"] in "\n".join(here)
    assert told["facts"]["imports"]["graph"] == {"main.py": ["util.py"]}
    assert told["totals"]["shown"] == len(told["findings"])


def test_definitions_are_read_before_their_uses(review, script):
    """Red: a model meets names before it has seen what they are."""
    prompts = script(lambda *_: [])
    assert review().code == 0
    for prompt in prompts:
        assert prompt.index("Document: util.py") < prompt.index("Document: main.py")


def test_findings_are_checked_and_dropped_ones_counted(review, script):
    """Red: a quote that is not in the file is shown, or lost without a word."""
    script(lambda path, *_: [raw("return low", 99), raw("return", 99), raw("nope nope", 1)])
    told = review("--json", "--paths", "util.py").json
    (one,) = told["findings"]
    assert (one["path"], one["first_line"], one["last_line"]) == ("util.py", 7, 7)
    dropped = told["totals"]["dropped"]
    assert sum(dropped.values()) == 2 and dropped["quote not in the file"] == 1
    assert [part["path"] for part in told["read"]] == ["util.py"]


def test_a_change_is_reviewed_with_the_repository_around_it(review, script, changed):
    """Red: findings are about code the change does not touch, or the change is not read."""
    prompts = script(found)
    for arguments, stdin in ((("-",), changed), (("--diff",), None), (("--diff", "main"), None)):
        told = review(*arguments, "--json", stdin=stdin).json
        (one,) = told["findings"]
        assert (one["path"], one["first_line"]) == ("util.py", 12)
        assert told["totals"]["dropped"] == {"outside the change": 1, "quote not in the file": 1}
        assert one["patch"].endswith(f"-{BUG}\n+    return sum(values) / len(values)\n")
    for prompt in prompts:
        assert "Document: main.py" in prompt, "the repository is context"
        assert f"   12+|{BUG}" in prompt and "     -|    return sum(values) / len" in prompt


def test_a_diff_may_be_of_a_folder_or_above_it(review, script, changed, monkeypatch):
    """Red: context named on the command line loses the files of the diff."""
    script(lambda *_: [])
    write_files(Path(), {"src/util.py": "a = 1\n"})
    git("add", ".")
    git("commit", "-qm", "src")
    write_files(Path(), {"src/util.py": "a = 2\n"})
    whole = git("diff", "--", "src").encode()
    inside = git("diff", "--relative=src").encode()
    for diff in (whole, inside):
        told = review("-", "src", "--json", stdin=diff).json
        assert [one["path"] for one in told["read"]] == ["src/util.py"]


def test_a_change_larger_than_the_context_is_refused_with_the_sum(review, script, changed):
    """Red: part of a change is reviewed as if it were the whole."""
    script(lambda *_: [])
    Path("big.py").write_text("".join(f"value_{n} = {n}\n" for n in range(4000)))
    git("add", ".")
    ran = review("--diff", "--json")
    assert ran.code == 4
    told = re.search(
        r"the change has ([\d,]+) tokens; with ([\d,]+) of prompt, ([\d,]+) of code shown again and"
        r" ([\d,]+) of answer that is ([\d,]+), more than the context of 16,384",
        ran.json["error"]["message"],
    )
    *parts, total = (int(number.replace(",", "")) for number in told.groups())
    assert sum(parts) == total > 16_384
    assert review("--diff", "--paths", "util.py").code == 0


@pytest.mark.parametrize("arguments", [("-",), ("--diff", "--surprise")])
def test_such_a_change_is_refused_without_findings_too(review, changed, monkeypatch, arguments):
    """Red: a map of half a change is taken for all of it, or refused after minutes of reading."""
    Path("big.py").write_text("".join(f"value_{n} = {n}\n" for n in range(4000)))
    git("add", ".")
    stdin = git("diff", "HEAD").encode() if arguments == ("-",) else None

    def fail(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("mm1cli.commands.backend.open_engine", fail)
    ran = review(*arguments, "--json", stdin=stdin, findings=False)
    assert ran.code == 4
    told = re.search(
        r"the change has big\.py ([\d,]+) \+ util\.py ([\d,]+) = ([\d,]+) tokens, more than the "
        r"context of 16,384; review it in parts",
        ran.json["error"]["message"],
    )
    *parts, total = (int(number.replace(",", "")) for number in told.groups())
    assert sum(parts) == total > 16_384


def test_a_diff_of_another_repository_does_not_pass(review):
    """Red: a pipeline in the wrong folder says that all is well."""
    diff = "--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n"
    ran = review("-", "--json", stdin=diff.encode())
    assert ran.code == 3
    assert "x.c (no such file here)" in ran.json["error"]["message"]


def test_a_report_is_written_beside_any_format_and_before_it_fails(
    review, script, changed, tmp_path
):
    """Red: the page tells less than the terminal, or is missing when a pipeline fails."""
    script(found)
    page = tmp_path / "review.html"
    ran = review("-", "--surprise", "--fail-on", "high", "--report", page, "--json", stdin=changed)
    assert ran.code == 1 and ran.json["findings"]
    html = page.read_text(encoding="utf-8")
    assert "1 finding in a change" in html and "The run did not pass." in html
    assert re.search(r'class="cell level\d"[^>]*>[\d.]+</td><td class="mark">›\+</td>', html)
    assert "2 dropped" in html and "What was read" in html
    ran = review("--report", "/proc/no/page.html", findings=False)
    assert ran.code == 2 and ran.out == ""


def test_what_does_not_fit_is_read_behind_the_map_and_the_run_says_so(review, script):
    """Red: a large repository is cut in silence, or a file is reviewed without its imports."""
    prompts = script(lambda *_: [])
    write_files(Path(), {"large.py": "".join(f"x_{n} = {n}\n" for n in range(3000))})
    ran = review("--paths", "main.py", "--paths", "util.py")
    assert ran.code == 0 and "do not fit" in ran.err and "behind the repository's map" in ran.out
    (prompt,) = (text for text in prompts if "of main.py:" in text)
    assert "Defined in util.py:\ndef clamp(value, low, high):\n" in prompt


def test_a_small_model_ranks_lines_and_says_that_it_writes_nothing(review):
    """Red: remarks of a model that cannot judge code are taken for a review."""
    ran = review(findings=False)
    assert ran.code == 0
    assert "written findings need a model of 1,000,000,000 parameters or more" in ran.err
    assert "improbable lines" in ran.out and "main.py:4  main" not in ran.out
    assert "util.py:4-8" in ran.out, "the facts are shown"
    told = review("--json", findings=False).json
    assert told["findings"] == [] and told["findings_written"] is False
    assert told["surprise"]["lines"] and told["surprise"]["totals"]["files"] == 2
    ran = review("--fail-on", "high", findings=False)
    assert ran.code == 2 and "--findings" in ran.err


def test_surprise_is_told_of_lines_the_change_added(review, changed):
    """Red: the map of a change shows lines that nobody touched."""
    told = review("-", "--json", stdin=changed, findings=False).json
    assert {(one["path"], one["line"]) for one in told["surprise"]["lines"]} == {("util.py", 12)}


def test_surprise_steers_the_findings(review, script):
    """Red: --surprise with --findings computes a map that the model never sees."""
    prompts = script(lambda *_: [])
    assert review("--surprise").code == 0
    assert any("finds improbable here: " in prompt for prompt in prompts)


def test_fail_on_fails_for_new_findings_only(review, script, changed):
    """Red: a pipeline passes what it should stop, or stops for what is settled."""
    script(found)
    ran = review("-", "--fail-on", "high", stdin=changed)
    assert ran.code == 1 and "util.py:12" in ran.err and "internal" not in ran.err
    assert review("-", "--fail-on", "critical", stdin=changed).code == 0
    known = ("--baseline", "b.json", "--fail-on", "low")
    ran = review("-", *known, "--update-baseline", stdin=changed)
    assert ran.code == 0 and json.loads(Path("b.json").read_text())["findings"]
    ran = review("-", *known, stdin=changed)
    assert ran.code == 0 and "1 known by the baseline" in ran.out
    Path("util.py").write_text("# a line more\n\n" + Path("util.py").read_text())
    script(lambda path, first, last: [raw(BUG.strip(), 14)] if path == "util.py" else [])
    ran = review("--diff", *known)
    assert ran.code == 0 and "1 known by the baseline" in ran.out


def test_severity_and_max_findings_show_less_and_say_so(review, script):
    """Red: what is not shown looks as if it were not there."""
    script(
        lambda path, *_: (
            [
                raw("if value < low:", 6, severity="low"),
                raw("return low", 7, severity="critical"),
                raw("return value", 8, severity="medium"),
            ]
            if path == "util.py"
            else []
        )
    )
    told = review("--json", "--severity", "medium").json
    assert [one["severity"] for one in told["findings"]] == ["critical", "medium"]
    assert told["totals"]["not_shown"] == 1
    told = review("--json", "--max-findings", 1).json
    assert [one["severity"] for one in told["findings"]] == ["critical"]
    assert told["totals"]["not_shown"] == 2
    told = review("--json", "--max-findings", 1, "--fail-on", "medium")
    assert told.code == 1, "what is not shown fails, too"


def test_a_category_names_what_the_model_looks_for(review, script):
    """Red: --category changes nothing, or the model may still answer with other categories."""
    prompts = script(lambda *_: [])
    assert review("--category", "security", "--category", "bugs").code == 0
    for prompt in prompts:
        assert "- security: " in prompt and "- docs: " not in prompt
        assert '"category": {"enum": ["security", "bugs"]}' in prompt
    ran = review("--category", "style")
    assert ran.code == 2 and "security, bugs" in ran.err
    ran = review("--focus", "security")
    assert ran.code == 2 and "--category" in ran.err, "its name until now"


def test_what_people_did_not_write_is_not_reviewed(review, script):
    """Red: a team drowns in findings about code that is not theirs."""
    script(lambda *_: [])
    write_files(
        Path(),
        {
            "vendor/lib.py": "x = 1\n",
            "gen_pb2.py": "# Generated by the protocol buffer compiler.  DO NOT EDIT!\ny = 2\n",
            "app.min.js": "var a=1;" * 400,
            "a folder/of mine.py": "z = 3\n",
            "notes.md": "# Notes\n",
            "package-lock.json": "{}\n",
        },
    )
    git("init", "-q", "theirs")
    write_files(Path("theirs"), {"sub.py": "s = 1\n"})
    git("add", ".", cwd="theirs")
    git("commit", "-qm", "one", cwd="theirs")
    git("submodule", "add", "-q", "./theirs", "linked")
    told = review("--json").json
    assert {"util.py", "main.py", "a folder/of mine.py"} <= {one["path"] for one in told["read"]}
    left = {one["path"]: one["why"] for one in told["not_reviewed"]}
    assert left["vendor/lib.py"] == "vendored" and left["gen_pb2.py"] == "generated"
    assert left["notes.md"] == "not source code"
    assert "linked" in told["facts"]["submodules"]
    assert not set(left) & {one["path"] for one in told["read"]}


def test_a_change_in_a_file_of_20000_lines(review, script):
    """Red: one large file makes a repository unreadable."""
    lines = [f"v{n} = {n}" for n in range(20_000)]
    write_files(Path(), {"large.py": "\n".join(lines) + "\n"})
    git("add", ".")
    git("commit", "-qm", "large")
    lines[14_999] = "v14999 = undefined_name"
    write_files(Path(), {"large.py": "\n".join(lines) + "\n"})
    script(lambda path, first, last: [raw("undefined_name", 3)])
    told = review("--diff", "--json").json
    (one,) = told["findings"]
    assert (one["first_line"], one["quote"]) == (15_000, "undefined_name")
    assert told["plan"] == "retrieval" and len(told["read"]) == 1
    (file,) = (file for file in told["facts"]["files"] if file["path"] == "large.py")
    assert file["lines"] == 20_000


def test_a_repository_with_a_file_of_5000_lines(review, script):
    """Red: one large file hides the rest of a repository, or itself."""
    large = "x\n" * 4_200 + "v4200 = 4200\n" + "x\n" * 799
    write_files(Path(), {"a folder/large file.py": large})
    script(
        lambda path, first, last: (
            [raw("v4200 = 4200", 4_201)]
            if path.endswith("large file.py") and first <= 4_201 <= last
            else []
        )
    )
    told = review("--json").json
    read = {one["path"] for one in told["read"]}
    assert read == {"a folder/large file.py", "util.py", "main.py"}
    (one,) = told["findings"]
    assert (one["path"], one["first_line"]) == ("a folder/large file.py", 4_201)
    assert one["quote"] == "v4200 = 4200" and not told["not_reviewed"]


@pytest.mark.parametrize("form", ["sarif", "github", "markdown", "text", "jsonl"])
def test_every_format_is_alone_on_stdout(review, script, changed, form: str):
    """Red: a program that reads the report trips over notes."""
    script(found)
    ran = review("-", "--format", form, stdin=changed)
    assert ran.code == 0, ran.err
    if form == "sarif":
        assert json.loads(ran.out)["runs"][0]["results"][0]["ruleId"] == "bugs"
    elif form == "github":
        assert all(line.startswith("::") for line in ran.out.splitlines())
        assert ran.out.startswith("::error file=util.py,line=12,endLine=12,")
    elif form == "markdown":
        assert ran.out.startswith("# Review\n")
    elif form == "jsonl":
        kinds = [event["type"] for event in ran.events]
        assert kinds.count("finding") == 1 and kinds[-1] == "result"
    else:
        assert f"  > 12 │ {BUG}" in ran.out.splitlines()


def test_nothing_changed_is_no_error_and_no_diff_is_one(review):
    """Red: a pipeline fails on an empty change, or passes on a broken pipe."""
    ran = review("-", "--json", stdin=b"")
    assert ran.code == 0 and ran.json["findings"] == []
    assert review("--diff").code == 0
    assert review("-", stdin=b"hello\n").code == 3
    assert review("--diff", "-", stdin=b"").code == 2
    assert review("--diff", "nowhere").code == 2
    assert review("--update-baseline").code == 2
    assert review("--baseline", "none.json").code == 2
    assert review("--format", "xml").code == 2


@pytest.mark.parametrize("form", ["text", "github", "sarif", "json"])
def test_names_and_code_cannot_speak_to_a_workflow_or_a_terminal(
    review, script, monkeypatch, form: str
):
    """Red: a pull request forges annotations by the names of its files."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    hostile = "##[error]forged ::error::forged \x1b[2J"
    names = {f"{hostile}.py": f"x = 1  # {hostile}\n", f"::error::{hostile}.bin": "\0\1"}
    write_files(Path(), names)
    script(lambda path, *_: [raw("x = 1", 1, title=hostile, explanation=f"\n{hostile}")])
    ran = review("--format", form)
    assert ran.code == 0, ran.err
    assert "forged" in ran.out + ran.err
    for text in (ran.out, ran.err):
        assert "##[" not in text and "\x1b" not in text
        ours = text.splitlines() if form != "github" or text is ran.err else []
        assert not any(line.lstrip().startswith("::") for line in ours)
    if form == "github":
        assert len(ran.out.splitlines()) == 2
