"""Llama and the architectures of its shape: metadata and tensor names -> a Hugging Face directory.

Names and meanings as of llama.cpp's converters; the config is what transformers writes for the
model. Rows of q and k are stored permuted, for rotary pairs that stand side by side, in llama,
smollm3 and granite, and nowhere else.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import GgufError
from engine.gguf.file import GgufFile
from engine.gguf.metadata import Values, end_ids, length, token_id
from engine.gguf.rope import partial_factor, rope_scaling
from engine.gguf.source import Described, Source, Tensors, unstacked

_MOST_LAYERS: Final = 2**16  # before a list is made of so many

# (name there, name here, what its dimensions are: see `_Sizes`)
Rows = tuple[tuple[str, str, str], ...]
_QKV: Final[Rows] = (
    ("attn_q", "self_attn.q_proj", "qh"),
    ("attn_k", "self_attn.k_proj", "kh"),
    ("attn_v", "self_attn.v_proj", "kh"),
)
_OUT: Final[Rows] = (("attn_output", "self_attn.o_proj", "hq"),)
_PRE_NORMS: Final[Rows] = (
    ("attn_norm", "input_layernorm", "h"),
    ("ffn_norm", "post_attention_layernorm", "h"),
)
_HEAD_NORMS: Final[Rows] = (
    ("attn_q_norm", "self_attn.q_norm", "d"),
    ("attn_k_norm", "self_attn.k_norm", "d"),
)
_MLP: Final[Rows] = (
    ("ffn_gate", "mlp.gate_proj", "ih"),
    ("ffn_up", "mlp.up_proj", "ih"),
    ("ffn_down", "mlp.down_proj", "hi"),
)
_LLAMA: Final[Rows] = (*_QKV, *_OUT, *_PRE_NORMS, *_MLP)
_OLMO: Final[Rows] = (
    *(*_QKV, *_OUT, *_MLP),
    ("attn_q_norm", "self_attn.q_norm", "q"),
    ("attn_k_norm", "self_attn.k_norm", "k"),
    ("post_attention_norm", "post_attention_layernorm", "h"),
    ("post_ffw_norm", "post_feedforward_layernorm", "h"),
)
_GEMMA: Final[Rows] = (
    *(*_QKV, *_OUT, *_MLP, *_HEAD_NORMS),
    ("attn_norm", "input_layernorm", "h"),
    ("post_attention_norm", "post_attention_layernorm", "h"),
    ("ffn_norm", "pre_feedforward_layernorm", "h"),
    ("post_ffw_norm", "post_feedforward_layernorm", "h"),
)
_PHI: Final[Rows] = (
    ("attn_qkv", "self_attn.qkv_proj", "fh"),
    *(*_OUT, *_PRE_NORMS),
    ("ffn_up", "mlp.gate_up_proj", "gh"),
    ("ffn_down", "mlp.down_proj", "hi"),
)
_EXPERTS: Final[Rows] = (
    ("ffn_gate_exps", "gate_proj", "emh"),
    ("ffn_up_exps", "up_proj", "emh"),
    ("ffn_down_exps", "down_proj", "ehm"),
)
_QKV_BIASES: Final = frozenset({"attn_q", "attn_k", "attn_v"})
_ATTENTION_BIASES: Final = _QKV_BIASES | {"attn_output"}
_MLP_BIASES: Final = frozenset({"ffn_gate", "ffn_up", "ffn_down"})


@dataclass(frozen=True, slots=True)
class _Sizes:
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    inner: int
    num_experts: int
    expert_inner: int

    def shape(self, letters: str) -> tuple[int, ...]:
        query, key_value = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        sizes = {
            "h": self.hidden,
            "q": query,
            "k": key_value,
            "f": query + 2 * key_value,
            "d": self.head_dim,
            "i": self.inner,
            "g": 2 * self.inner,
            "e": self.num_experts,
            "m": self.expert_inner,
        }
        return tuple(sizes[letter] for letter in letters)


@dataclass(frozen=True, slots=True)
class _Open:
    """A file while it is being described. `biases` are those of the tensors that have one."""

    values: Values
    sizes: _Sizes
    num_layers: int
    theta: float
    scaling: dict[str, Any] | None
    biases: frozenset[str]

    def layer_types(self, period: int) -> list[str]:
        is_sliding = self.values.is_sliding(self.num_layers, period)
        return ["sliding_attention" if each else "full_attention" for each in is_sliding]


Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Architecture:
    """`own` gives what the config has beside what all have, model_type and architectures at
    least. `norm_shift` is what the file's norms lack."""

    rows: Rows
    own: Callable[[_Open], Config]
    is_permuted: bool = False
    norm_shift: float = 0.0
    experts: Rows = ()

    def describe(self, file: GgufFile, name: str) -> Described:
        """Raises GgufError if metadata and tensors contradict each other or are not supported."""
        tensors = Tensors(file.tensors)
        opened, config = self._config(Values(file.metadata, name), tensors)
        return Described(config, self._sources(tensors, opened, config, name))

    def _config(self, values: Values, tensors: Tensors) -> tuple[_Open, Config]:
        sizes = _sizes(values, bool(self.experts))
        num_layers = count_layers(values)
        rotary_dim = rotated(values, sizes.head_dim)
        theta = values.positive("rope.freq_base", 10000.0)
        scaling = rope_scaling(values, tensors, theta, rotary_dim)
        biases = frozenset(theirs for theirs, *_ in self.rows if f"blk.0.{theirs}.bias" in tensors)
        config: Config = {
            **common_config(values, tensors),
            "num_hidden_layers": num_layers,
            "intermediate_size": sizes.inner,
            "rope_theta": theta,
        }
        if scaling is not None:
            config["rope_scaling"] = scaling
        if rotary_dim != sizes.head_dim:
            config["partial_rotary_factor"] = partial_factor(rotary_dim, sizes.head_dim)
        opened = _Open(values, sizes, num_layers, theta, scaling, biases)
        config |= self.own(opened)
        if config["model_type"] in _WITH_HEAD_DIM or (
            sizes.head_dim * sizes.num_heads != sizes.hidden
        ):
            config["head_dim"] = sizes.head_dim
        if "partial_rotary_factor" in config and config["model_type"] != "phi3":
            raise GgufError(
                f"{values.architecture}.rope.dimension_count is {rotary_dim} of heads of "
                f"{sizes.head_dim}; only phi3 models rotate a part"
            )
        return opened, config

    def _sources(self, tensors: Tensors, opened: _Open, config: Config, name: str) -> list[Source]:
        sizes = opened.sizes
        heads = {"attn_q": sizes.num_heads, "attn_k": sizes.num_kv_heads}
        rotary_heads = heads if self.is_permuted else {}
        found: list[Source] = []

        def take(theirs: str, ours: str, shape: tuple[int, ...], heads: int | None = None) -> None:
            shift = self.norm_shift if ours.endswith("norm.weight") else 0.0
            found.append(Source(ours, tensors.take(theirs, shape), heads, shift))

        embeddings = (config["vocab_size"], sizes.hidden)
        take("token_embd.weight", "model.embed_tokens.weight", embeddings)
        for layer in range(opened.num_layers):
            there, here = f"blk.{layer}.", f"model.layers.{layer}."
            for theirs, ours, letters in self.rows:
                shape, rotary = sizes.shape(letters), rotary_heads.get(theirs)
                take(f"{there}{theirs}.weight", f"{here}{ours}.weight", shape, rotary)
                if theirs in opened.biases:
                    take(f"{there}{theirs}.bias", f"{here}{ours}.bias", shape[:1], rotary)
            for theirs, ours, letters in self.experts:
                stack = tensors.take(f"{there}{theirs}.weight", sizes.shape(letters))
                for number, expert in enumerate(unstacked(stack)):
                    found.append(Source(f"{here}mlp.experts.{number}.{ours}.weight", expert))
        take("output_norm.weight", "model.norm.weight", (sizes.hidden,))
        if not config["tie_word_embeddings"]:
            take("output.weight", "lm_head.weight", embeddings)
        tensors.finish(name)
        return found


def common_config(values: Values, tensors: Tensors) -> Config:
    """What every config has, but for layers, MLP and rotation. Raises GgufError."""
    metadata = values.metadata
    vocab_size = length(metadata, "tokenizer.ggml.tokens")
    values.expect("vocab_size", vocab_size)
    num_heads, num_kv_heads, _ = head_sizes(values)
    ends = end_ids(metadata, vocab_size)
    return {
        "hidden_act": "silu",
        "hidden_size": values.count("embedding_length"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_kv_heads,
        "vocab_size": vocab_size,
        "max_position_embeddings": values.count("context_length"),
        "rms_norm_eps": values.positive("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": token_id(metadata, "bos", vocab_size),
        "eos_token_id": ends if len(ends) > 1 else ends[0] if ends else None,
        "pad_token_id": token_id(metadata, "padding", vocab_size),
    }


def count_layers(values: Values) -> int:
    """Few enough for a list to be made of them. Raises GgufError."""
    if (num_layers := values.count("block_count")) > _MOST_LAYERS:
        raise GgufError(f"{num_layers} layers, of which the file cannot have the tensors")
    return num_layers


def head_sizes(values: Values) -> tuple[int, int, int]:
    """Heads, KV heads and the width of each. Raises GgufError."""
    num_heads = values.count("attention.head_count")
    num_kv_heads = values.count("attention.head_count_kv", num_heads)
    head_dim = values.count("attention.key_length", values.count("embedding_length") // num_heads)
    values.expect("attention.value_length", head_dim)
    if head_dim % 2 or num_heads % num_kv_heads:
        raise GgufError(f"{num_heads} heads of {head_dim} and {num_kv_heads} KV heads do not fit")
    return num_heads, num_kv_heads, head_dim


def rotated(values: Values, head_dim: int) -> int:
    """How much of a head is rotated. Raises GgufError."""
    rotary_dim = values.count("rope.dimension_count", head_dim)
    if rotary_dim % 2 or rotary_dim > head_dim:
        raise GgufError(f"rope.dimension_count is {rotary_dim} of heads of {head_dim}")
    return rotary_dim


def _sizes(values: Values, has_experts: bool) -> _Sizes:
    num_heads, num_kv_heads, head_dim = head_sizes(values)
    num_experts = values.integer("expert_count", 0)
    if bool(num_experts) is not has_experts:
        raise GgufError(
            f"{num_experts} experts in a file of the architecture {values.architecture} are not "
            "supported"
        )
    return _Sizes(
        values.count("embedding_length"),
        num_heads,
        num_kv_heads,
        head_dim,
        values.count("feed_forward_length"),
        num_experts,
        values.count("expert_feed_forward_length") if has_experts else 0,
    )


def _named(model_type: str, class_name: str, **own: Any) -> Config:  # noqa: ANN401 - JSON
    return {"architectures": [f"{class_name}ForCausalLM"], "model_type": model_type, **own}


def _llama(opened: _Open) -> Config:
    """What transformers calls mistral, where there is a window, or qwen2, where only q, k and v
    have biases, is "llama" here."""
    window = opened.values.integer("attention.sliding_window", 0)
    attention, mlp = opened.biases & _ATTENTION_BIASES, opened.biases & _MLP_BIASES
    if attention not in (frozenset(), _QKV_BIASES, _ATTENTION_BIASES) or (
        mlp not in (frozenset(), _MLP_BIASES) or (window and opened.biases)
    ):
        raise GgufError(f"a llama model with biases of {', '.join(sorted(opened.biases))} alone")
    if window:
        return _named("mistral", "Mistral", sliding_window=window)
    if attention == _QKV_BIASES and not mlp:
        return _named("qwen2", "Qwen2", use_sliding_window=False)
    if attention == _QKV_BIASES:
        raise GgufError("a llama model with biases of q, k, v and the MLP, and none of o")
    return _named("llama", "Llama", attention_bias=bool(attention), mlp_bias=bool(mlp))


def _smollm3(opened: _Open) -> Config:
    """llama.cpp, too, knows which layers do without rotation by their number alone."""
    rotates = [int((layer + 1) % 4 != 0) for layer in range(opened.num_layers)]
    return _named(
        *("smollm3", "SmolLM3"),
        no_rope_layers=rotates,
        no_rope_layer_interval=4,
        use_sliding_window=False,
        attention_bias=False,
        mlp_bias=False,
    )


def _granite(opened: _Open) -> Config:
    values, sizes = opened.values, opened.sizes
    return _named(
        *("granite", "Granite"),
        attention_bias=False,
        mlp_bias=False,
        attention_multiplier=values.positive("attention.scale", 1 / math.sqrt(sizes.head_dim)),
        embedding_multiplier=values.positive("embedding_scale", 1.0),
        residual_multiplier=values.positive("residual_scale", 1.0),
        logits_scaling=values.positive("logit_scale"),
    )


def _phi3(opened: _Open) -> Config:
    values = opened.values
    trained = values.count("rope.scaling.original_context_length", values.count("context_length"))
    return _named(
        *("phi3", "Phi3"),
        original_max_position_embeddings=trained,
        sliding_window=values.integer("attention.sliding_window", 0) or None,
    )


def _olmo(opened: _Open) -> Config:
    window = opened.values.integer("attention.sliding_window", 0)
    if not window:
        return _named("olmo2", "Olmo2", attention_bias=False)
    # Said twice: transformers gives layers with a window its default theta if said once.
    plain = {"rope_type": "default", "rope_theta": opened.theta}
    rope = {"sliding_attention": plain, "full_attention": plain | (opened.scaling or {})}
    return _named(
        *("olmo3", "Olmo3"),
        attention_bias=False,
        sliding_window=window,
        layer_types=opened.layer_types(4),
        rope_parameters=rope,
    )


def _gemma3(opened: _Open) -> Config:
    values, sizes = opened.values, opened.sizes
    window = values.integer("attention.sliding_window", 0)
    # The 27B alone scales by its width; llama.cpp, too, knows it by its layers.
    is_by_width = opened.num_layers == 62
    scale = sizes.hidden // sizes.num_heads if is_by_width else sizes.head_dim
    softcap = values.number("final_logit_softcapping", 0.0)
    return _named(
        *("gemma3_text", "Gemma3"),
        hidden_activation="gelu_pytorch_tanh",
        attention_bias=False,
        rope_local_base_freq=values.positive("rope.freq_base_swa", 10000.0),
        query_pre_attn_scalar=scale,
        sliding_window=window or values.count("context_length"),
        layer_types=opened.layer_types(6 if window else 1),
        final_logit_softcapping=softcap or None,
        attn_logit_softcapping=None,
    )


def _qwen3_moe(opened: _Open) -> Config:
    """Every layer has experts, whose weights are made to sum to 1."""
    return _named(
        *("qwen3_moe", "Qwen3Moe"),
        attention_bias=False,
        use_sliding_window=False,
        num_experts=opened.sizes.num_experts,
        num_experts_per_tok=opened.values.count("expert_used_count"),
        moe_intermediate_size=opened.sizes.expert_inner,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        mlp_only_layers=[],
    )


def _qwen2(_: _Open) -> Config:
    return _named("qwen2", "Qwen2", use_sliding_window=False)


def _qwen3(_: _Open) -> Config:
    return _named("qwen3", "Qwen3", attention_bias=False, use_sliding_window=False)


_WITH_HEAD_DIM: Final = frozenset({"llama", "mistral", "qwen3", "qwen3_moe", "gemma3_text"})
_ROUTER: Final[Rows] = (("ffn_gate_inp", "mlp.gate", "eh"),)

ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "llama": Architecture(_LLAMA, _llama, is_permuted=True),
    "qwen2": Architecture(_LLAMA, _qwen2),
    "qwen3": Architecture((*_LLAMA, *_HEAD_NORMS), _qwen3),
    "qwen3moe": Architecture(
        (*_QKV, *_OUT, *_PRE_NORMS, *_HEAD_NORMS, *_ROUTER), _qwen3_moe, experts=_EXPERTS
    ),
    "smollm3": Architecture(_LLAMA, _smollm3, is_permuted=True),
    "granite": Architecture(_LLAMA, _granite, is_permuted=True),
    "phi3": Architecture(_PHI, _phi3),
    "olmo2": Architecture(_OLMO, _olmo),
    "gemma3": Architecture(_GEMMA, _gemma3, norm_shift=-1.0),
}
