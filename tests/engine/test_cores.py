"""How many threads are started: of a container's share, not of the machine's cores."""

import os

import pytest

from engine import cores


def found(tmp_path, own, **files):
    (tmp_path / "own").write_text(own)
    for path, content in files.items():
        place = tmp_path / path.replace("__", "/").replace("_at_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    return sorted(cores._paid_cores(tmp_path, tmp_path / "own"))


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/\n", {"cpu_at_max": "150000 100000\n"}, {2}),
        ("0::/\n", {"cpu_at_max": "max 100000\n"}, set()),
        ("0::/a/b\n", {"a__b__cpu_at_max": "max 100000", "a__cpu_at_max": "100000 100000"}, {1}),
        ("0::/host/only/seen\n", {"cpu_at_max": "300000 100000"}, {3}),
        ("0::/../..\n", {"cpu_at_max": "50000 100000"}, {1}),
        (
            "3:cpu,cpuacct:/k\n0::/\n",
            {
                "cpu,cpuacct__k__cpu_at_cfs_quota_us": "400000",
                "cpu,cpuacct__k__cpu_at_cfs_period_us": "100000",
                "cpu,cpuacct__cpu_at_cfs_quota_us": "-1",
                "cpu,cpuacct__cpu_at_cfs_period_us": "100000",
            },
            {4},
        ),
        ("0::/\n", {"cpu_at_max": "what\n"}, set()),
        ("nothing", {}, set()),
    ],
)
def test_the_quota_of_each_group_above_counts(tmp_path, own, files, expected):
    """Red: in a container with a share of 2 of 64 cores, 64 threads wait for each other."""
    assert set(found(tmp_path, own, **files)) == expected


def test_an_engine_starts_no_more_threads_than_it_is_paid_for(monkeypatch):
    monkeypatch.setattr(cores, "_paid_cores", lambda *_: [3, 1])
    assert cores.usable_cores() == 1
    monkeypatch.setattr(cores, "_paid_cores", lambda *_: [])
    if hasattr(os, "sched_getaffinity"):
        assert cores.usable_cores() == len(os.sched_getaffinity(0))
