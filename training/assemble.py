"""From the shards of a job and the parent, a checkpoint that `mm1 --model DIR` opens.

python -m training.assemble OUT/distil PARENT DIR
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file

from engine.config import ModelConfig
from engine.families import family_named, family_of
from training import shards
from training.export import write_checkpoint


def assemble(results: Path, parent: Path, directory: Path) -> ModelConfig:
    """Writes the checkpoint; replaces one that is there.

    Raises ValueError if shards are missing or damaged, or were made from another parent.
    """
    manifest, changed = shards.read(results)
    tensors = load_file(parent / "model.safetensors")
    if shards.fingerprint(tensors) != manifest["parent"]:
        raise ValueError(f"{parent} is not the model that {results} was made from")
    tensors |= changed
    config = family_of(manifest["config"]).read_config(manifest["config"])
    sources = family_named(config.family).sources(config)
    names = [name for group in sources.values() for name in group]
    if absent := [name for name in names if name not in tensors]:
        raise ValueError(f"{results}: {absent[0]} is neither there nor in the parent")
    wanted = {name: tensors[name] for name in names}
    write_checkpoint(wanted, manifest["config"], parent, directory)
    return config


def command(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="the folder of a stage, with its manifest")
    parser.add_argument("parent", type=Path)
    parser.add_argument("directory", type=Path)
    options = parser.parse_args(arguments)
    try:
        assemble(options.results, options.parent, options.directory)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    command()
