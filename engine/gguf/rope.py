"""The rotary scaling of a GGUF file, as `rope_scaling` of a config.json says it.

Three forms exist: metadata `rope.scaling.*` (linear, YaRN); the tensor `rope_freqs`, by which each
frequency is divided, in which llama.cpp keeps Llama 3's scaling; and the pair `rope_factors_short`
and `rope_factors_long` of LongRoPE.
"""

import math
from typing import Any, Final

import numpy as np
from gguf.constants import GGMLQuantizationType as Kind

from engine.errors import GgufError
from engine.gguf.file import GgufTensor
from engine.gguf.metadata import Values
from engine.gguf.source import Tensors

_LLAMA3: Final = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}  # of every published model
_LLAMA3_TRAINED: Final = 8192
_CLOSE: Final = 1e-4  # relative; the factors are float32 of another program's arithmetic


def rope_scaling(
    values: Values, tensors: Tensors, theta: float, rotary_dim: int
) -> dict[str, Any] | None:
    """None where there is none. Takes the tensors it is made of. Raises GgufError.

    Factors that are not Llama 3's are given as LongRoPE with one list for all lengths, which any
    reader of that form computes rightly.
    """
    kind = values.text("rope.scaling.type", "none")
    if "rope_factors_long.weight" in tensors or kind == "longrope":
        long = _factors(tensors, "rope_factors_long.weight", rotary_dim)
        return _longrope(values, long, _factors(tensors, "rope_factors_short.weight", rotary_dim))
    if "rope_freqs.weight" in tensors:
        if kind != "none":
            raise GgufError(f"the file scales rotary positions twice: {kind} and rope_freqs")
        return _by_frequency(
            values, _factors(tensors, "rope_freqs.weight", rotary_dim), theta, rotary_dim
        )
    if kind == "none":
        factor = values.positive("rope.scale_linear", 1.0)
        return None if factor == 1 else {"rope_type": "linear", "factor": factor}
    if kind not in ("linear", "yarn"):
        raise GgufError(f"the rotary scaling {kind!r:.80} is not supported")
    factor = values.positive("rope.scaling.factor")
    return _yarn(values, factor) if kind == "yarn" else {"rope_type": "linear", "factor": factor}


def _yarn(values: Values, factor: float) -> dict[str, Any]:
    """llama.cpp multiplies YaRN's own attention factor by `attn_factor`; Hugging Face replaces it
    (arXiv 2309.00071, section 3.4)."""
    if values.number("rope.scaling.yarn_ext_factor", 1.0) not in (1.0, -1.0):
        raise GgufError("YaRN with another extrapolation factor than 1 is not supported")
    if values.number("rope.scaling.yarn_log_multiplier", 0.0) != 0:
        raise GgufError("YaRN with a log multiplier is not supported")
    trained = values.count("rope.scaling.original_context_length", values.count("context_length"))
    scaling: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": trained,
    }
    for beta in ("beta_fast", "beta_slow"):
        if values.has(f"rope.scaling.yarn_{beta}"):
            scaling[beta] = values.positive(f"rope.scaling.yarn_{beta}")
    if values.has("rope.scaling.yarn_attn_factor"):
        scaling["attention_factor"] = values.positive("rope.scaling.yarn_attn_factor")
    elif (times := values.positive("rope.scaling.attn_factor", 1.0)) != 1:
        scaling["attention_factor"] = times * (0.1 * math.log(max(factor, 1.0)) + 1)
    return scaling


def _longrope(values: Values, long: list[float], short: list[float]) -> dict[str, Any]:
    context = values.count("context_length")
    trained = values.count("rope.scaling.original_context_length", context)
    scaling: dict[str, Any] = {
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "factor": context / trained,
        "original_max_position_embeddings": trained,
    }
    usual = 1.0
    if context > trained > 1:
        usual = math.sqrt(1 + math.log(context / trained) / math.log(trained))
    told = values.positive("rope.scaling.attn_factor", 1.0)
    if abs(told - usual) > _CLOSE:
        scaling["attention_factor"] = told
    return scaling


def _by_frequency(
    values: Values, factors: list[float], theta: float, rotary_dim: int
) -> dict[str, Any]:
    largest = max(factors)
    trained = values.count("rope.scaling.original_context_length", _LLAMA3_TRAINED)
    turns = trained / (2 * math.pi) * theta ** (-np.arange(0, rotary_dim, 2) / rotary_dim)
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0, 1)
    if np.allclose(1 / (kept + (1 - kept) / largest), factors, rtol=_CLOSE, atol=0):
        own = {"factor": largest, "original_max_position_embeddings": trained}
        return {"rope_type": "llama3", **_LLAMA3, **own}
    return {
        "rope_type": "longrope",
        "short_factor": factors,
        "long_factor": factors,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": values.count("context_length"),
    }


def _factors(tensors: Tensors, name: str, rotary_dim: int) -> list[float]:
    found: GgufTensor = tensors.take(name, (rotary_dim // 2,))
    if found.kind is not Kind.F32:
        raise GgufError(f"{name} is {found.kind.name} where F32 is expected")
    numbers = found.packed.reshape(-1).view("<f4")
    if not (np.isfinite(numbers).all() and (numbers > 0).all()):
        raise GgufError(f"{name} holds values that are not positive numbers")
    return [float(str(number)) for number in numbers]


def partial_factor(rotary_dim: int, head_dim: int) -> float:
    """The share of a head that is rotated: what readers round down to `rotary_dim` again."""
    share = rotary_dim / head_dim
    return share if int(head_dim * share) == rotary_dim else math.nextafter(share, 1.0)
