"""Red here means that a file in a file vanishes, or that two have one name."""

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers import attachments
from mm1cli.ingest.readers.attachments import Attachments
from mm1cli.ingest.readers.reader import ReadError


def test_names_are_bare_and_told_apart():
    found = Attachments()
    for name in ("a/report.txt", "..\\report.txt", "", "report.txt", ".env", ".env"):
        assert found.add(name, b"x")
    assert [one.name for one in found.members] == [
        "report.txt",
        "report (2).txt",
        "attachment 3",
        "report (3).txt",
        ".env",
        ".env (2)",
    ]


def test_what_is_beyond_a_limit_is_said_once(monkeypatch):
    monkeypatch.setattr(attachments, "MAX_MEMBERS", 4)
    found = Attachments()
    assert [found.add("a", b"x") for _ in range(5)] == [True, True, True, False, False]
    assert found.members[-1].refusal.reason is Reason.TOO_LARGE and len(found.members) == 4
    monkeypatch.setattr(attachments, "MAX_MEMBER_BYTES", 5)
    found = Attachments()
    assert [found.add("a", b"xxx"), found.add("b", b"xxx")] == [True, False]
    assert found.members[-1].name == "what follows"


def test_what_is_not_read_is_named():
    found = Attachments()
    assert found.refuse("a message", ReadError(Reason.UNSUPPORTED, "an attached message"))
    assert found.members[0].refusal.reason is Reason.UNSUPPORTED
