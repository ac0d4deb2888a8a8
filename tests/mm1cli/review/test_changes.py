"""Red here means that a diff is held against the wrong lines or file, or lost in silence."""

import os
from pathlib import Path

import pytest
from commandline import write_files
from hypothesis import given
from hypothesis import strategies as st
from reviewing import git

from mm1cli.errors import InputError, UsageError
from mm1cli.ingest import read_corpus
from mm1cli.review import changes

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
    return changes.change_of([(("", prefix), changes.parse(text))], corpus, offset)


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
    assert set(found.stretches) == {*shown, "new.py"}
    for name in shown:
        assert set().union(*(s.added for s in found.stretches[name])) == {20, 21}
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
    assert list(change(text, "sub dir", prefix=prefix).stretches) == ["sub dir/naïve ü.py"]


def test_a_subfolder_of_the_repository_is_context_enough(changed, monkeypatch):
    """Red: `git diff | mm1 review -` finds no file when it is run below the top."""
    text = git("diff", "HEAD")
    monkeypatch.chdir("sub dir")
    assert changes.offset_in_repository() == "sub dir/"
    found = change(text, offset=changes.offset_in_repository())
    assert list(found.stretches) == ["naïve ü.py"]


def test_hunks_that_moved_are_found_and_those_that_are_gone_are_told(changed):
    """Red: findings are checked against lines the diff is not about."""
    text = git("diff", "HEAD", "--", "plain.py")
    write_files(Path(), {"plain.py": "# note\n\n" + NEW})
    assert change(text).stretches["plain.py"][0].added == {22, 23}
    write_files(Path(), {"plain.py": NEW.replace("line_20b", "other")})
    found = change(text)
    assert all(not stretch.added for stretch in found.stretches.get("plain.py", ()))
    assert any("hunks are not in the file now" in why for _, why in found.elsewhere)


@pytest.mark.parametrize("text", ["hello\nworld\n", "@@ -1 +1 @@\n-a\n+b\n", "\0\1\2"])
def test_what_is_no_diff_is_refused(text: str):
    """Red: a wrong pipe reviews nothing and says that all is well."""
    with pytest.raises(InputError, match="not a unified diff"):
        changes.parse(text)


@given(st.text(max_size=80), st.text(alphabet='+-@ 0123456789,ab/\n\\"', max_size=120))
def test_no_diff_ends_in_a_traceback(anything: str, alike: str):
    """Red: hostile standard input is reported as a bug of mm1."""
    for text in (anything, f"--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n{alike}"):
        try:
            patches = changes.parse(text)
        except InputError:
            continue
        changes.change_of([(("",), patches)], read_corpus([]))


def test_a_base_cannot_be_an_option_of_git(changed):
    """Red: `--diff` writes to a file of the user's, by --output."""
    with pytest.raises(UsageError, match="dash"):
        changes.git_diff("--output=x", ["."])
    with pytest.raises(UsageError, match="git says"):
        changes.git_diff("nowhere", ["."])
    assert changes.is_revision("main") and not changes.is_revision("plain.py")
