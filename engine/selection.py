"""The question selects: far keys are seen by question and answer only in blocks that a retrieval
head chose, at a distance the model was trained for.

Documents see a window and a few sinks, so that reading costs the same per token at any length. The
question is run up to the layer of a head that scores every document key as if it stood at one
fixed distance (retrieval heads: arXiv 2404.15574; one distance for far keys: ReRoPE, InfLLM, arXiv
2402.04617); the best blocks by softmax mass are what question and answer see in the far layers
beside sinks and themselves. The choice is made once, for one for each token loses its thread.
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Self

from engine.config import LayerConfig, Mixer, ModelConfig, SoftmaxOptions
from engine.errors import ConfigError
from engine.protocols import RetrievalHead

MOST_TOKENS = 1_000_000  # of a context that is selected from
_LARGEST = 2**20


@dataclass(frozen=True, slots=True)
class Selection:
    """How a model selects. Raises ConfigError if no model could.

    KV group `scan_kv_head` of layer `scan_layer` scores the keys, as if `distance` tokens away. Of
    the blocks of `block_tokens` the best `num_blocks` are seen, with `margin_tokens` on each side,
    in `far_layers`, which keep all keys; the other softmax layers keep a window. Documents see
    `window_tokens`, themselves included, and `sink_tokens` at the beginning, which are never more
    than `sink_distance` away.
    """

    scan_layer: int
    scan_kv_head: int
    distance: int
    far_layers: tuple[int, ...]
    window_tokens: int = 256
    sink_tokens: int = 4
    sink_distance: int = 1024
    block_tokens: int = 64
    margin_tokens: int = 32
    num_blocks: int = 1

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            if not 0 < getattr(self, name) <= _LARGEST:
                raise ConfigError(f"selection: {name} is {getattr(self, name):.9g}")
        for name in ("scan_layer", "scan_kv_head", "margin_tokens"):
            if not 0 <= getattr(self, name) <= _LARGEST:
                raise ConfigError(f"selection: {name} is {getattr(self, name):.9g}")
        if self.block_tokens & (self.block_tokens - 1):
            raise ConfigError(f"selection: block_tokens {self.block_tokens:,} is no power of 2")
        if self.window_tokens + self.sink_tokens > self.sink_distance:
            raise ConfigError(
                f"selection: sink_distance {self.sink_distance:,} is inside the window of "
                f"{self.window_tokens:,} and {self.sink_tokens:,} tokens"
            )
        if self.scan_layer not in self.far_layers:
            raise ConfigError(
                f"selection: scan_layer {self.scan_layer} keeps no keys; it is no far layer"
            )

    @classmethod
    def loads(cls, text: str) -> Self:
        """What `dumps` gave. Raises ConfigError for anything else."""
        try:
            raw = json.loads(text)
        except ValueError:
            raise ConfigError("selection: not JSON") from None
        names = {field.name for field in fields(cls)}
        if not isinstance(raw, dict) or not raw.keys() <= names:
            raise ConfigError("selection: not an object of its options")
        layers = raw.get("far_layers")
        if not isinstance(layers, list) or not 0 < len(layers) <= 1000:
            raise ConfigError("selection: far_layers must list 1 to 1,000 layers")
        for value in (*layers, *(v for k, v in raw.items() if k != "far_layers")):
            if not isinstance(value, int) or isinstance(value, bool):
                raise ConfigError(f"selection: {value!r:.40} is no integer")
        try:
            return cls(**raw | {"far_layers": tuple(layers)})
        except TypeError as error:
            raise ConfigError(f"selection: {error}") from None

    def dumps(self) -> str:
        """JSON, the same for the same."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def head(self) -> RetrievalHead:
        return RetrievalHead(self.scan_layer, self.scan_kv_head, self.distance)

    @property
    def reading(self) -> str:
        """What documents are read by, as JSON; the rest matters to questions only."""
        return json.dumps({name: getattr(self, name) for name in _OF_READING})


_OF_READING = ("far_layers", "window_tokens", "sink_tokens", "sink_distance")
_AT_LEAST_ONE = (
    "distance",
    "window_tokens",
    "sink_tokens",
    "sink_distance",
    "block_tokens",
    "num_blocks",
)


def selecting(config: ModelConfig, selection: Selection) -> ModelConfig:
    """`config` as it reads with `selection`. Raises ConfigError where the two do not belong
    together."""
    if unknown := [x for x in selection.far_layers if not 0 <= x < config.num_layers]:
        raise ConfigError(f"selection: layer {unknown[0]} of {config.num_layers}")
    if selection.scan_kv_head >= config.num_kv_heads:
        raise ConfigError(f"selection: KV head {selection.scan_kv_head} of {config.num_kv_heads}")
    for name in ("distance", "sink_distance"):
        if (far := getattr(selection, name)) > config.max_positions:
            raise ConfigError(
                f"selection: {name} is {far:,}, more than the {config.max_positions:,} positions "
                "the model was trained for"
            )
    layers = tuple(_selecting(layer, index, selection) for index, layer in enumerate(config.layers))
    longest = max(config.max_positions, MOST_TOKENS)
    return replace(config, layers=layers, selection=selection, max_positions=longest)


def _selecting(layer: LayerConfig, index: int, selection: Selection) -> LayerConfig:
    is_far = index in selection.far_layers
    if layer.mixer is not Mixer.SOFTMAX:
        if is_far:
            raise ConfigError(f"selection: layer {index} is no softmax layer")
        return layer
    options = layer.softmax
    if options.sparse is not None:
        raise ConfigError(f"selection: queries of layer {index} choose blocks themselves")
    if options.log_scale_base:
        raise ConfigError(f"selection: layer {index} scales queries by their position")
    if options.sliding_window:
        if is_far:
            raise ConfigError(f"selection: layer {index} keeps a window only")
        if options.window_tokens + options.sink_tokens > selection.sink_distance:
            return layer
        return replace(layer, softmax=_capped(options, selection))
    windowed = replace(
        options,
        window_tokens=selection.window_tokens,
        sink_tokens=selection.sink_tokens,
        sliding_window=not is_far,
        selected_distance=selection.distance if is_far else 0,
    )
    return replace(layer, softmax=_capped(windowed, selection))


def _capped(options: SoftmaxOptions, selection: Selection) -> SoftmaxOptions:
    is_capped = options.sink_tokens > 0
    return replace(options, sink_distance=selection.sink_distance if is_capped else 0)
