"""How much is read for a question where not everything fits: what the context has room for, what a
model of its size still makes use of, and what can be read in the time that people wait."""

from engine.api import Engine, usable_cores
from mm1cli.settings import Settings

# Of an AVX2 core while it reads: 42 to 66 were measured of three models (benchmarks/LOG.md). Not
# measured anew: with the same files and settings a run reads the same.
CORE_FLOPS_PER_S = 50e9
# Of the positions it was trained on: in the rest a small model finds little.
TRAINED_SHARE = 0.5


def read_tokens(engine: Engine, settings: Settings) -> int:
    """The most tokens of passages that are worth reading for one question, the context aside."""
    trained = int(engine.max_positions * TRAINED_SHARE)
    if settings.device.partition(":")[0] != "cpu":
        return trained
    if not engine.token_flops:  # a server's speed is not known
        return trained
    cores = settings.threads or usable_cores()
    rate = cores * CORE_FLOPS_PER_S / engine.token_flops
    return min(trained, int(settings.read_seconds * rate))
