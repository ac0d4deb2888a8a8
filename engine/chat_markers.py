"""What models write around their thinking and their calls of tools, and what ends their turns.

A table, because a chat template says it only in passing and a config not at all.
"""

from dataclasses import dataclass
from typing import Final

from engine.protocols import Tokenizer, Turn


@dataclass(frozen=True, slots=True)
class Markers:
    begin: str
    end: str


# In the order in which they are looked for. Models whose markers nobody knows use the first.
THINKING: Final = (
    Markers("<think>", "</think>"),  # MiniMax-M1, Qwen3, DeepSeek-R1, Ring, SmolLM3, Olmo 3, Phi-4
    Markers("[THINK]", "[/THINK]"),  # Magistral, Ministral 3
    Markers("<mm:think>", "</mm:think>"),  # MiniMax-M3
    Markers("<seed:think>", "</seed:think>"),  # Seed-OSS
    Markers("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A and R7B
)
TOOL_CALLS: Final = (
    Markers("<tool_call>", "</tool_call>"),  # Qwen2.5, Qwen3, SmolLM3, Granite 4
    Markers("<tool_calls>", "</tool_calls>"),  # MiniMax-M1
    Markers("<|tool_call|>", "<|/tool_call|>"),  # Phi-4-mini, Granite 3
    Markers("<function_calls>", "</function_calls>"),  # Olmo 3
    Markers("[TOOL_CALLS]", ""),  # Mistral: up to the end of the turn
    Markers("<|python_tag|>", ""),  # Llama 3
)
_TOLD_TO_THINK: Final = "detailed thinking on"  # Ling and Ring: on or off, behind the system text
ENDS_OF_TURN: Final = frozenset(
    {
        "<|im_end|>",  # ChatML: Qwen, SmolLM, Phi-4, MiniCPM
        "<|role_end|>",  # Ling, Ring
        "<|eot_id|>",  # Llama 3
        "<|eom_id|>",
        "<|end|>",  # Phi-3, Phi-4-mini
        "<end_of_turn>",  # Gemma
        "<|end_of_text|>",  # Granite
        "<|endoftext|>",
        "<end_of_sentence>",  # MiniMax
        "[e~[",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",  # DeepSeek
    }
)


def thinking_markers(tokenizer: Tokenizer) -> Markers:
    """Those of the model: the first that its chat template or a token of its own knows."""
    known = (each for each in THINKING if tokenizer.knows(each.begin))
    return next(known, THINKING[0])


def thinks(tokenizer: Tokenizer) -> bool:
    """Whether the model says that it thinks before it answers: by its markers, or in what stands
    before every answer, as Ring's template does, whose markers are plain text."""
    if tokenizer.knows(thinking_markers(tokenizer).begin):
        return True
    is_told = tokenizer.knows(_TOLD_TO_THINK.rpartition(" ")[0])
    return is_told and any(_TOLD_TO_THINK in x.text for x in tokenizer.chat([Turn("user", ("x",))]))


def tool_call_markers(tokenizer: Tokenizer) -> Markers | None:
    """None for a model that calls no tools, as far as can be seen."""
    return next((each for each in TOOL_CALLS if tokenizer.knows(each.begin)), None)
