"""How text is split before merging, by `tokenizer.ggml.pre`.

The expressions are those of the models' published tokenizer.json, of which llama.cpp's are
translations; names and which of them are one are llama.cpp's. What is left out there for good is
left out here, too: no text is normalised, so that what is decoded is what was written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

from engine.errors import GgufError

_SHORT: Final = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CL100K: Final = rf"{_SHORT}|{_WORD}|\p{{N}}{{1,3}}{_REST}"
_QWEN2: Final = rf"{_SHORT}|{_WORD}|\p{{N}}{_REST}"
_QWEN35: Final = (
    rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SEED_CODER: Final = (
    rf"{_SHORT}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER: Final = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER: Final = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_CASED: Final = rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+"
_CAPITALS: Final = rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
_REST_WITH_SLASH: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_O200K: Final = rf"{_CASED}{_SHORT}?|{_CAPITALS}{_SHORT}?|\p{{N}}{{1,3}}{_REST_WITH_SLASH}"
_TEKKEN: Final = rf"{_CASED}|{_CAPITALS}|\p{{N}}{_REST_WITH_SLASH}"
_CJK: Final = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK_V3: Final = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Splitting:
    """`splits` are applied one after another, then GPT-2's own if `is_gpt2`. `ignores_merges`: a
    piece that is a token is that token, whatever the merges say."""

    splits: tuple[str, ...] = ()
    is_gpt2: bool = False
    ignores_merges: bool = False

    def build(self) -> PreTokenizer:
        steps: list[PreTokenizer] = [
            pre_tokenizers.Split(Regex(split), behavior="isolated") for split in self.splits
        ]
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=self.is_gpt2))
        return pre_tokenizers.Sequence(steps)


def _all(names: str, splitting: Splitting) -> dict[str, Splitting]:
    return dict.fromkeys(names.split(), splitting)


SPLITTINGS: Final[Mapping[str, Splitting]] = {
    **_all(
        "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert "
        "mpt olmo jais trillion granite-docling exaone4",
        Splitting(is_gpt2=True),
    ),
    **_all(
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
        Splitting((r"\p{N}",), is_gpt2=True),
    ),
    **_all(
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        Splitting((_CL100K,), ignores_merges=True),
    ),
    **_all("dbrx smaug-bpe glm4 chatglm-bpe", Splitting((_CL100K,))),
    **_all(
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
        Splitting((_QWEN2,)),
    ),
    "qwen35": Splitting((_QWEN35,)),
    **_all("gpt-4o llama4 kanana2 talkie minimax-m2", Splitting((_O200K,))),
    "tekken": Splitting((_TEKKEN,), ignores_merges=True),
    "seed-coder": Splitting((_SEED_CODER,)),
    **_all(
        "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
        Splitting((r"\p{N}{1,3}", _CJK, _DEEPSEEK_V3)),
    ),
}


def splitting(name: str) -> Splitting:
    """Raises GgufError if the way of splitting is not known."""
    if name in ("", "default"):
        raise GgufError(
            "the file does not say how its tokenizer splits text (tokenizer.ggml.pre); get a "
            "conversion made by a newer llama.cpp"
        )
    if name not in SPLITTINGS:
        raise GgufError(f"the tokenizer splitting {name!r:.80} is not supported")
    return SPLITTINGS[name]
