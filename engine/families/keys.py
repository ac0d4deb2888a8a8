"""Typed look-ups in a config.json, which is hostile input until it has been through here."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from engine.errors import ConfigError

Raw = Mapping[str, Any]


def integer(raw: Raw, key: str, default: int | None = None) -> int:
    value = raw.get(key, default)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"config: {key} must be an integer, got {value!r:.80}")
    return value


def number(raw: Raw, key: str, default: float | None = None) -> float:
    value = raw.get(key, default)
    if value is None:
        value = default
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
        raise ConfigError(f"config: {key} must be a number, got {value!r:.80}")
    return float(value)


def numbers(raw: Raw, key: str) -> tuple[float, ...]:
    """A list of numbers; empty if absent or null."""
    values = raw.get(key)
    if values is None:
        return ()
    if not isinstance(values, list) or len(values) > 65_536:
        raise ConfigError(f"config: {key} must be a list of numbers, got {values!r:.80}")
    return tuple(number({key: value}, key) for value in values)


def flag(raw: Raw, key: str, default: bool) -> bool:
    value = raw.get(key)
    if value is None:
        value = default
    if not isinstance(value, bool):
        raise ConfigError(f"config: {key} must be true or false, got {value!r:.80}")
    return value


def token_ids(raw: Raw, key: str) -> tuple[int, ...]:
    """One id, a list of ids, or null."""
    value = raw.get(key)
    if value is None:
        return ()
    ids = value if isinstance(value, list) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        raise ConfigError(f"config: {key} must be a token id or a list of them, got {value!r:.80}")
    return tuple(ids)


def require(raw: Raw, key: str, allowed: tuple[object, ...]) -> None:
    """`key` is absent or one of `allowed`; anything else would be computed wrongly."""
    if key in raw and raw[key] not in allowed:
        options = " or ".join(repr(value) for value in allowed)
        raise ConfigError(f"config: {key} = {raw[key]!r:.80} is not supported, only {options}")


def rope_theta(raw: Raw, default: float) -> float:
    """From `rope_theta`, or from `rope_parameters` as newer files spell it."""
    nested = raw.get("rope_parameters")
    if isinstance(nested, dict) and "rope_theta" in nested:
        theta = number(nested, "rope_theta")
    else:
        theta = number(raw, "rope_theta", default)
    if theta <= 0:
        raise ConfigError(f"config: rope_theta must be positive, got {theta}")
    return theta


def rope_scaling(raw: Raw) -> tuple[object, Raw]:
    """The kind of rotary scaling ("default" is none) and its settings, under either spelling."""
    settings = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    if not isinstance(settings, dict):
        raise ConfigError(f"config: rope_scaling must be an object, got {settings!r:.80}")
    return settings.get("rope_type", settings.get("type", "default")), settings


def frequencies(theta: float, rotary_dim: int) -> tuple[float, ...]:
    """Inverse frequencies theta^(-2i / rotary_dim) (RoPE, arXiv 2104.09864, section 3.3)."""
    if not 0 <= rotary_dim <= 65_536 or rotary_dim % 2:
        raise ConfigError(f"config: rotary_dim must be even and at most 65,536, got {rotary_dim}")
    return tuple(theta ** (-2 * i / rotary_dim) for i in range(rotary_dim // 2))
