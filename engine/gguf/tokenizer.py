"""The tokenizer and chat template of a GGUF file: byte-level BPE ("gpt2") and SentencePiece BPE
with byte fallback ("llama")."""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from engine.chat_markers import ENDS_OF_TURN
from engine.errors import GgufError
from engine.gguf.metadata import Metadata, end_ids, get, token_id
from engine.gguf.pre_tokenizers import splitting
from engine.tokenizer_parts import TokenizerParts

UNKNOWN_TOKEN: Final = 2
CONTROL_TOKENS: Final = (UNKNOWN_TOKEN, 3)
USER_DEFINED_TOKEN: Final = 4
_ROLES: Final = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
_LONGEST_PIECE: Final = 128  # characters; longer ones are control tokens or mischief


def read_gguf_tokenizer(name: str, metadata: Metadata) -> TokenizerParts:
    """Of the model in the file `name`. Raises GgufError."""
    tokenizer = build_tokenizer(metadata)
    return TokenizerParts(
        tokenizer,
        lambda: json.loads(tokenizer.to_str()),
        name,
        get(metadata, "tokenizer.chat_template", str, "") or None,
        named_tokens(metadata),
        tuple(_end_ids(metadata, tokenizer)),
    )


def build_tokenizer(metadata: Metadata) -> Tokenizer:
    """With every control token and user-defined token added."""
    tokens = get(metadata, "tokenizer.ggml.tokens", list)
    kinds = _kinds(metadata, len(tokens))
    ids = dict(zip(tokens, range(len(tokens)), strict=True))
    if len(ids) != len(tokens):
        raise GgufError(f"{len(tokens) - len(ids)} tokens appear twice")
    model = get(metadata, "tokenizer.ggml.model", str)
    if model == "gpt2":
        tokenizer = _gpt2(metadata, ids)
    elif model == "llama":
        tokenizer = _sentencepiece(metadata, tokens, kinds, ids)
    else:
        raise GgufError(f"the tokenizer {model!r:.80} is not supported: 'gpt2' and 'llama' are")
    is_stripped = model == "llama" and metadata.get("general.architecture") == "phi3"
    for is_special, wanted in ((True, CONTROL_TOKENS), (False, (USER_DEFINED_TOKEN,))):
        added = [
            AddedToken(
                tokens[i],
                special=is_special,
                normalized=False,
                rstrip=is_stripped and tokens[i] not in _PHI3_UNSTRIPPED,
            )
            for i in np.flatnonzero(np.isin(kinds, wanted)).tolist()
        ]
        (tokenizer.add_special_tokens if is_special else tokenizer.add_tokens)(added)
    if tokenizer.get_vocab_size() != len(tokens):
        raise GgufError("the added tokens contradict the vocabulary")
    return tokenizer


# White space behind Phi-3's other control tokens belongs to them, as its tokenizer.json says.
_PHI3_UNSTRIPPED: Final = ("<unk>", "<s>", "<|endoftext|>")


def named_tokens(metadata: Metadata) -> dict[str, str]:
    """`bos_token` and so on, as tokenizer_config.json has them."""
    tokens = get(metadata, "tokenizer.ggml.tokens", list)
    ids = {f"{ours}_token": token_id(metadata, role, len(tokens)) for ours, role in _ROLES.items()}
    return {name: tokens[each] for name, each in ids.items() if each is not None}


def tokenizer_config(metadata: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    template = get(metadata, "tokenizer.chat_template", str, "")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config["max_position_embeddings"],
        "add_bos_token": get(metadata, "tokenizer.ggml.add_bos_token", bool, False),
        "clean_up_tokenization_spaces": False,
        **named_tokens(metadata),
        **({"chat_template": template} if template else {}),
    }


def _kinds(metadata: Metadata, num_tokens: int) -> np.ndarray[Any, np.dtype[Any]]:
    kinds = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(kinds, np.ndarray) or kinds.dtype.kind not in "iu":
        raise GgufError("the metadata lacks tokenizer.ggml.token_type")
    if len(kinds) != num_tokens:
        raise GgufError(f"{len(kinds)} token types are given for {num_tokens} tokens")
    return kinds


def _gpt2(metadata: Metadata, ids: dict[str, int]) -> Tokenizer:
    way = splitting(get(metadata, "tokenizer.ggml.pre", str, ""))
    merges = _merges(get(metadata, "tokenizer.ggml.merges", list))
    tokenizer = Tokenizer(_bpe(ids, merges, ignore_merges=way.ignores_merges))
    tokenizer.pre_tokenizer = way.build()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(
    metadata: Metadata,
    tokens: Sequence[str],
    kinds: np.ndarray[Any, np.dtype[Any]],
    ids: dict[str, int],
) -> Tokenizer:
    """Merges are every way to cut a piece in two pieces, in the order of the pieces' scores, which
    is what SentencePiece's BPE does (llama.cpp, too)."""
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, np.ndarray) or len(scores) != len(tokens):
        raise GgufError("the metadata lacks a score for each token (tokenizer.ggml.scores)")
    if not np.isfinite(scores).all():
        raise GgufError("a token's score is not a number")
    merges: list[tuple[str, str]] = []
    is_plain = ~np.isin(kinds, CONTROL_TOKENS)
    for i in np.argsort(-scores.astype(np.float64), kind="stable").tolist():
        piece = tokens[i]
        if 1 < len(piece) <= _LONGEST_PIECE and is_plain[i]:
            merges += [
                (left, right)
                for cut in range(1, len(piece))
                if (left := piece[:cut]) in ids and (right := piece[cut:]) in ids
            ]
    unknown = np.flatnonzero(kinds == UNKNOWN_TOKEN)
    unk_token = tokens[int(unknown[0])] if len(unknown) else None
    bpe = _bpe(ids, merges, unk_token=unk_token, fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    spaces: list[normalizers.Normalizer] = [normalizers.Replace(" ", "\u2581")]
    steps: list[decoders.Decoder] = [
        decoders.Replace("\u2581", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if get(metadata, "tokenizer.ggml.add_space_prefix", bool, True):
        spaces.insert(0, normalizers.Prepend("\u2581"))
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _bpe(ids: dict[str, int], merges: list[tuple[str, str]], **options: Any) -> models.BPE:  # noqa: ANN401
    try:
        return models.BPE(vocab=ids, merges=merges, **options)
    except Exception as error:  # tokenizers raises nothing narrower
        raise GgufError(f"the merges contradict the tokens: {error!s:.200}") from None


def _merges(lines: list[str]) -> list[tuple[str, str]]:
    merges: list[Any] = [tuple(line.split(" ")) for line in lines]
    if set(map(len, merges)) - {2}:
        wrong = next(line for line, parts in zip(lines, merges, strict=True) if len(parts) != 2)
        raise GgufError(f"the merge {wrong!r:.80} is not a pair")
    return merges


def _end_ids(metadata: Metadata, tokenizer: Tokenizer) -> list[int]:
    """Those the file names, then the tokens that end a turn by what they are called: many files
    name the end of text alone."""
    ids = end_ids(metadata, tokenizer.get_vocab_size())
    control = tokenizer.get_added_tokens_decoder()
    ids += [i for i, token in control.items() if token.special and token.content in ENDS_OF_TURN]
    return list(dict.fromkeys(ids))
