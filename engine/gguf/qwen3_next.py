"""Architectures "qwen3next", "qwen35" and "qwen35moe": Qwen3-Next, Qwen3.5 and Qwen3.6.

Names and keys as of llama.cpp's converter and loaders (conversion/qwen.py, src/models/qwen35.cpp).
Every norm but that inside delta layers is stored + 1, the decay as -exp(A_log), the convolution
without its dimension of 1; q has its gate among its rows, as published.

In "qwen35" and "qwen35moe" value heads are tiled: value v belongs to key v modulo the number of
keys, in rows and in the columns of the output. A directory has them grouped by key; where the file
lies the layer itself does that, since columns could not change places within blocks.

In "qwen3next" values are grouped, and q, k, v and z stand by kind, so it is described as the MoE of
Qwen3.5, which is the same model otherwise; only b and a are interleaved. Files of the first
converter have one tensor `ssm_in` of q, k, v and z as published, and are Qwen3-Next to the letter.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from engine.errors import GgufError
from engine.gguf.file import GgufFile, GgufTensor
from engine.gguf.llama import Config, common_config, count_layers, head_sizes, rotated
from engine.gguf.metadata import Values, flags
from engine.gguf.rope import partial_factor, rope_scaling
from engine.gguf.source import Described, Order, Source, Tensors, unstacked

ARCHITECTURES: Final = ("qwen3next", "qwen35", "qwen35moe")

_PERIOD: Final = 4  # every fourth layer is softmax where the file does not say


@dataclass(frozen=True, slots=True)
class _Delta:
    num_keys: int
    num_values: int
    key_dim: int
    value_dim: int
    taps: int

    @property
    def keys(self) -> int:
        return self.num_keys * self.key_dim

    @property
    def values(self) -> int:
        return self.num_values * self.value_dim

    @property
    def channels(self) -> int:
        return 2 * self.keys + self.values

    def grouped(self, width: int) -> Order:
        """The tiled places of value heads of `width` rows, key by key."""
        places = np.arange(self.num_values * width, dtype=np.int64)
        return places.reshape(-1, self.num_keys, width).swapaxes(0, 1).ravel()

    def interleaved(self, part: int) -> Order:
        """The rows of b (0) or a (1) where both stand key by key."""
        places = np.arange(2 * self.num_values, dtype=np.int64)
        return places.reshape(self.num_keys, 2, -1)[:, part].ravel()


def describe(file: GgufFile, name: str, *, in_place: bool) -> Described:
    """Raises GgufError if metadata and tensors contradict each other or are not supported."""
    tensors, values = Tensors(file.tensors), Values(file.metadata, name)
    is_first = "blk.0.ssm_in.weight" in tensors and name == "qwen3next"
    delta, kinds = _delta(values), _layer_types(values)
    is_tiled = name != "qwen3next" and delta.num_keys != delta.num_values
    config = _config(values, tensors, delta, kinds)
    if name == "qwen35":
        config |= _named("qwen3_5_text", "Qwen3_5ForCausalLM")
        config["intermediate_size"] = values.count("feed_forward_length")
    else:
        own = ("qwen3_next", "Qwen3Next") if is_first else ("qwen3_5_moe_text", "Qwen3_5Moe")
        config |= _named(own[0], f"{own[1]}ForCausalLM") | _experts(values)
    if is_tiled and in_place:
        config["linear_value_heads_tiled"] = True
    taken = _Taken(tensors, config, delta, is_tiled and not in_place)
    for layer, kind in enumerate(kinds):
        taken.add_layer(layer, kind, is_first=is_first)
    for layer in range(len(kinds), count_layers(values)):  # they draft further tokens
        tensors.leave(f"blk.{layer}.")
    return Described(config, taken.finish(name))


def _named(model_type: str, class_name: str) -> Config:
    return {"architectures": [class_name], "model_type": model_type}


def _delta(values: Values) -> _Delta:
    num_keys, num_values = values.count("ssm.group_count"), values.count("ssm.time_step_rank")
    inner = values.count("ssm.inner_size")
    if num_values % num_keys or inner % num_values:
        raise GgufError(
            f"{num_keys} keys and {num_values} values of {inner} numbers together do not fit"
        )
    return _Delta(
        num_keys,
        num_values,
        values.count("ssm.state_size"),
        inner // num_values,
        values.count("ssm.conv_kernel"),
    )


def _layer_types(values: Values) -> list[str]:
    """Of the layers that are no drafts, which stand behind them."""
    total = count_layers(values)
    drafts = values.integer("nextn_predict_layers", 0)
    if not 0 <= drafts < total:
        raise GgufError(f"{drafts} of {total} layers draft further tokens")
    if values.has("attention.recurrent_layers"):
        key = f"{values.architecture}.attention.recurrent_layers"
        is_delta = flags(values.metadata, key, total)
    else:
        period = values.count("full_attention_interval", _PERIOD)
        is_delta = [(layer + 1) % period != 0 for layer in range(total)]
    names = ("full_attention", "linear_attention")
    return [names[each] for each in is_delta[: total - drafts]]


def _config(values: Values, tensors: Tensors, delta: _Delta, kinds: list[str]) -> Config:
    *_, head_dim = head_sizes(values)
    rotary_dim, theta = rotated(values, head_dim), values.positive("rope.freq_base", 10000.0)
    rope = {
        "rope_type": "default",
        "rope_theta": theta,
        "partial_rotary_factor": partial_factor(rotary_dim, head_dim),
        **(rope_scaling(values, tensors, theta, rotary_dim) or {}),
    }
    return {
        **common_config(values, tensors),
        "num_hidden_layers": len(kinds),
        "head_dim": head_dim,
        "layer_types": kinds,
        "attention_bias": False,
        "rope_parameters": rope,
        "linear_num_key_heads": delta.num_keys,
        "linear_num_value_heads": delta.num_values,
        "linear_key_head_dim": delta.key_dim,
        "linear_value_head_dim": delta.value_dim,
        "linear_conv_kernel_dim": delta.taps,
    }


def _experts(values: Values) -> dict[str, Any]:
    """Every layer has experts, whose weights are made to sum to 1."""
    return {
        "num_experts": values.count("expert_count"),
        "num_experts_per_tok": values.count("expert_used_count"),
        "moe_intermediate_size": values.count("expert_feed_forward_length"),
        "shared_expert_intermediate_size": values.count("expert_shared_feed_forward_length"),
        "norm_topk_prob": True,
    }


class _Taken:
    """The sources so far. With `reorders` value heads are to be grouped by their keys."""

    def __init__(self, tensors: Tensors, config: Config, delta: _Delta, reorders: bool) -> None:
        self._tensors, self._config, self._delta = tensors, config, delta
        self._reorders = reorders
        self._hidden: int = config["hidden_size"]
        self._found: list[Source] = []
        self._take("token_embd.weight", "model.embed_tokens.weight", self._embeddings)

    @property
    def _embeddings(self) -> tuple[int, int]:
        return self._config["vocab_size"], self._hidden

    def add_layer(self, layer: int, kind: str, *, is_first: bool) -> None:
        there, here = f"blk.{layer}.", f"model.layers.{layer}."
        self._norm(f"{there}attn_norm", f"{here}input_layernorm", self._hidden)
        self._norm(f"{there}post_attention_norm", f"{here}post_attention_layernorm", self._hidden)
        if kind == "full_attention":
            self._softmax(there, f"{here}self_attn.")
        else:
            self._delta_layer(there, f"{here}linear_attn.", is_first=is_first)
        if "num_experts" in self._config:
            self._mixture(there, f"{here}mlp.")
        else:
            self._mlp(there, f"{here}mlp.", self._config["intermediate_size"], "")

    def finish(self, model: str) -> list[Source]:
        """Raises GgufError if the file has a tensor that was not taken."""
        self._norm("output_norm", "model.norm", self._hidden)
        if not self._config["tie_word_embeddings"]:
            self._take("output.weight", "lm_head.weight", self._embeddings)
        self._tensors.finish(model)
        return self._found

    def _take(self, theirs: str, ours: str, shape: tuple[int, ...], **own: Any) -> None:  # noqa: ANN401
        self._found.append(Source(ours, self._tensors.take(theirs, shape), **own))

    def _norm(self, theirs: str, ours: str, width: int) -> None:
        self._take(f"{theirs}.weight", f"{ours}.weight", (width,), shift=-1.0)

    def _softmax(self, there: str, here: str) -> None:
        config, head_dim = self._config, self._config["head_dim"]
        query = config["num_attention_heads"] * head_dim
        key_value = (config["num_key_value_heads"] * head_dim, self._hidden)
        self._take(f"{there}attn_q.weight", f"{here}q_proj.weight", (2 * query, self._hidden))
        self._take(f"{there}attn_k.weight", f"{here}k_proj.weight", key_value)
        self._take(f"{there}attn_v.weight", f"{here}v_proj.weight", key_value)
        self._take(f"{there}attn_output.weight", f"{here}o_proj.weight", (self._hidden, query))
        self._norm(f"{there}attn_q_norm", f"{here}q_norm", head_dim)
        self._norm(f"{there}attn_k_norm", f"{here}k_norm", head_dim)

    def _delta_layer(self, there: str, here: str, *, is_first: bool) -> None:
        delta, hidden = self._delta, self._hidden
        heads, channels, values = delta.num_values, delta.channels, delta.values
        if is_first:
            whole = (channels + values, hidden)
            self._take(f"{there}ssm_in.weight", f"{here}in_proj_qkvz.weight", whole)
            self._take(f"{there}ssm_ba.weight", f"{here}in_proj_ba.weight", (2 * heads, hidden))
        else:
            self._ordered(
                f"{there}attn_qkv.weight", f"{here}in_proj_qkv.weight", (channels, hidden)
            )
            self._ordered(f"{there}attn_gate.weight", f"{here}in_proj_z.weight", (values, hidden))
            self._gates(there, here)
        self._ordered(
            f"{there}ssm_conv1d.weight",
            f"{here}conv1d.weight",
            (channels, delta.taps),
            published_shape=(channels, 1, delta.taps),
        )
        self._ordered(f"{there}ssm_a", f"{here}A_log", (heads,), holds_decay=True)
        self._ordered(f"{there}ssm_dt.bias", f"{here}dt_bias", (heads,))
        self._take(f"{there}ssm_norm.weight", f"{here}norm.weight", (delta.value_dim,))
        self._ordered(f"{there}ssm_out.weight", f"{here}out_proj.weight", (hidden, values), axis=1)

    def _gates(self, there: str, here: str) -> None:
        heads, hidden = self._delta.num_values, self._hidden
        if f"{there}ssm_ba.weight" not in self._tensors:
            self._ordered(f"{there}ssm_beta.weight", f"{here}in_proj_b.weight", (heads, hidden))
            self._ordered(f"{there}ssm_alpha.weight", f"{here}in_proj_a.weight", (heads, hidden))
            return
        both = self._tensors.take(f"{there}ssm_ba.weight", (2 * heads, hidden))
        for part, name in enumerate("ba"):
            order = self._delta.interleaved(part)
            self._found.append(Source(f"{here}in_proj_{name}.weight", both, row_order=order))

    def _ordered(
        self,
        theirs: str,
        ours: str,
        shape: tuple[int, ...],
        *,
        axis: int = 0,
        **own: Any,  # noqa: ANN401
    ) -> None:
        """Of value heads along `axis`. An order is only made of as many rows as the file has."""
        tensor = self._tensors.take(theirs, shape)
        order = self._order(shape[axis])
        rows, columns = (None, order) if axis else (order, None)
        self._found.append(Source(ours, tensor, row_order=rows, column_order=columns, **own))

    def _order(self, count: int) -> Order | None:
        """Of so many rows: one of each value head, or all of each, with q and k before or not."""
        if not self._reorders:
            return None
        delta = self._delta
        if count == delta.num_values:
            return delta.grouped(1)
        before = count - delta.values
        return np.concatenate([np.arange(before), before + delta.grouped(delta.value_dim)])

    def _mlp(self, there: str, here: str, width: int, kind: str) -> None:
        for name in ("gate", "up"):
            shape = (width, self._hidden)
            self._take(f"{there}ffn_{name}{kind}.weight", f"{here}{name}_proj.weight", shape)
        shape = (self._hidden, width)
        self._take(f"{there}ffn_down{kind}.weight", f"{here}down_proj.weight", shape)

    def _mixture(self, there: str, here: str) -> None:
        config, hidden = self._config, self._hidden
        count, width = config["num_experts"], config["moe_intermediate_size"]
        self._take(f"{there}ffn_gate_inp.weight", f"{here}gate.weight", (count, hidden))
        for name, experts in self._stacks(there, count, width).items():
            for number, expert in enumerate(experts):
                ours = f"{here}experts.{number}.{name}_proj.weight"
                self._found.append(Source(ours, expert))
        self._mlp(
            there, f"{here}shared_expert.", config["shared_expert_intermediate_size"], "_shexp"
        )
        # One row, of which some converters make a vector.
        gate = self._tensors.take(f"{there}ffn_gate_inp_shexp.weight", (hidden,), (1, hidden))
        name = f"{here}shared_expert_gate.weight"
        self._found.append(Source(name, gate, published_shape=(1, hidden)))

    def _stacks(self, there: str, count: int, width: int) -> dict[str, list[GgufTensor]]:
        """The experts of a layer: gate, up and down, of which the first two may be one tensor."""
        down = (count, self._hidden, width)
        found = {"down": unstacked(self._tensors.take(f"{there}ffn_down_exps.weight", down))}
        if (fused := f"{there}ffn_gate_up_exps.weight") in self._tensors:
            both = self._tensors.take(fused, (count, 2 * width, self._hidden))
            halves = GgufTensor(both.kind, (2 * count, width, self._hidden), both.packed)
            each = unstacked(halves)
            return {"gate": each[::2], "up": each[1::2], **found}
        for name in ("gate", "up"):
            stack = self._tensors.take(
                f"{there}ffn_{name}_exps.weight", (count, width, self._hidden)
            )
            found[name] = unstacked(stack)
        return found
