import io
import os

import pytest

from mm1cli.errors import InputError, UsageError
from mm1cli.ingest import Reason
from mm1cli.ingest.files_from import listed_paths
from mm1cli.ingest.path_filter import PathFilter
from mm1cli.ingest.walk import Found, walk

FILES = dict.fromkeys(
    ("a.py", "a.log", "src/b.py", "src/b.md", "src/gen/c.py", "docs/d.md", "docs/e.log"), ""
)


@pytest.fixture(autouse=True)
def inside(tree, monkeypatch):
    monkeypatch.chdir(tree(FILES))


def shown(*paths, include=(), exclude=()):
    results = walk(paths or ["."], PathFilter.of(include, exclude))
    assert len({getattr(r, "shown", None) or r.path for r in results}) == len(results)
    return [result.shown for result in results if isinstance(result, Found)]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], ["*.log"], ["a.py", "docs/d.md", "src/b.md", "src/b.py", "src/gen/c.py"]),
        (["*.py"], [], ["a.py", "src/b.py", "src/gen/c.py"]),
        (["src/"], ["gen/"], ["src/b.md", "src/b.py"]),
        (["/*.py", "docs"], [], ["a.py", "docs/d.md", "docs/e.log"]),
    ],
)
def test_globs_choose_files_as_a_gitignore_would(include, exclude, expected):
    """Red: --exclude reads what it should not, or --include finds nothing in folders."""
    assert shown(include=include, exclude=exclude) == expected


def test_what_is_left_out_by_choice_is_in_the_manifest():
    """Red: a pattern that is too wide loses files in silence."""
    results = walk(["."], PathFilter.of(["*.py"], ["gen/"]))
    omitted = {r.path: (r.reason, r.detail) for r in results if not isinstance(r, Found)}
    assert omitted["src/gen/"] == (Reason.EXCLUDED, "by --exclude")
    assert omitted["docs/d.md"] == (Reason.EXCLUDED, "not in --include")
    assert len(omitted) == 5


def test_a_named_file_is_chosen_by_its_name():
    """Red: `mm1 tokens * --exclude '*.log'` reads the logs."""
    assert shown("a.py", "a.log", exclude=["*.log"]) == ["a.py"]


@pytest.mark.parametrize("glob", ["!a", "", "#a", "[a"])
def test_a_glob_that_matches_nothing_is_a_usage_error(glob):
    """Red: a slip of the finger reads everything."""
    with pytest.raises(UsageError, match="--exclude takes patterns"):
        PathFilter.of([], [glob])


def test_mm1ignore_has_the_last_word(tree):
    """Red: people must change the rules of git to choose what a model reads."""
    tree({".mm1ignore": "docs/\n!*.log\n", ".gitignore": "*.log\n", "src/.mm1ignore": "*.md\n"})
    assert shown() == ["a.log", "a.py", "src/b.py", "src/gen/c.py"]
    reasons = {r.path: r.detail for r in walk(["."]) if not isinstance(r, Found)}
    assert reasons["docs/"] == "by .mm1ignore"


@pytest.mark.parametrize(
    ("content", "nul"),
    [(b"a.py\nsrc/b.md\n", False), (b"a.py\r\nsrc/b.md", False), (b"a.py\0src/b.md\0", True)],
)
def test_files_can_be_listed(content, nul):
    """Red: `git ls-files -z | mm1 analyze --files-from - -0` does not work."""
    assert listed_paths("-", stdin=io.BytesIO(content), ends_with_nul=nul) == ["a.py", "src/b.md"]


def test_names_that_are_no_text_survive_the_list(tmp_path):
    """Red: a file whose name has a newline or is not UTF-8 cannot be named."""
    name = b"new\nline \xff"
    (tmp_path / os.fsdecode(name)).touch()
    (path,) = listed_paths("-", stdin=io.BytesIO(name + b"\0"), ends_with_nul=True)
    (found,) = walk([path])
    assert found.shown == "new\\nline \\xff"


def test_a_list_that_is_none_is_one_line(tmp_path):
    """Red: the wrong file ends in a traceback, or NULs in names that do not exist."""
    with pytest.raises(InputError, match="No such file"):
        listed_paths("missing", stdin=None, ends_with_nul=False)
    with pytest.raises(UsageError, match="add -0"):
        listed_paths("-", stdin=io.BytesIO(b"a\0b"), ends_with_nul=False)
