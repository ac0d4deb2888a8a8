"""The pages name files, pages and commands: all of them are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("kernels", "engine", "mm1cli", "benchmarks", "training", "tests")
PAGES = [
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/**/*.md", "mm1cli/models/*/*.md")
    for path in sorted(ROOT.glob(pattern))
]
SOURCES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
# Folders that tests of ingestion make have pages and commands of their own.
MENTIONING = [path for path in SOURCES if "ingest" not in path.parts]
MENTIONING += [*PAGES, ROOT / "Makefile"]


def text_of(path):
    return path.read_text(encoding="utf-8")


def anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def can_run(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_path_of_the_architecture_is_there():
    """Red: the map leads to a file that was moved."""
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", text_of(ROOT / "docs/architecture.md")))
    assert len(named) > 100
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_pages_that_are_mentioned_are_there():
    pattern = re.compile(r"\b((?:docs|benchmarks)/[\w./-]+\.(?:md|json))\b")
    named = {name: path for path in MENTIONING for name in pattern.findall(text_of(path))}
    assert "docs/contexts.md" in named and "benchmarks/LOG.md" in named
    assert {name: path for name, path in named.items() if not (ROOT / name).is_file()} == {}


def test_commands_that_are_mentioned_can_be_run():
    pattern = re.compile(r"(?:python -m\s+|`)((?:benchmarks|training)(?:\.[a-z_0-9]+)+)")
    named = {name: path for path in MENTIONING for name in pattern.findall(text_of(path))}
    assert "benchmarks.quality" in named and "training.job" in named
    assert {name: path for name, path in named.items() if not can_run(name)} == {}
