"""MiniMax's mixture of experts, for every family that has one: tensors, and the shared expert."""

from engine.config import ModelConfig
from engine.families import decoder, keys
from engine.families.family import Sources


def shared_size(raw: keys.Raw) -> int:
    """Inner width of the expert that every token passes; 0 if there is none."""
    size = keys.integer(raw, "shared_intermediate_size", 0)
    if size:
        keys.require(raw, "shared_moe_mode", ("sigmoid",))
    return size


def sources(config: ModelConfig, ours: str, theirs: str) -> Sources:
    """Of the MLP `ours` in the layer `theirs`."""
    experts = [f"{theirs}.block_sparse_moe.experts.{e}" for e in range(config.num_experts)]
    names = {
        f"{ours}.router": (f"{theirs}.block_sparse_moe.gate.weight",),
        f"{ours}.gate_up": tuple(f"{e}.{w}.weight" for e in experts for w in ("w1", "w3")),
        f"{ours}.down": tuple(f"{e}.w2.weight" for e in experts),
    }
    if config.shared_mlp_size:
        names |= decoder.dense(f"{ours}.shared", f"{theirs}.shared_mlp")
        names[f"{ours}.shared_coefficient"] = (f"{theirs}.coefficient.weight",)
    return names
