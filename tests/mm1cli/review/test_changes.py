"""Red here means that a diff is held against the wrong lines or file, or lost in silence."""

import io
import os
import subprocess
from pathlib import Path

import pytest
from commandline import write_files
from hypothesis import given
from hypothesis import strategies as st
from reviewing import git

from mm1cli.errors import InputError, UsageError
from mm1cli.ingest import read_corpus
from mm1cli.review import changes, patches

NAMES = ["plain.py", "a name.py", "sub dir/naïve ü.py", 'quo"te.py', "tab\there.py", "b/a/x.py"]
OLD = "".join(f"line_{n} = {n}\n" for n in range(1, 41))
NEW = OLD.replace("line_20 = 20\n", "line_20 = 21\nline_20b = 0\n").replace("line_30 = 30\n", "")


@pytest.fixture
def changed(no_settings) -> Path:
    """The current folder: each of NAMES changed at line 20 and without line 30."""
    write_files(Path(), dict.fromkeys([*NAMES, "old.py"], OLD) | {"gone.py": "gone = 1\n"})
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "one")
    write_files(Path(), dict.fromkeys(NAMES, NEW))
    write_files(Path(), {"new.py": "x = 1\n", "photo.png": b"\x89PNG\r\n\x1a\n\0\0"})
    Path("gone.py").unlink()
    git("mv", "old.py", "moved.py")
    git("add", "-A")
    return Path()


def change(text: str, *paths: str, offset: str = "", prefix: str = "") -> changes.Change:
    corpus = read_corpus(paths or ["."])
    return changes.change_of([(("", prefix), patches.parse(text))], corpus, offset)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--no-prefix",),
        ("-c", "diff.mnemonicPrefix=true"),
        ("-c", "core.quotePath=false"),
        ("-U0",),
    ],
)
def test_a_diff_of_git_leads_to_its_lines(changed, options):
    """Red: a name with a blank, or a setting of the user's git, loses a file."""
    before = [o for o in options if o == "-c" or "=" in o]
    after = [o for o in options if o not in before]
    found = change(git(*before, "diff", "HEAD", *after))
    shown = {os.fsencode(name).decode().replace("\t", "\\t") for name in NAMES}
    assert set(found.hunks) == {*shown, "new.py"}
    for name in shown:
        assert set().union(*(s.added for s in found.hunks[name])) == {20, 21}
        assert found.touches(name, 20, 20) and not found.touches(name, 10, 15)
        assert found.touches(name, 30, 30), "a line was removed there"
        assert found.adds(name, 21) and not found.adds(name, 30)
    elsewhere = {path.rpartition("/")[2]: why for path, why in found.elsewhere}
    assert elsewhere["gone.py"] == "removed"
    assert "photo.png" in elsewhere and "moved.py" in elsewhere
    assert "line_20b = 0" in found.text and "gone.py (removed)" in found.text


def test_git_is_asked_for_what_changed_since_a_branch_was_left(changed):
    """Red: `--diff main` reviews what others did on main, or not what is uncommitted."""
    git("checkout", "-q", "-b", "work")
    git("commit", "-qm", "two")
    git("checkout", "-q", "main")
    write_files(Path(), {"theirs.py": "y = 1\n"})
    git("add", ".")
    git("commit", "-qm", "theirs")
    git("checkout", "-q", "work")
    write_files(Path(), {"plain.py": NEW + "uncommitted = True\n"})
    ((prefix, text),) = changes.git_diff("main", ["."])
    found = change(text, prefix=prefix)
    assert found.adds("plain.py", 21) and found.adds("plain.py", 41)
    assert "theirs.py" not in text
    ((prefix, text),) = changes.git_diff("main", ["sub dir"])
    assert list(change(text, "sub dir", prefix=prefix).hunks) == ["sub dir/naïve ü.py"]


def test_a_subfolder_of_the_repository_is_context_enough(changed, monkeypatch):
    """Red: `git diff | mm1 review -` finds no file when it is run below the top."""
    text = git("diff", "HEAD")
    monkeypatch.chdir("sub dir")
    assert changes.offset_in_repository() == "sub dir/"
    found = change(text, offset=changes.offset_in_repository())
    assert list(found.hunks) == ["naïve ü.py"]


def test_hunks_that_moved_are_found_and_those_that_are_gone_are_told(changed):
    """Red: findings are checked against lines the diff is not about."""
    text = git("diff", "HEAD", "--", "plain.py")
    write_files(Path(), {"plain.py": "# note\n\n" + NEW})
    assert change(text).hunks["plain.py"][0].added == {22, 23}
    write_files(Path(), {"plain.py": NEW.replace("line_20b", "other")})
    found = change(text)
    assert all(not stretch.added for stretch in found.hunks.get("plain.py", ()))
    assert any("hunks are not in the file now" in why for _, why in found.elsewhere)


def as_told(found: changes.Change) -> tuple[object, object]:
    return found.added, found.elsewhere


@pytest.mark.parametrize(
    "rewritten",
    [
        lambda diff: diff.replace(b"\n", b"\r\n"),
        lambda diff: diff.decode().encode("utf-16"),
        lambda diff: b"\xef\xbb\xbf" + diff,
    ],
    ids=["crlf", "utf-16", "bom"],
)
def test_a_diff_that_went_through_a_shell_of_windows_is_the_same(changed, rewritten):
    """Red: the same change is refused, or told otherwise, on another machine."""
    diff = git("diff", "HEAD").encode()
    read = patches.read_diff(io.BytesIO(rewritten(diff)))
    assert as_told(change(read)) == as_told(change(diff.decode()))


def test_line_ends_of_files_are_no_difference(changed):
    """Red: a file with CRLF, or whose line ends change, loses its hunks."""
    both = {"crlf.py": OLD.replace("\n", "\r\n"), "to_lf.py": OLD.replace("\n", "\r\n")}
    write_files(Path(), both)
    git("-c", "core.autocrlf=false", "add", ".")
    git("commit", "-qm", "crlf")
    write_files(Path(), {"crlf.py": NEW.replace("\n", "\r\n"), "to_lf.py": OLD})
    text = subprocess.run(["git", "diff"], capture_output=True, check=True).stdout
    found = change(patches.read_diff(io.BytesIO(text)))
    assert found.added == {"crlf.py": {20, 21}, "to_lf.py": set(range(1, 41))}
    assert not found.lost and "\r" not in found.text


def test_modes_names_binaries_and_submodules_are_named_with_their_reason(changed):
    """Red: part of a change is in no list at all."""
    git("commit", "-qm", "two")
    git("init", "-q", "theirs")
    write_files(Path("theirs"), {"sub.py": "s = 1\n"})
    for name in ("one", "two"):
        git("add", ".", cwd="theirs")
        git("commit", "-qm", name, "--allow-empty", cwd="theirs")
    git("submodule", "add", "-q", "./theirs", "linked one")
    git("commit", "-qam", "linked")
    git("checkout", "-q", "HEAD~1", cwd="linked one")
    Path("moved.py").chmod(0o755)
    git("mv", "plain.py", "renamed.py")
    write_files(Path(), {"photo.png": b"\x89PNG\r\n\x1a\n\0\1", "new.py": ""})
    for form in ("short", "log"):
        for more in ((), ("--binary",), ("--color=always",), ("--no-prefix",)):
            diff = git("diff", "HEAD", "-M", f"--submodule={form}", *more)
            found = change(diff)
            told = dict(found.elsewhere)
            assert told["linked one"] == "submodule", (form, more)
            assert told["photo.png"] == "format not supported" and told["new.py"] == "empty"
            assert told["moved.py"] == told["renamed.py"] == "renamed or its mode changed, no line"
            assert not found.hunks and not found.lost


def test_files_that_are_not_here_are_lost_and_those_not_read_are_not(changed):
    """Red: a diff of another repository passes as reviewed, or one of a part fails."""
    text = git("diff", "HEAD", "--", "plain.py", "b/a/x.py")
    assert dict(change(text, "b").lost) == {}
    assert dict(change(text, "b").elsewhere) == {"plain.py": "not among what was read"}
    Path("plain.py").unlink()
    assert dict(change(text).lost) == {"plain.py": "no such file here"}


def test_a_combined_diff_says_what_to_do():
    """Red: the changes of a merge are reviewed as nothing."""
    with pytest.raises(InputError, match=r"git diff main\.\.\.HEAD"):
        patches.parse(
            "diff --cc a.py\nindex 1,2..3\n--- a/a.py\n+++ b/a.py\n@@@ -1 -1 +1 @@@\n++x\n"
        )


@pytest.mark.parametrize("text", ["hello\nworld\n", "@@ -1 +1 @@\n-a\n+b\n", "\0\1\2"])
def test_what_is_no_diff_is_refused(text: str):
    """Red: a wrong pipe reviews nothing and says that all is well."""
    with pytest.raises(InputError, match="not a unified diff"):
        patches.parse(text)


@given(st.text(max_size=80), st.text(alphabet='+-@ 0123456789,ab/\n\\"', max_size=120))
def test_no_diff_ends_in_a_traceback(anything: str, alike: str):
    """Red: hostile standard input is reported as a bug of mm1."""
    for text in (anything, f"--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n{alike}"):
        try:
            found = patches.parse(text)
        except InputError:
            continue
        changes.change_of([(("",), found)], read_corpus([]))


def test_a_base_cannot_be_an_option_of_git(changed):
    """Red: `--diff` writes to a file of the user's, by --output."""
    with pytest.raises(UsageError, match="dash"):
        changes.git_diff("--output=x", ["."])
    with pytest.raises(UsageError, match="git says"):
        changes.git_diff("nowhere", ["."])
    assert changes.is_revision("main") and not changes.is_revision("plain.py")
