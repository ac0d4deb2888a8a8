"""Red here means that a file which somebody else put into a cache is believed."""

import os
import stat

import pytest

from engine import authentic


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("MM1_STATE_DIR", str(tmp_path / "state"))
    yield tmp_path / "state"
    authentic._key.cache_clear()


def fresh(content=b"text", purpose="test"):
    authentic._key.cache_clear()
    return authentic.hexdigest(purpose, content)


@pytest.mark.skipif(os.name == "nt", reason="modes of files")
def test_the_key_is_made_once_and_is_the_owners_alone(state):
    old = os.umask(0)
    try:
        first = fresh()
    finally:
        os.umask(old)
    assert fresh() == first
    assert stat.S_IMODE((state / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert [path.name for path in state.iterdir()] == ["key"]


@pytest.mark.skipif(os.name == "nt", reason="modes of files")
@pytest.mark.parametrize("spoil", ["cut", "readable", "link"])
def test_a_key_that_others_could_know_is_made_anew(state, tmp_path, spoil):
    first = fresh()
    key = state / "key"
    if spoil == "cut":
        key.write_bytes(b"")
    elif spoil == "readable":
        key.chmod(0o644)
    else:
        key.rename(tmp_path / "theirs")
        key.symlink_to(tmp_path / "theirs")
    second = fresh()
    assert second != first and fresh() == second


def test_purposes_and_everybodys_hashes_are_apart(state):
    mine = fresh()
    assert len(mine) == authentic.DIGITS
    assert fresh(purpose="other") != mine != fresh(b"texT")
    with authentic.without_key():
        theirs = fresh()
        assert not authentic.is_authentic("test", b"text", mine.encode())
    assert theirs != mine and fresh() == mine
    assert authentic.is_authentic("test", b"text", mine.encode())
    assert not authentic.is_authentic("test", b"text", theirs.encode())


def test_where_nothing_can_be_kept_there_is_a_key_all_the_same(tmp_path, monkeypatch):
    """Red: a home that cannot be written to ends every command."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MM1_STATE_DIR", str(tmp_path / "file" / "state"))
    first = fresh()
    assert authentic.hexdigest("test", b"text") == first != fresh()
    authentic._key.cache_clear()
