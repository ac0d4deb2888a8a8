import importlib.util
from pathlib import Path

import pytest

from mm1cli.ingest import read_corpus

EXAMPLES = Path(__file__).parents[3] / "examples"
PAPERS = EXAMPLES / "papers"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_papers", EXAMPLES / "make_papers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def texts():
    corpus = read_corpus([str(PAPERS)])
    assert corpus.omissions == ()
    return {
        Path(document.path).name: "\n".join(block.text for block in document.blocks)
        for document in corpus.documents
    }


def test_the_committed_papers_are_what_the_script_writes(script, tmp_path):
    """Red: somebody edited the script or a paper and not the other."""
    script.main(tmp_path)
    names = ["council-minutes.docx", "harbour-crossing-report.pdf"]
    written = read_corpus([str(tmp_path / name) for name in names])
    committed = read_corpus([str(PAPERS / name) for name in names])
    assert [each.blocks for each in written.documents] == [
        each.blocks for each in committed.documents
    ]
    assert len(written.documents) == 2


def test_writing_twice_gives_the_same_bytes(script, tmp_path):
    """Red: every run of the script is a change to commit."""
    for name in ("one", "two"):
        script.main(tmp_path / name)
    for one in (tmp_path / "one").iterdir():
        assert one.read_bytes() == (tmp_path / "two" / one.name).read_bytes()


def test_the_papers_agree_but_for_the_opening_date(texts):
    """Red: a demonstration asks for something the papers do not say."""
    report = texts["harbour-crossing-report.pdf"].replace("\n", " ")
    minutes = texts["council-minutes.docx"]
    assert "opened to the public on 14 September 2017" in report
    assert "opened to the public on 21 September 2017" in minutes
    for text in (report, minutes):
        assert "48.2 million crowns" in text
        assert "45.0 million crowns" in text
    assert "Insurance\t97,000\tTown" in minutes
    assert "| 2012 |    412,000 |" in texts["ferry-survey.md"]


def test_the_budget_adds_up(script):
    """Red: the example documents contain a mistake we did not intend."""
    amounts = [int(amount.replace(",", "")) for _, amount, _ in script.BUDGET[1:]]
    assert sum(amounts[:-1]) == amounts[-1]


def test_the_tide_model_gives_the_clearance_of_the_report(texts):
    """Red: code and report disagree about the clearance."""
    namespace = {"__name__": "tide_model"}
    exec(compile(texts["tide_model.py"], "tide_model.py", "exec"), namespace)
    assert namespace["headroom_at_springs"]() == pytest.approx(7.5)
    assert "7.5 metres" in texts["harbour-crossing-report.pdf"].replace("\n", " ")
    kinds = [kind for _, _, kind in namespace["turning_points"](50.0)]
    assert kinds == ["high", "low"] * 4
