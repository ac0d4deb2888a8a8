"""Red here means `mm1 map` does a document twice or never, or that totals do not add up."""

import json
import signal
import threading
import time

import pytest
from commandline import ASK, write_files

from mm1cli.commands.map import MapOptions, _groups
from mm1cli.errors import InputError, UsageError
from mm1cli.ingest.corpus import Block, Document
from mm1cli.ingest.read import ReadOptions, read_files
from mm1cli.mapping.jobs import Jobs
from mm1cli.mapping.lines import Header, MapFile, Shard, folder_of
from mm1cli.retrieval.retriever import Retriever, Search

NOTES = {f"{n}.txt": f"The rat sat on mat {n}." for n in range(4)} | {
    "photo.png": b"\x89PNG\r\n\x1a\n\0\0"
}
HEADER = Header(("Who?",), None, "m", "f" * 64, "document", Shard())


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def names_of(path, kind="document"):
    return [one["name"] for one in lines_of(path) if one["type"] == kind]


@pytest.fixture
def run(mm1, llama, tmp_path):
    write_files(tmp_path / "here" / "in", NOTES)

    def start(output, *more):
        common = ("--ask", ASK, "--model", llama, "--threads", 1, "--max-tokens", 3)
        return mm1("map", "in", *common, "-o", output, *more)

    return start


def test_passages_are_ordered_as_was_asked(run, tmp_path, monkeypatch):
    """Red: --search is taken and does nothing."""
    orders = []
    find = Retriever.find
    monkeypatch.setattr(
        Retriever, "find", lambda self, *given: [orders.append(self._search), find(self, *given)][1]
    )
    assert run(tmp_path / "out.jsonl", "--search", "bm25").code == 0
    assert set(orders) == {Search.BM25}


def test_what_is_there_is_not_done_again_and_shards_come_to_all(run, mm1, tmp_path):
    """Red: a killed run begins anew or loses a document, a shard is missed in silence."""
    whole = tmp_path / "whole.jsonl"
    assert run(whole).code == 0
    names = names_of(whole)
    assert names == [f"in/{n}.txt" for n in range(4)]
    assert names_of(whole, "left out") == ["in/photo.png"]
    answer = lines_of(whole)[1]["answers"][0]
    assert answer["question"] == ASK and answer["citations"][0]["path"] == "in/0.txt"
    content = whole.read_bytes()
    third = content.index(b"in/2.txt")
    whole.write_bytes(content[: third + 100])  # killed while the third was being written
    ran = run(whole)
    assert ran.code == 0 and "2 are in" in ran.err
    assert names_of(whole) == names and lines_of(whole)[-1]["seen"] == 5
    texts = [one["answers"][0]["answer"] for one in lines_of(whole) if one["type"] == "document"]
    before = [json.loads(line) for line in content.decode().splitlines()]
    assert texts == [one["answers"][0]["answer"] for one in before if one["type"] == "document"]
    refused = run(whole, "--ask", "another?")
    assert refused.code == 2 and "other questions" in refused.err

    parts = [tmp_path / f"part{n}.jsonl" for n in (1, 2)]
    for number, part in enumerate(parts, 1):
        assert run(part, "--shard", f"{number}/2", "--quiet").code == 0
    assert sorted([*names_of(parts[0]), *names_of(parts[1])]) == names
    ran = mm1("merge", *parts, "-o", tmp_path / "all.jsonl", "--strict")
    told = ran.json
    assert (ran.code, told["documents"], told["left_out"], told["seen"]) == (0, 4, 1, 5)
    assert sorted(names_of(tmp_path / "all.jsonl")) == names
    one = mm1("merge", parts[0], "--strict")
    assert one.code == 5 and "shards missing: 2" in one.err
    assert mm1("merge", parts[0], parts[0]).code == 2
    everything = (tmp_path / "all.jsonl").read_bytes()
    assert mm1("merge", whole, parts[0], "-o", tmp_path / "all.jsonl").code == 2
    assert (tmp_path / "all.jsonl").read_bytes() == everything, "a merge that failed wrote over it"


@pytest.mark.parametrize("content", [b"My notes.", b"My notes.\nMore.\n", b'{"type": "x"}\n'])
def test_a_file_of_somebody_else_is_left_as_it_is(tmp_path, content):
    """Red: -o names a letter, and the letter is gone."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"notes\.txt"):
        MapFile(path, HEADER)
    assert path.read_bytes() == content and list(tmp_path.iterdir()) == [path]


def test_a_first_line_that_a_kill_has_cut_is_written_again(tmp_path):
    path = tmp_path / "out.jsonl"
    with MapFile(path, HEADER):
        whole = path.read_bytes()
        with pytest.raises(InputError, match="another mm1 writes it"):
            MapFile(path, HEADER)
    for size in (0, 1, len(whole) - 1):
        path.write_bytes(whole[:size])
        with MapFile(path, HEADER):
            assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_document_that_does_not_fit_fails_alone(run, tmp_path):
    """Red: one long letter ends the run of ten thousand."""
    output = tmp_path / "out.jsonl"
    ran = run(output, "--context-tokens", 40, "--strict", "--group-by", "folder")
    assert ran.code == 5
    assert names_of(output, "failed") == ["in"] and names_of(output, "left out")


def test_a_shard_is_of_the_name_alone():
    names = [f"in/{n}.txt" for n in range(300)]
    held = [sum(Shard(n, 3).holds(name) for name in names) for n in (1, 2, 3)]
    assert sum(held) == 300 and min(held) > 60
    for wrong in ("0/3", "4/3", "x", "1/", "1/2/3"):
        with pytest.raises(UsageError, match="--shard"):
            Shard.of(wrong)


def test_documents_of_one_folder_are_held_and_no_more(tmp_path):
    """Red: a folder of folders stands in memory at once, or a folder's files are asked apart."""
    names = ("a/1.txt", "a/c/3.txt", "a/z.txt", "b/4.txt")
    write_files(tmp_path, dict.fromkeys(names, "Words."))
    options = ReadOptions(order=folder_of, num_workers=1)
    found = list(read_files([str(tmp_path)], options=options))
    assert [one.path.removeprefix(f"{tmp_path}/") for one in found] == [
        "a/1.txt", "a/z.txt", "a/c/3.txt", "b/4.txt"
    ]  # fmt: skip
    taken = []

    def told():
        members = ("a/x.zip", "a/x.zip/in/1.txt", "a/x.zip/2.txt")
        for path in (*members, "a/z.txt", "a/c/3.txt", "b/4.txt", "b/5.txt"):
            taken.append(path)
            yield Document(path, "text", 1, "", "text", (Block("Words."),))

    groups = _groups(told(), MapOptions(tmp_path / "o", Shard(), group_by="folder"))
    name, documents = next(groups)
    assert (name, [one.path for one in documents]) == ("a", ["a/x.zip", "a/z.txt"])
    assert taken[-1] == "a/c/3.txt", "the next folder is read before this one is asked about"
    assert [name for name, _ in groups] == ["a/x.zip/in", "a/x.zip", "a/c", "b"]


def test_an_interrupt_waits_for_no_request_that_is_under_way():
    """Red: Ctrl-C in `mm1 map --jobs 8` takes effect when a server has written its answers."""
    ends = threading.Event()
    jobs = Jobs(lambda seconds: {"waited": ends.wait(seconds)}, 2)
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        jobs.put((0,))
        jobs.put((60,))
        assert jobs.get() == {"waited": False}
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            jobs.get()
    finally:
        signal.signal(signal.SIGALRM, handler)
        ends.set()
    assert time.monotonic() - started < 5
    assert all(one.daemon for one in threading.enumerate() if one.name.endswith("(_run)")), (
        "the interpreter waits for what nobody asks for any more"
    )
