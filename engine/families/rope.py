"""Rotary scaling of published checkpoints: how far context goes beyond what was trained first."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigError
from engine.families import keys


@dataclass(frozen=True, slots=True)
class Rope:
    """Inverse frequencies (radians per position) of the rotated pairs, and what cosines and sines
    are multiplied by."""

    frequencies: tuple[float, ...]
    attention_factor: float = 1.0


def read(raw: keys.Raw, rotary_dim: int, default_theta: float) -> Rope:
    """Of `rope_theta` and `rope_scaling`, or of `rope_parameters` as newer files spell them."""
    theta = keys.rope_theta(raw, default_theta)
    kind, settings = keys.rope_scaling(raw)
    return scaled(raw, theta, rotary_dim, kind, settings)


def score_factor(raw: keys.Raw) -> float:
    """What the scores of latent attention are times: the square of YaRN's factor for all
    dimensions, where the file has one (`mscale_all_dim`)."""
    kind, settings = keys.rope_scaling(raw)
    all_dims = keys.number(settings, "mscale_all_dim", 0.0)
    if kind != "yarn" or not all_dims:
        return 1.0
    trained = _positive(settings, "original_max_position_embeddings", _max_positions(raw))
    factor = _positive(settings, "factor", _max_positions(raw) / trained)
    return _sharper(factor, all_dims) ** 2


def rotary_dim(raw: keys.Raw, head_dim: int, share: float = 1.0) -> int:
    """How much of a head is rotated: the share `partial_rotary_factor`, or `share` if unsaid."""
    nested = raw.get("rope_parameters")
    places = [nested, raw] if isinstance(nested, dict) else [raw]
    told = next((x for x in places if x.get("partial_rotary_factor") is not None), {})
    share = keys.number(told, "partial_rotary_factor", share)
    if not 0 <= share <= 1:
        raise ConfigError(f"config: partial_rotary_factor is {share:.9g}, expected 0 to 1")
    return int(head_dim * share)


def of_layers(
    raw: keys.Raw, kind: str, rotary_dim: int, default_theta: float, scaling: keys.Raw | None
) -> Rope:
    """Of the layers of `kind`, full_attention or sliding_attention, in files that tell them apart.

    `default_theta` and `scaling` are what older files say of that kind of layer.
    """
    nested = raw.get("rope_parameters")
    own = nested.get(kind) if isinstance(nested, dict) else None
    if own is None:
        settings = {} if scaling is None else scaling
        return scaled(raw, default_theta, rotary_dim, _kind(settings), settings)
    if not isinstance(own, dict):
        raise ConfigError(f"config: rope_parameters of {kind} must be an object, got {own!r:.80}")
    theta = keys.rope_theta({"rope_parameters": own}, default_theta)
    return scaled(raw, theta, rotary_dim, _kind(own), own)


def scaled(raw: keys.Raw, theta: float, rotary_dim: int, kind: object, settings: keys.Raw) -> Rope:
    """The frequencies of `theta`, changed as the scaling `kind` says. Raises ConfigError."""
    plain = keys.frequencies(theta, rotary_dim)
    scale = _SCALINGS.get(kind) if isinstance(kind, str) else None
    if scale is None:
        known = ", ".join(_SCALINGS)
        raise ConfigError(f"config: rope type {kind!r:.80} is not supported, only {known}")
    return scale(plain, theta, settings, raw)


Frequencies = tuple[float, ...]


def _default(plain: Frequencies, _theta: float, _settings: keys.Raw, _raw: keys.Raw) -> Rope:
    return Rope(plain)


def _linear(plain: Frequencies, _theta: float, settings: keys.Raw, _raw: keys.Raw) -> Rope:
    """Position interpolation (arXiv 2306.15595)."""
    factor = _positive(settings, "factor")
    return Rope(tuple(frequency / factor for frequency in plain))


def _llama3(plain: Frequencies, _theta: float, settings: keys.Raw, _raw: keys.Raw) -> Rope:
    """Low frequencies are divided by `factor`, high ones kept, those between in proportion."""
    factor, low, high = (
        keys.number(settings, key) for key in ("factor", "low_freq_factor", "high_freq_factor")
    )
    trained = _positive(settings, "original_max_position_embeddings")
    if factor <= 0 or high <= low:
        raise ConfigError("config: llama3 rope needs factor > 0 and high_freq_factor over low")

    def one(frequency: float) -> float:
        turns = trained * frequency / (2 * math.pi)  # full turns within the trained length
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        return kept * frequency + (1 - kept) * frequency / factor

    return Rope(tuple(map(one, plain)))


def _yarn(plain: Frequencies, theta: float, settings: keys.Raw, raw: keys.Raw) -> Rope:
    """YaRN (arXiv 2309.00071, sections 3.2 and 3.4): as llama3, by turns in trained positions, and
    attention is sharper by `attention_factor`."""
    trained = _positive(settings, "original_max_position_embeddings", _max_positions(raw))
    factor = _positive(settings, "factor", _max_positions(raw) / trained)
    fast, slow = (
        _positive({key: settings.get(key) or default}, key)
        for key, default in (("beta_fast", 32.0), ("beta_slow", 1.0))
    )
    if theta <= 1:
        raise ConfigError(f"config: yarn needs a rope_theta over 1, got {theta:.9g}")

    def pair_of(turns: float) -> float:
        """The pair, not a whole one, that makes so many turns in the trained positions."""
        rotary_dim = 2 * len(plain)
        return rotary_dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair_of(fast), pair_of(slow)
    if keys.flag(settings, "truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * len(plain) - 1)
    width = last - first or 0.001

    def one(pair: int, frequency: float) -> float:
        kept = 1 - min(max((pair - first) / width, 0.0), 1.0)
        return kept * frequency + (1 - kept) * frequency / factor

    sharper = _yarn_factor(settings, factor)
    if settings.get("attention_factor") is not None:
        sharper = _positive(settings, "attention_factor")
    return Rope(tuple(one(pair, each) for pair, each in enumerate(plain)), sharper)


def _yarn_factor(settings: keys.Raw, factor: float) -> float:
    mscale, all_dims = (keys.number(settings, key, 0.0) for key in ("mscale", "mscale_all_dim"))
    if mscale and all_dims:
        return _sharper(factor, mscale) / _sharper(factor, all_dims)
    return _sharper(factor, 1.0)


def _sharper(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _longrope(plain: Frequencies, _theta: float, settings: keys.Raw, raw: keys.Raw) -> Rope:
    """LongRoPE (arXiv 2402.13753): each frequency is divided by a factor of its own.

    Of the two lists the long one is taken wherever the model reads further than it was trained at
    first: keys that are kept cannot change when a context grows, so the length of the model decides
    and not that of a prompt, as in vLLM and llama.cpp.
    """
    key = "original_max_position_embeddings"
    trained = _positive(settings if raw.get(key) is None else raw, key)
    reach = _max_positions(raw)
    factors = keys.numbers(settings, "long_factor" if reach > trained else "short_factor")
    if len(factors) != len(plain) or not all(factor > 0 for factor in factors):
        raise ConfigError(
            f"config: longrope needs {len(plain)} positive factors, one for each pair, "
            f"got {len(factors)}"
        )
    factor = _positive(settings, "factor", reach / trained)
    sharper = 1.0
    if settings.get("attention_factor") is not None:
        sharper = _positive(settings, "attention_factor")
    elif factor > 1 and trained > 1:
        sharper = math.sqrt(1 + math.log(factor) / math.log(trained))
    return Rope(tuple(f / each for f, each in zip(plain, factors, strict=True)), sharper)


_SCALINGS: dict[str, Callable[[Frequencies, float, keys.Raw, keys.Raw], Rope]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,  # its name in the first Phi-3 files
}


def _kind(settings: keys.Raw) -> Any:  # noqa: ANN401 (JSON)
    return settings.get("rope_type", settings.get("type", "default"))


def _max_positions(raw: keys.Raw) -> int:
    return keys.integer(raw, "max_position_embeddings")


def _positive(settings: keys.Raw, key: str, default: float | None = None) -> float:
    if (value := keys.number(settings, key, default)) <= 0:
        raise ConfigError(f"config: {key} of the rope must be over 0, got {value:.9g}")
    return value
