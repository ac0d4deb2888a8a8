"""Against git itself, on folders and lines that hypothesis makes."""

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm1cli.ingest import gitignore
from mm1cli.ingest.gitignore import Gitignore
from mm1cli.ingest.wildmatch import parse

NAMES = ["a", "b", "ab", "a.b", "a b", "a ", "[a]", "é", "-", "!a", "#a", "a\\b", "build"]
PIECES = [
    *NAMES, "*", "**", "?", "/", "/", "**/", "/**", "[ab]", "[!a]", "[^a]", "[a-c]", "[]a]",
    "[!]a]", "[[:alpha:]]", "[[:x:]]", "[a", "[\\]]", "[a-\\c]", "[--0]", "\\", "\\*", "\\ ",
    " ", "!", "#",
]  # fmt: skip
LINES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    try:
        subprocess.run(["git", "init", "-q", str(root)], check=True)
    except FileNotFoundError:
        pytest.skip("git is the oracle")
    return root


def said_by_git(root: Path, paths: list[str]) -> set[str]:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    answer = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=root,
        env=environment,
        input="\0".join(paths).encode(),
        capture_output=True,
    )
    assert answer.returncode in {0, 1}, answer.stderr
    return set(answer.stdout.decode().split("\0")) - {""}


def ours(rules: Gitignore, path: str, root: Path) -> bool:
    here = ""
    *folders, name = path.split("/")
    for folder in folders:
        if rules.ignores(folder, is_folder=True):
            return True
        here = f"{here}{folder}/"
        rules = rules.enter(folder, str(root / here))
    return rules.ignores(name, is_folder=(root / path).is_dir())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(LINES, min_size=1, max_size=6),
    st.lists(LINES, max_size=3),
    st.lists(PATHS, min_size=10, max_size=60),
)
def test_every_line_means_what_git_says(repository, lines, inner, paths):
    """Red: build output fills the context, or sources are left out."""
    (repository / ".gitignore").write_text("\n".join(lines))
    (repository / "a").mkdir(exist_ok=True)
    (repository / "a" / ".gitignore").write_text("\r\n".join(inner))
    rules = Gitignore.at(str(repository))
    wanted = said_by_git(repository, paths)
    assert {path for path in paths if ours(rules, path, repository)} == wanted


@given(LINES, PATHS)
def test_both_ways_to_match_agree(line, path):
    """Red: a line with four stars means something else than one with three."""
    pattern = parse(line.encode())
    if pattern is None or pattern.regex is None:
        return
    slow = replace(pattern, regex=None)
    for is_folder in (True, False):
        encoded = path.encode()
        assert slow.matches(encoded, is_folder=is_folder) == pattern.matches(
            encoded, is_folder=is_folder
        )


def test_a_hostile_line_takes_no_time():
    """Red: one line of stars stops the walk for ever."""
    pattern = parse(b"*a" * 40 + b"/**/" + b"*b" * 40)
    assert not pattern.matches(b"a" * 250 + b"/" + b"a" * 250, is_folder=False)


@pytest.mark.parametrize("line", [b"*" * 769_000, b"*a" * 384_000, b"**/" * 250_000 + b"x"])
def test_a_line_of_stars_takes_no_time(line):
    """Red: one .gitignore keeps a run busy for minutes."""
    began = time.process_time()
    lines = gitignore.patterns([line, *[line[:900]] * 800, b"*.log"])
    rules = gitignore.Gitignore(levels=((0, lines),))
    for number in range(20):
        rules.ignores(f"{number}" + "a" * 200, is_folder=False)
    assert time.process_time() - began < 5
