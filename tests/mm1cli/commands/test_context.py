"""Red here means a context is read again for nothing, or answers otherwise once it was saved."""

import errno
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from commandline import ASK, POSITIONS, SHORT

from engine import durable, placement
from engine.families import read_config
from engine.model import Model
from engine.store.layerwise import LayerWriter
from mm1cli import trust
from mm1cli.answering import context_source

SECOND = "what did the bridge cost?"
PAPERS = Path(__file__).parents[3] / "examples" / "papers"


@pytest.fixture(autouse=True)
def keep_small_contexts(monkeypatch):
    monkeypatch.setattr(context_source, "FEWEST_SAVED_TOKENS", 16)


def answers(ran):
    return [(one["answer"], one["citations"]) for one in ran.json["answers"]]


def usage(ran):
    return ran.json["answers"][0]["usage"]


@pytest.mark.parametrize("family", ["llama", "minimax"])
def test_analyze_reads_the_same_folder_once(mm1, checkpoints, notes, family):
    run = ("analyze", notes, "--model", checkpoints[family], *SHORT, "--json", "--ask")
    first, second, other = mm1(*run, ASK), mm1(*run, ASK), mm1(*run, SECOND)
    fresh = mm1(*run, SECOND, "--no-cache")
    assert usage(first)["reused_tokens"] == usage(fresh)["reused_tokens"] == 0
    assert usage(second)["reused_tokens"] == usage(other)["reused_tokens"] > 100
    assert answers(first) == answers(second)
    assert answers(other) == answers(fresh)
    listed = mm1("context", "list", "--json").json
    assert len(listed["contexts"]) == 1
    assert listed["contexts"][0]["tokens"] == usage(second)["reused_tokens"]


def test_a_document_that_is_added_leaves_the_others_read(mm1, llama, notes):
    run = ("analyze", notes, "--model", llama, *SHORT, "--chunk-tokens", 16, "--json", "--ask", ASK)
    before = mm1(*run)
    (notes / "zebra.md").write_text("The rat is at the zoo.\n" * 3)
    after = mm1(*run)
    fresh = mm1(*run, "--no-cache")
    reused = usage(after)["reused_tokens"]
    assert 0 < reused < usage(before)["context_tokens"]
    assert answers(after) == answers(fresh)


def test_a_context_answers_without_its_documents(mm1, llama, notes, tmp_path):
    context = tmp_path / "notes.mm1ctx"
    built = mm1("context", "build", notes, "-o", context, "--model", llama, "--json")
    assert built.code == 0
    assert built.json["reused_tokens"] == 0
    whole = mm1("analyze", notes, "--ask", ASK, "--model", llama, *SHORT, "--json", "--no-cache")
    for path in sorted(notes.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    short = SHORT[:2]
    asked = mm1("ask", context, ASK, SECOND, *short, "--json")
    assert asked.code == 0, asked.err
    assert answers(asked)[0] == answers(whole)[0]
    assert usage(asked)["reused_tokens"] == built.json["tokens"]
    swapped = mm1("ask", context, SECOND, "--ask", ASK, *short, "--json")
    assert answers(swapped) == answers(asked)[::-1]
    lines = mm1("ask", context, "-", *short, "--json", stdin=f"{SECOND}\n\n{ASK}\n".encode())
    assert answers(lines) == answers(swapped)


def test_a_context_says_what_it_is_and_is_checked_and_removed(mm1, llama, notes, tmp_path):
    context = tmp_path / "notes.mm1ctx"
    mm1("context", "build", notes, "-o", context, "--model", llama)
    shown = mm1("context", "show", context, "--json").json
    assert [d["path"] for d in shown["documents"]] == [
        "notes/bridge.md",
        "notes/sub/hat.txt",
        "notes/tool.py",
    ]
    assert sum(d["tokens"] for d in shown["documents"]) < shown["tokens"]
    assert mm1("context", "verify", context).code == 0
    segment = min((context / "kv").iterdir())
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    for command in (("context", "verify", context), ("ask", context, ASK)):
        ran = mm1(*command)
        assert (ran.code, ran.out) == (3, "")
        assert "damaged" in ran.err.splitlines()[-1]
    again = mm1("context", "build", notes, "-o", context, "--model", llama, "--json")
    assert again.code == 0 and "damaged" in again.json["why_not_more"]
    assert mm1("context", "verify", context).code == 0
    assert mm1("context", "rm", context).code == 0
    assert not context.exists()


def test_another_model_is_refused_with_the_reason(mm1, checkpoints, notes, tmp_path):
    context, mine = tmp_path / "notes.mm1ctx", tmp_path / "mine"
    shutil.copytree(checkpoints["llama"], mine)
    mm1("context", "build", notes, "-o", context, "--model", mine)
    ran = mm1("ask", context, ASK, "--model", checkpoints["minimax"])
    assert ran.code == 3
    assert f"was read by {mine}, " in ran.err
    assert f"ask with -m {mine}, or build it again" in ran.err
    shutil.rmtree(mine)
    shutil.copytree(checkpoints["minimax"], mine)
    ran = mm1("ask", context, ASK)
    assert ran.code == 3 and "than the one that is here now: build it again" in ran.err


def test_what_does_not_fit_is_refused_with_the_largest(mm1, llama, notes, tmp_path):
    room = mm1("tokens", notes, "--model", llama, "--json").json["manifest"]["budget_tokens"]
    arguments = ("context", "build", notes, "-o", tmp_path / "c", "--model", llama)
    ran = mm1(*arguments, "--context-tokens", POSITIONS - room + 100)
    assert ran.code == 4
    assert "notes/bridge.md" in ran.err and "--exclude" in ran.err


def test_the_cache_stays_under_its_limit(mm1, llama, notes):
    run = ("analyze", notes, "--model", llama, *SHORT, "--json", "--ask", ASK)
    mm1(*run)
    size = mm1("context", "list", "--json").json["bytes"]
    (notes / "bridge.md").write_text("Another beginning.\n")
    mm1(*run, "--max-cache", size * 1.5 / 1e9)
    listed = mm1("context", "list", "--json").json["contexts"]
    assert len(listed) == 1
    assert mm1("context", "gc", "--max-cache", 0).code == 0
    assert mm1("context", "list", "--json").json["contexts"] == []


def everything(folder):
    """Every path there with its bytes, without a step through a link."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def test_what_is_no_context_is_not_removed(mm1, notes, tmp_path):
    papers = shutil.copytree(PAPERS, tmp_path / "papers")
    (tmp_path / "link").symlink_to(papers)
    before = everything(tmp_path)
    for named, said in {
        papers: "is a folder of 4 files without a saved context's manifest",
        ".": ". is a folder of 0 files and 1 folder without a saved context's manifest",
        "..": "without a saved context's manifest",
        "/": "without a saved context's manifest",
        tmp_path / "link": "link is a symbolic link; name the folder it leads to",
    }.items():
        ran = mm1("context", "rm", named)
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.endswith(f"{said}; nothing was removed\n") and ran.err.count("\n") == 1
    assert everything(tmp_path) == before
    assert (tmp_path / "link").is_symlink() and notes.is_dir()


def test_all_that_is_named_is_removed_or_nothing(mm1, llama, notes, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        mm1("context", "build", notes, "-o", folder, "--model", llama)
    (folders[1] / "notes.txt").write_text("mine")
    ran = mm1("context", "rm", *folders)
    assert (ran.code, ran.out) == (3, "")
    assert "b holds notes.txt, which is no part of a saved context" in ran.err
    assert all((folder / "manifest.json").exists() for folder in folders)
    (folders[1] / "notes.txt").unlink()
    assert mm1("context", "rm", *folders, folders[0]).code == 0
    assert not any(folder.exists() for folder in folders)
    assert not list(tmp_path.glob("*.gone"))


def test_no_context_is_built_over_a_folder_of_something_else(mm1, llama, notes):
    (notes / "attachments").mkdir()
    (notes / "attachments" / "mail.txt").write_text("mine")
    before = everything(notes)
    ran = mm1("context", "build", notes, "-o", notes, "--model", llama)
    assert ran.code == 3 and "choose another folder" in ran.err
    assert everything(notes) == before


@pytest.fixture
def big(notes, tmp_path):
    """A folder beside the one that is worked in, larger than the cache may be there."""
    folder = tmp_path / "beside"
    folder.mkdir()
    with (folder / "big.bin").open("wb") as file:
        file.truncate(20 * 10**6)
    Path("mm1.toml").write_text('cache_dir = "c"\nmax_cache = 0.01\n')
    trust.trust(Path())
    Path("c").mkdir()
    return folder


def test_a_cache_that_leads_outside_is_not_used_and_nothing_goes(mm1, llama, notes, big, tmp_path):
    """A folder that one only wants to read may bring its own mm1.toml and links."""
    Path("c/contexts").symlink_to("../..")
    run = ("analyze", notes, "--model", llama, *SHORT, "--json", "--ask", ASK, "--ask", SECOND)
    fresh = mm1(*run, "--no-cache")
    before = everything(tmp_path)
    ran = mm1(*run)
    assert ran.code == 0 and answers(ran) == answers(fresh)
    assert ran.err.count("symbolic link") == 1 and "not kept for the next question" in ran.err
    for command in (("gc",), ("gc", "--max-cache", 0), ("list",), ("rm", "beside")):
        refused = mm1("context", *command)
        assert (refused.code, refused.out) == (3, "")
        assert "c/contexts is a symbolic link" in refused.err or command[0] == "rm"
    assert everything(tmp_path).keys() - before.keys() <= {*Path("c").absolute().rglob("*")}
    assert before.items() <= everything(tmp_path).items()


@pytest.mark.parametrize("leads_to", ["../../../beside", "../../../empty"])
def test_an_entry_that_leads_outside_is_not_used(mm1, llama, notes, big, tmp_path, leads_to):
    (tmp_path / "empty").mkdir()
    run = ("analyze", notes, "--model", llama, *SHORT, "--json", "--ask", ASK)
    kept = mm1(*run)
    (entry,) = Path("c/contexts").iterdir()
    shutil.rmtree(entry)
    entry.symlink_to(leads_to)
    before = everything(tmp_path)
    ran = mm1(*run)
    assert ran.code == 0 and answers(ran) == answers(kept)
    assert ran.err.count("symbolic link") == 1 and "not kept for the next question" in ran.err
    assert mm1("context", "gc", "--max-cache", 0).code == 0
    assert everything(tmp_path) == before and entry.is_symlink()


def test_a_context_with_a_file_of_somebody_in_it_still_answers(mm1, llama, notes):
    run = ("analyze", notes, "--model", llama, *SHORT, "--json", "--ask", ASK)
    first, listed = mm1(*run), mm1("context", "list", "--json").json
    mine = Path(listed["contexts"][0]["context"]) / "kv" / "mine.txt"
    mine.write_text("mine")
    again = mm1(*run)
    assert again.code == 0 and answers(again) == answers(first)
    collected = mm1("context", "gc", "--max-cache", 0)
    assert collected.code == 0 and "holds kv/mine.txt" in collected.out
    removed = mm1("context", "rm", mine.parents[1].name)
    assert removed.code == 3 and "holds kv/mine.txt" in removed.err
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("ask", "nowhere", ASK), 3, "no such context"),
        (("ask", "nowhere"), 2, "no question"),
        (("context", "show", "nowhere"), 3, "no such context"),
        (("context", "rm", "nowhere"), 3, "no such context"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(mm1, arguments, code, reason):
    ran = mm1(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert reason in ran.err
    assert json.dumps(ran.err.strip()).count("\\n") == 0


@pytest.mark.parametrize("family", ["llama", "minimax"])
def test_int8_kv_answers_alike_with_and_without_the_cache(
    mm1, checkpoints, notes, tmp_path, family
):
    run = ("analyze", notes, "--model", checkpoints[family], *SHORT, "--json", "--ask", ASK)
    kept, again, fresh = (mm1(*run, "--kv", "int8", *more) for more in ((), (), ("--no-cache",)))
    assert answers(kept) == answers(again) == answers(fresh)
    assert usage(again)["reused_tokens"] > 100
    assert usage(mm1(*run))["reused_tokens"] == 0  # floats are another context
    listed = mm1("context", "list", "--json").json["contexts"]
    assert sorted(one["kv"] for one in listed) == ["float32", "int8"]


def test_a_context_is_asked_as_it_was_built(mm1, llama, notes, tmp_path, monkeypatch):
    """Settings for new contexts say nothing about one that is there."""
    context = tmp_path / "notes.mm1ctx"
    mm1("context", "build", notes, "-o", context, "--model", llama, "--kv", "int8")
    assert mm1("context", "show", context, "--json").json["kv"] == "int8"
    asked = mm1("ask", context, ASK, *SHORT[:2], "--json")
    monkeypatch.setenv("MM1_KV", "float32")
    monkeypatch.setenv("MM1_CHUNK_TOKENS", "7")
    assert answers(mm1("ask", context, ASK, *SHORT[:2], "--json")) == answers(asked)


def test_kv_of_another_kind_is_refused(mm1, llama, notes):
    ran = mm1("analyze", notes, "--model", llama, *SHORT, "--ask", ASK, "--kv", "int4")
    assert ran.code == 2 and "float32 or int8" in ran.err


def test_reuse_is_said_in_every_run(mm1, llama, notes):
    run = ("analyze", notes, "--model", llama, *SHORT, "--ask", ASK, "--ask", SECOND)
    first, second = mm1(*run), mm1(*run)
    said = [re.findall(r"reused ([\d,]+) of ([\d,]+)", ran.err) for ran in (first, second)]
    again = mm1(*run, "--json").json["answers"]
    counts = [
        (f"{one['usage']['reused_tokens']:,}", f"{one['usage']['context_tokens']:,}")
        for one in again
    ]
    assert said[1] == counts
    assert said[0] == [("0", counts[0][1]), counts[1]]
    assert all(one["usage"]["reused_tokens"] > 100 for one in again)
    # By retrieval every question reads other passages, and nothing is reused.
    (notes / "long.md").write_text("The rat is on a mat far away. " * 200)
    room = mm1(*run, "--dry-run", "--json").json["manifest"]["budget_tokens"]
    by_retrieval = mm1(*run, "--context-tokens", POSITIONS - room + 1200)
    assert re.findall(r"reused ([\d,]+) of", by_retrieval.err) == ["0", "0"]
    assert "by retrieval" in by_retrieval.err


def test_a_context_in_memory_is_refused_with_the_sum_and_one_on_disk_is_read(
    mm1, llama, notes, monkeypatch
):
    run = ("analyze", notes, "--model", llama, *SHORT, "--ask", ASK)
    needed = placement.plan(read_config(llama), 1, 1024, torch.float32).weights_bytes
    block = 2 * 2 * 2 * 16 * 4 * 4096  # layers, keys and values, heads, numbers, bytes, tokens
    monkeypatch.setattr(placement.memory, "available_bytes", lambda _device: needed + 8 * block)
    long = ("--context-tokens", 20 * 4096)
    assert mm1(*run, *long).code == 0
    ran = mm1(*run, *long, "--no-cache")
    assert (ran.code, ran.out) == (4, "")
    assert "GB = weights" in ran.err and "KV" in ran.err


def test_a_disk_that_fills_up_ends_in_the_same_answer(mm1, llama, notes, monkeypatch):
    run = ("analyze", notes, "--model", llama, *SHORT, "--json", "--ask", ASK)
    plain = mm1(*run, "--no-cache")
    write, left = durable.write, [2]

    def full(path, fill):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        write(path, fill)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write", full)
        ran = mm1(*run, "--chunk-tokens", 64)
        assert ran.code == 0 and answers(ran) == answers(mm1(*run, "--chunk-tokens", 64))
    assert "the disk is full" in ran.err
    assert answers(plain) == answers(mm1(*run, "--no-cache"))


def test_one_that_is_larger_than_the_cache_is_said_not_to_be_kept(mm1, llama, notes):
    run = ("analyze", notes, "--model", llama, *SHORT, "--ask", ASK, "--max-cache", 0)
    ran = mm1(*run)
    assert ran.code == 0 and "--max-cache is 0.00" in ran.err


def test_a_build_by_layers_says_what_a_stop_leaves_and_goes_on(
    mm1, llama, notes, tmp_path, monkeypatch
):
    monkeypatch.setattr(Model, "is_streamed", True)
    run = ("context", "build", notes, "-o", tmp_path / "c", "--model", llama)

    def stop(writer, num_layers):
        turn(writer, num_layers)
        if num_layers == 1:
            raise KeyboardInterrupt

    turn = LayerWriter.swap
    with monkeypatch.context() as patch:
        patch.setattr(LayerWriter, "swap", stop)
        stopped = mm1(*run)
    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == (
        "error: interrupted; 1 of 2 layers are kept; the same command goes on from what was saved"
    )
    built = mm1(*run)
    assert "reused 0 of" in built.err
    assert "1 of 2 layers were done already" in built.err
    other = mm1("context", "build", notes, "-o", tmp_path / "d", "--model", llama, "--json")
    assert other.json["reused_layers"] == 0
    asked = [mm1("ask", tmp_path / name, ASK, *SHORT[:2], "--json") for name in "cd"]
    assert answers(asked[0]) == answers(asked[1])
