"""The tokenizer and chat template of a GGUF file as tokenizer.json and tokenizer_config.json."""

from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from engine.errors import GgufError
from engine.gguf.metadata import Metadata, get, token_id

# What is split off before merging, by `tokenizer.ggml.pre`. That of o200k is MiniMax-M1's too.
_O200K: Final = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _splitting(name: str) -> pre_tokenizers.PreTokenizer:
    """Raises GgufError if the way of splitting is not known."""
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "gpt-2":
        return plain
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), plain])
    if name in {"minimax-m2", "gpt-4o"}:
        split = pre_tokenizers.Split(Regex(_O200K), behavior="isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return pre_tokenizers.Sequence([split, bytes_only])
    raise GgufError(f"the tokenizer splitting {name!r:.80} is not supported")


CONTROL_TOKENS: Final = (2, 3)  # ggml's "unknown" and "control"
USER_DEFINED_TOKEN: Final = 4


def build_tokenizer(metadata: Metadata) -> Tokenizer:
    model = get(metadata, "tokenizer.ggml.model", str)
    if model != "gpt2":
        raise GgufError(f"the tokenizer {model!r:.80} is not supported: only 'gpt2' is")
    splitting = _splitting(get(metadata, "tokenizer.ggml.pre", str))
    tokens = get(metadata, "tokenizer.ggml.tokens", list)
    kinds = get(metadata, "tokenizer.ggml.token_type", list)
    merges = [_split_merge(line) for line in get(metadata, "tokenizer.ggml.merges", list)]
    if len(kinds) != len(tokens):
        raise GgufError(f"{len(kinds)} token types are given for {len(tokens)} tokens")
    ids = {token: index for index, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        raise GgufError(f"{len(tokens) - len(ids)} tokens appear twice")
    try:
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    except Exception as error:  # tokenizers raises nothing narrower
        reason = " ".join(str(error).split())
        raise GgufError(f"the merges contradict the tokens: {reason}") from None
    tokenizer.pre_tokenizer = splitting
    tokenizer.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, kinds, strict=True):
        if kind in CONTROL_TOKENS:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED_TOKEN:
            tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    if tokenizer.get_vocab_size() != len(tokens):
        raise GgufError("the added tokens contradict the vocabulary")
    return tokenizer


def tokenizer_config(metadata: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    tokens = get(metadata, "tokenizer.ggml.tokens", list)
    ids = {
        "bos_token": config["bos_token_id"],
        "eos_token": config["eos_token_id"],
        "pad_token": token_id(metadata, "padding", len(tokens)),
        "unk_token": token_id(metadata, "unknown", len(tokens)),
    }
    template = get(metadata, "tokenizer.chat_template", str, "")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config["max_position_embeddings"],
        "add_bos_token": get(metadata, "tokenizer.ggml.add_bos_token", bool, False),
        "clean_up_tokenization_spaces": False,
        **{role: tokens[each] for role, each in ids.items() if each is not None},
        **({"chat_template": template} if template else {}),
    }


def _split_merge(line: object) -> tuple[str, str]:
    parts = line.split(" ") if isinstance(line, str) else []
    if len(parts) != 2:
        raise GgufError(f"the merge {line!r} is not a pair")
    return parts[0], parts[1]
