import os
import socket
from pathlib import Path

import pytest

from mm1cli.errors import InputError
from mm1cli.ingest import walk as walk_module
from mm1cli.ingest.corpus import Omission, Reason
from mm1cli.ingest.display_names import shown_path
from mm1cli.ingest.walk import Found, walk
from mm1cli.output.text import safe_line


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def shown(paths):
    return [result.shown for result in walk(paths) if isinstance(result, Found)]


def omitted(paths):
    results = walk(paths)
    return {each.path: each.reason for each in results if isinstance(each, Omission)}


def test_files_come_sorted_by_the_bytes_of_their_path(tree):
    """Red: the same folder gives another context elsewhere, and nothing saved is reused."""
    tree(dict.fromkeys(("b.txt", "a/z.txt", "a-b.txt", "B.txt", "ä.txt", "z.txt", "a.txt"), ""))
    assert shown(["."]) == ["B.txt", "a-b.txt", "a.txt", "a/z.txt", "b.txt", "z.txt", "ä.txt"]


def test_names_are_as_the_user_would_say_them(tree):
    """Red: citations name paths that the user never typed."""
    root = tree({"papers/sub/a.txt": "", "b.txt": ""})
    for argument in ("papers", "./papers", "papers/", ".//papers/."):
        assert shown([argument]) == ["papers/sub/a.txt"]
    assert shown([str(root / "b.txt"), "papers"]) == [
        f"{root.as_posix()}/b.txt",
        "papers/sub/a.txt",
    ]
    assert shown(["papers/../b.txt"]) == ["papers/../b.txt"]


def test_hidden_files_and_folders_are_listed_once(tree):
    """Red: the inside of .git is read, or listed file by file."""
    tree({".git/config": "", ".env": "", "sub/.cache/x": "", "sub/a.txt": ""})
    assert shown(["."]) == ["sub/a.txt"]
    assert omitted(["."]) == {
        ".git/": Reason.HIDDEN,
        ".env": Reason.HIDDEN,
        "sub/.cache/": Reason.HIDDEN,
    }


def test_a_file_that_is_named_is_found_although_hidden_or_ignored(tree):
    """Red: the user names a file and it is not read."""
    tree({".gitignore": "*.log\n", ".env": "", "a.log": ""})
    assert shown([".env", "a.log"]) == [".env", "a.log"]


def test_links_do_not_leave_the_folder(tree):
    """Red: a folder from elsewhere reads the user's private files."""
    root = tree({"in/a.txt": "", "out/secret.txt": "", "in/.git/config": ""})
    (root / "in/escape").symlink_to(root / "out")
    (root / "in/escape.txt").symlink_to(root / "out/secret.txt")
    (root / "in/config").symlink_to(".git/config")
    (root / "in/nothing").symlink_to("missing")
    (root / "in/self").symlink_to("self")
    assert shown(["in"]) == ["in/a.txt"]
    reasons = omitted(["in"])
    assert reasons["in/escape"] is reasons["in/escape.txt"] is Reason.OUTSIDE
    assert reasons["in/config"] is Reason.HIDDEN
    assert reasons["in/nothing"] is Reason.NOT_A_FILE
    assert "in/self" in reasons


def test_links_to_a_folder_above_end(tree):
    """Red: the walk never ends."""
    root = tree({"a/b/x.txt": ""})
    (root / "a/b/up").symlink_to(root / "a")
    (root / "a/b/top").symlink_to(root)
    assert shown(["."]) == ["a/b/x.txt"]
    assert set(omitted(["."]).values()) == {Reason.DUPLICATE}
    assert omitted(["a"])["a/b/top"] is Reason.OUTSIDE


def test_a_file_keeps_its_own_name_when_a_link_leads_to_it(tree):
    """Red: a citation names a link that sorts first."""
    root = tree({"real/x.txt": ""})
    (root / "a-link").symlink_to("real")
    (root / "b-link.txt").symlink_to("real/x.txt")
    assert shown(["."]) == ["real/x.txt"]
    assert omitted(["."]) == {"a-link": Reason.DUPLICATE, "b-link.txt": Reason.DUPLICATE}


def test_a_link_that_is_named_is_followed_anywhere(tree):
    """Red: papers kept behind a link cannot be read at all."""
    root = tree({"real/x.txt": "", "in/": ""})
    (root / "in/papers").symlink_to(root / "real")
    assert shown(["in/papers"]) == ["in/papers/x.txt"]


def test_what_is_named_twice_is_found_once(tree):
    """Red: a document counts twice and crowds out others."""
    tree({"a": "", "papers/b.txt": ""})
    assert shown(["a", "a", "papers/b.txt", "papers", "papers", "-", "-"]) == [
        "a",
        "papers/b.txt",
        "stdin",
    ]
    results = walk(["a", "a", "papers", "papers", "-", "-"])
    omissions = [each for each in results if isinstance(each, Omission)]
    assert omissions == [
        Omission("a", Reason.DUPLICATE, "same as a"),
        Omission("papers/", Reason.DUPLICATE, "same as papers/"),
        Omission("stdin", Reason.DUPLICATE),
    ]


def test_pipes_and_sockets_are_no_files(tree):
    """Red: the run waits for ever for somebody to write into a pipe."""
    root = tree({"in/": ""})
    os.mkfifo(root / "in/pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("in/socket")
        assert omitted(["in"]) == {
            "in/pipe": Reason.NOT_A_FILE,
            "in/socket": Reason.NOT_A_FILE,
        }
    (omission,) = walk(["in/pipe"])
    assert omission.reason is Reason.NOT_A_FILE and "use -" in omission.detail


@pytest.mark.parametrize("path", ["missing", "missing/deeper", "", "a\nb\ud800", "nul\0"])
def test_a_path_that_does_not_exist_is_one_clear_line(path):
    """Red: a typing error shows as a traceback, or the rest is answered without that file."""
    with pytest.raises(InputError) as raised:
        walk([".", path])
    message = str(raised.value)
    message.encode()
    assert "no such file or folder" in message and "\n" not in message


def test_odd_names_are_shown_and_still_open(tmp_path):
    """Red: one odd name ends the run, or breaks a line of the manifest in two."""
    names = (b"bad\xff.txt", b"two\nlines.txt", b"bidi\xe2\x80\xaetxt.exe", b"-")
    for name in names:
        (tmp_path / os.fsdecode(name)).touch()
    results = walk(["."])
    assert sorted(result.shown for result in results) == [
        "-",
        "bad\\xff.txt",
        "bidi\\u202etxt.exe",
        "two\\nlines.txt",
    ]
    assert all(Path(result.path).exists() and result.path != "-" for result in results)


def test_a_deep_tree_is_walked(tmp_path):
    """Red: a deep folder ends the run."""
    depth = 300
    folder = tmp_path
    for _ in range(depth):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "x.txt").touch()
    assert shown(["."]) == [f"{'d/' * depth}x.txt"]


def test_an_empty_folder_is_nothing():
    """Red: an empty folder is an error of ours and not the caller's to explain."""
    assert walk(["."]) == []


@pytest.mark.parametrize("unseen", ["\u200b", "\u200e", "\u200f", "\u2066", "\U000e0041", "\u3164"])
def test_what_takes_no_room_is_visible_in_names(unseen):
    """Red: "a.pdf" in a list is another file than the a.pdf somebody knows."""
    for show in (shown_path, safe_line):
        assert show(f"a{unseen}.pdf").isascii()


def test_a_large_folder_tells_of_itself_while_it_is_walked(tmp_path, monkeypatch):
    """Red: a folder of 200,000 files is silent until all of it was seen."""
    monkeypatch.setattr(walk_module, "_TOLD_EACH", 2)
    for name in "abcde":
        (tmp_path / name).write_text("x")
    told = []
    walk([str(tmp_path), str(tmp_path / "a")], on_found=told.append)
    assert told == [2, 4]
