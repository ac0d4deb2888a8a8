"""`mm1 map` on Ray Data: one task for each shard, anywhere in the cluster.

    pip install 'ray[data]'
    python examples/ray_map.py letters answers --shards 64 -- --ask "Who writes?" \
        --server http://gpu7:8000

What stands behind `--` goes to `mm1 map` as it is. Documents and the folder of answers must be
where every node sees them, under the same path. A task that Ray starts again, on another node too,
goes on behind the lines that its shard has; so does this whole command.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ray


def shard_lines(
    row: dict[str, int], documents: str, answers: str, count: int, options: list[str]
) -> Iterator[dict[str, object]]:
    """Runs one shard and yields its lines, whose `json` is as `mm1 map` wrote it."""
    number = row["id"] + 1
    output = Path(answers) / f"{number}-of-{count}.jsonl"
    command = [sys.executable, "-m", "mm1cli", "map", documents, "-o", str(output)]
    command += ["--shard", f"{number}/{count}", "--quiet", *options]
    ran = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"shard {number}/{count}: {ran.stderr.strip()}")
    with output.open(encoding="utf-8") as lines:
        for line in lines:
            yield {"shard": number, "json": line}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("documents", type=Path)
    parser.add_argument("answers", type=Path, help="folder of answers, one file for each shard")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument(
        "--cpus", type=float, default=1, help="of a task; all of a node's, if the model runs there"
    )
    parser.add_argument("options", nargs="+", help="of mm1 map, behind --")
    given = parser.parse_args()
    given.answers.mkdir(parents=True, exist_ok=True)
    where = (str(given.documents.resolve()), str(given.answers.resolve()))
    shards = ray.data.range(given.shards, override_num_blocks=given.shards)
    told = shards.flat_map(
        shard_lines, fn_args=(*where, given.shards, given.options), num_cpus=given.cpus
    )
    print(f"{told.count():,} lines", flush=True)
    files = sorted(map(str, given.answers.glob(f"*-of-{given.shards}.jsonl")))
    merge = [sys.executable, "-m", "mm1cli", "merge", *files, "--strict"]
    sys.exit(subprocess.run(merge, check=False).returncode)


if __name__ == "__main__":
    main()
