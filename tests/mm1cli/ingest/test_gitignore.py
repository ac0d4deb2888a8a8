import os
import subprocess

import pytest

from mm1cli.ingest.corpus import Omission, Reason
from mm1cli.ingest.gitignore import Gitignore
from mm1cli.ingest.walk import Found, walk

TREE = {
    ".gitignore": (
        "# comment\n*.log\n!keep.log\n/only-here.txt\nbuild/\n**/cache\ndocs/*.tmp\n\\#sharp\n"
        "trailing \nspace\\ \n[ab].dat\nvendor/*\n!vendor/ours/\n!\n"
    ),
    "a.txt": "",
    "a.log": "",
    "keep.log": "",
    "only-here.txt": "",
    "#sharp": "",
    "trailing": "",
    "space ": "",
    "b.dat": "",
    "c.dat": "",
    "build/out.txt": "",
    "build/deep/keep.log": "",
    "docs/x.tmp": "",
    "docs/deep/x.tmp": "",
    "docs/only-here.txt": "",
    "docs/cache/x": "",
    "docs/build": "a file, not a folder",
    "sub/.gitignore": "!*.log\n/local\nkeep.log\r\n*.md\n!/README.md\n",
    "sub/a.log": "",
    "sub/keep.log": "",
    "sub/local": "",
    "sub/deep/local": "",
    "sub/README.md": "",
    "sub/deep/README.md": "",
    "vendor/theirs/x.txt": "",
    "vendor/ours/x.txt": "",
    "vendor/ours/.gitignore": "*.txt\n!x.txt\n",
    "vendor/ours/y.txt": "",
    "ünï/é.log": "",
}


def git(*arguments, cwd, **options):
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(
        ["git", *arguments], cwd=cwd, env=environment, capture_output=True, **options
    )


@pytest.fixture
def repository(tree):
    root = tree(TREE)
    try:
        git("init", "-q", cwd=root, check=True)
    except FileNotFoundError:
        pytest.skip("git is the oracle")
    return root


def test_the_walk_finds_the_files_that_git_does_not_ignore(repository):
    """Red: build output fills the context, or sources are left out."""
    names = [name for name in TREE if not name.rsplit("/", 1)[-1].startswith(".")]
    answer = git("check-ignore", "-z", "--stdin", cwd=repository, input="\0".join(names).encode())
    ignored = set(answer.stdout.decode().split("\0"))
    found = {result.path for result in walk([str(repository)]) if isinstance(result, Found)}
    assert found == {str(repository / name) for name in names if name not in ignored}
    assert 8 < len(found) < len(names) - 8


def test_a_folder_inside_a_repository_keeps_the_rules_above_it(repository, monkeypatch):
    """Red: `mm1 review src` reads what `mm1 review .` leaves out."""
    monkeypatch.chdir(repository)
    found = {result.shown for result in walk(["docs"]) if isinstance(result, Found)}
    assert found == {"docs/deep/x.tmp", "docs/only-here.txt", "docs/build"}


def test_an_ignored_folder_that_is_named_is_read(repository, monkeypatch):
    """Red: the user asks for a folder and gets nothing."""
    monkeypatch.chdir(repository)
    found = {result.shown for result in walk(["build"]) if isinstance(result, Found)}
    assert found == {"build/out.txt", "build/deep/keep.log"}


def test_an_ignored_folder_is_listed_once(tree, monkeypatch):
    """Red: node_modules makes a manifest of 40,000 lines, or vanishes from it."""
    root = tree({".gitignore": "big/\n", **{f"big/{n}/x.txt": "" for n in range(5)}})
    monkeypatch.chdir(root)
    assert walk(["."]) == [
        Omission(".gitignore", Reason.HIDDEN),
        Omission("big/", Reason.IGNORED),
    ]


def test_a_gitignore_that_is_a_pipe_a_folder_or_nonsense_is_survived(tree):
    """Red: a hostile folder hangs or ends the walk."""
    root = tree({"a/x": "", "b/.gitignore/x": "", "c/x": ""})
    os.mkfifo(root / "a/.gitignore")
    (root / "c/.gitignore").write_bytes(b"!\n/\n\\\n[\n\xff\xfe\0\nx\n")
    for name in "ab":
        assert not Gitignore.at(str(root / name)).ignores("x", is_folder=False)
    assert Gitignore.at(str(root / "c")).ignores("x", is_folder=False)


def test_the_rules_that_are_not_committed_hold_too(repository, monkeypatch, own_home):
    """Red: what a person told git alone to ignore is read."""
    (repository / ".git/info").mkdir(exist_ok=True)
    (repository / ".git/info/exclude").write_text("/docs/\n")
    (own_home / ".config/git").mkdir(parents=True)
    (own_home / ".config/git/ignore").write_text("*.dat\n!keep.log\n")
    names = ["docs/build", "c.dat", "a.log", "keep.log", "sub/README.md", "a.txt"]
    environment = {**os.environ, "GIT_CONFIG_SYSTEM": os.devnull}
    answer = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        cwd=repository,
        env=environment,
        input="\n".join(names).encode(),
        capture_output=True,
    )
    ignored = set(answer.stdout.decode().split())
    assert ignored == {"docs/build", "c.dat", "a.log"}
    found = {result.path for result in walk([str(repository)]) if isinstance(result, Found)}
    assert {name for name in names if str(repository / name) not in found} == ignored
