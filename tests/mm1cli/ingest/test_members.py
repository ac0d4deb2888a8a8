"""What containers give out becomes documents and omissions of their own, within limits."""

from mm1cli.ingest import Block, Document, Omission, Reason
from mm1cli.ingest import containers as unfold_module
from mm1cli.ingest.containers import ContainerExpansion
from mm1cli.ingest.readers import TEXT
from mm1cli.ingest.readers.reader import Member, Reader, ReadError, Reading
from mm1cli.ingest.sandbox import BrokeReaderError


def unfold(monkeypatch, members, **changes):
    """A file "box" that holds `members`, each of which is text or, if called so, the same box."""
    box = Reader("box", 1, {}, 1 << 20, False, lambda data: Reading((), members=tuple(members)))
    real = unfold_module.choose

    def choose(name, head, *, converts=False):
        return (box, "archive") if name.endswith("box") else real(name, head)

    monkeypatch.setattr(unfold_module, "choose", choose)
    unfolding = ContainerExpansion(sandbox=None, **changes)
    return list(unfolding.expand("box", b"x"))


def test_members_are_named_below_their_container(monkeypatch):
    """Red: the files of an archive are one document, or lose their names."""
    members = [
        Member("a.md", b"# one"),
        Member("/abs/../b.txt", b"two"),
        Member("new\nline.txt", b"three"),
        Member(".git/config", b"four"),
        Member("e.png", b"\x89PNG\r\n\x1a\n\0"),
        Member("f", refusal=ReadError(Reason.ENCRYPTED, "locked")),
    ]
    outcomes = unfold(monkeypatch, members)
    assert [(one.path, getattr(one, "reason", None)) for one in outcomes] == [
        ("box", None),
        ("box/a.md", None),
        ("box/abs/../b.txt", None),
        ("box/new\\nline.txt", None),
        ("box/.git/config", Reason.HIDDEN),
        ("box/e.png", Reason.UNSUPPORTED),
        ("box/f", Reason.ENCRYPTED),
    ]
    assert isinstance(outcomes[0], Document) and outcomes[0].blocks == ()
    assert outcomes[1].kind == "markdown"


def test_containers_in_containers_end(monkeypatch):
    """Red: an archive that holds itself never ends."""
    outcomes = unfold(monkeypatch, [Member("box", b"x")])
    assert isinstance(outcomes[-1], Omission) and outcomes[-1].reason is Reason.TOO_DEEP
    assert len(outcomes) == unfold_module.MAX_DEPTH + 2


def test_all_depths_share_one_allowance(monkeypatch):
    """Red: a bomb of nested archives fills the memory."""
    outcomes = unfold(monkeypatch, [Member(f"{n}.txt", b"12345") for n in range(4)],
                      num_bytes_left=12)  # fmt: skip
    reasons = [getattr(one, "reason", None) for one in outcomes[1:]]
    assert reasons == [None, None, Reason.TOO_LARGE, Reason.TOO_LARGE]


def test_a_git_lfs_pointer_is_named(monkeypatch):
    """Red: a model is given a hash in place of the document."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n"
    (_, omission) = unfold(monkeypatch, [Member("a.pdf.txt", pointer)])
    assert omission.reason is Reason.LFS_POINTER and "12,345 bytes" in omission.detail


def test_lock_files_and_minified_code_are_called_so(monkeypatch):
    """Red: nobody sees what eats the context."""
    members = [
        Member("yarn.lock", b"a"),
        Member("a.min.js", b"a"),
        Member("b.js", b"x" * 5000),
        Member("c.js", b"x\n" * 2500),
    ]
    kinds = [one.kind for one in unfold(monkeypatch, members)[1:]]
    assert kinds == ["lock file", "minified javascript", "minified javascript", "javascript"]


def test_text_is_read_in_this_process():
    """Red: each text file pays for a child."""
    assert not TEXT.sandboxed
    (document,) = ContainerExpansion(sandbox=None).expand("a.txt", b"x")
    assert document.blocks == (Block("x", source=((0, 0),)),)


class Fragile:
    """A sandbox in which pdfium breaks its child, and pypdf does not."""

    def __init__(self, reason):
        self.reason = reason

    def read(self, reader, data, *, patience=1):
        if reader == "pdf":
            raise BrokeReaderError(self.reason, "reader crashed")
        return Reading((Block(f"by {reader}"),), library="pypdf 0")


def test_a_file_that_breaks_its_reader_is_given_to_the_other():
    """Red: a PDF that crashes one library is lost, though the other reads it."""
    (document,) = ContainerExpansion(sandbox=Fragile(Reason.UNREADABLE)).expand("a.pdf", b"%PDF-")
    assert document.blocks[0].text == "by pypdf"
    assert document.warnings == ("read by pypdf: the usual reader failed (reader crashed)",)
    (omission,) = ContainerExpansion(sandbox=Fragile(Reason.TOO_LARGE)).expand("a.pdf", b"%PDF-")
    assert omission.reason is Reason.TOO_LARGE
