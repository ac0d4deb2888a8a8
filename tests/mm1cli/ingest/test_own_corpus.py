"""Over whatever files are under the folder that MM1_CORPUS names; hostile ones are welcome.

MM1_CORPUS=~/files python -m pytest tests/mm1cli/ingest/test_own_corpus.py
"""

import os
import resource
import time
from pathlib import Path

import pytest

from engine.api import usable_cores
from mm1cli.ingest.corpus import Corpus, Document, Omission
from mm1cli.ingest.manifest import build
from mm1cli.ingest.pack import document_text
from mm1cli.ingest.read import ReadOptions, read_files
from mm1cli.ingest.sandbox import Limits
from mm1cli.ingest.walk import walk
from mm1cli.retrieval.passages import passages

# Read before a fixture takes all settings out of the environment.
FOLDER = os.environ.get("MM1_CORPUS", "")
MAX_PARENT_BYTES = 4 << 30
SLACK_S = 60.0

pytestmark = pytest.mark.skipif(not FOLDER, reason="MM1_CORPUS names no folder")


def test_every_file_is_read_or_left_out_within_the_limits():
    """Red: a file crashes or hangs the run, is lost, or leaves text that harms."""
    limits = Limits()
    names = [getattr(one, "shown", None) or one.path for one in walk([FOLDER])]
    outcomes: list[Document | Omission] = []
    began = time.monotonic()
    # Members of containers come with their container, and share its turn.
    for outcome in read_files([FOLDER], options=ReadOptions()):
        outcomes.append(outcome)
    took = time.monotonic() - began
    assert took < SLACK_S + len(names) * 2 * limits.wall_s / usable_cores()

    paths = {one.path for one in outcomes}
    assert {name for name in names if name not in paths} == set()
    documents = [one for one in outcomes if isinstance(one, Document)]
    omissions = [one for one in outcomes if isinstance(one, Omission)]
    assert len(documents) + len(omissions) == len(outcomes) >= len(names)
    for document in documents:
        assert len(document.sha256) == 64 and document.num_bytes > 0
        text = document_text(document)
        text.encode("utf-8")
        assert "\0" not in text and "\r" not in text
        assert document.kind != "pdf" or "\ufffe" not in text
        for block in document.blocks:
            assert str(block.locate(0, max(len(block.text), 1)))
            if block.source:
                assert block.source[0][0] == 0
        for warning in document.warnings:
            assert warning.isprintable()
    for omission in omissions:
        assert omission.reason and omission.path.isprintable() and omission.detail.isprintable()

    corpus = Corpus(tuple(documents), tuple(omissions))
    manifest = build(corpus, [len(one.blocks) for one in documents], 1)
    totals = manifest.as_json()["totals"]
    assert totals["seen"] == totals["read"] + totals["left_out"] == len(outcomes)
    assert all(passage.text.strip() for passage in passages(corpus))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert peak < MAX_PARENT_BYTES
    worst = sorted({(str(one.reason), one.detail) for one in omissions})
    print(f"{len(names)} files in {Path(FOLDER)}, {took:.0f} s, {len(omissions)} left out")
    for reason, detail in worst[:40]:
        print(f"  {reason}: {detail}")
