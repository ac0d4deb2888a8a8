"""What a tokenizer.json may ask of the library that runs it, which has few limits of its own.

The library runs in this process: it cannot be stopped while it reads or encodes, and where memory
ends it ends the process. So steps are counted, what they may make of a text is bounded, and
expressions are tried once on texts that make bad ones slow; the library gives up on these itself.
Not found: an expression whose time is a square of the text's length, as sound ones have too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import tokenizers

from engine.errors import TokenizerError

MAX_BYTES: Final = 64 * 2**20  # of tokenizer.json; those of 262,144 tokens have 33 MB
_MOST_STEPS: Final = 64
_MOST_GROWTH: Final = 64  # characters made of one, by all steps together
_MOST_PATTERN_CHARS: Final = 16 * 1024
_RUNS: Final = ("a", "A", "1", " ", "\n", "!", "é", "中")
_RUN_CHARS: Final = 64
# Its table is believed, and asks for gigabytes, while the file is read. A letter that is written
# as an escape, which no writer of JSON does, could hide the word.
_ESCAPED_LETTER: Final = re.compile(rb"\\u00[4-7]")


def check_file(data: bytes) -> None:
    """Before the library reads it. Raises TokenizerError."""
    if len(data) > MAX_BYTES:
        raise TokenizerError(f"over {MAX_BYTES:,} bytes, not a model's file")
    is_hidden = b"\\u00" in data and _ESCAPED_LETTER.search(data) is not None
    if not (is_hidden or b"Precompiled" in data):
        return
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return  # the library says why
    told = raw.get("normalizer") if isinstance(raw, dict) else None
    if any(step.get("type") == "Precompiled" for step in _steps(told)):
        raise TokenizerError("the normalizer Precompiled is not supported")


def check_components(tokenizer: tokenizers.Tokenizer) -> None:
    """Raises TokenizerError."""
    parts = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder)
    for part in parts:
        if part is None:
            continue
        steps = list(_steps(json.loads(part.__getstate__())))
        if len(steps) > _MOST_STEPS:
            raise TokenizerError(f"{len(steps):,} steps, more than {_MOST_STEPS}")
        growth, num_chars = 1, 0
        for step in steps:
            growth *= _growth(step)
            num_chars += len(_pattern(step))
            if growth > _MOST_GROWTH:
                raise TokenizerError(f"a character can become over {_MOST_GROWTH} of them")
        if num_chars > _MOST_PATTERN_CHARS:
            raise TokenizerError(f"expressions of {num_chars:,} characters")
    if getattr(tokenizer.model, "dropout", None):
        raise TokenizerError("its merges are left to chance (dropout), which is for training")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for run in _RUNS:
        # The "\0" is what no expression ends on; then all ways to cut the run are tried.
        encode(tokenizer, [run * _RUN_CHARS + "\0"])


def encode(encoder: tokenizers.Tokenizer, texts: list[str]) -> list[list[int]]:
    """Ids of each text. Raises TokenizerError for lone surrogates, and where the library fails."""
    try:
        encodings = encoder.encode_batch_fast(texts, add_special_tokens=False)
    except (UnicodeEncodeError, TypeError) as error:
        raise TokenizerError(f"text is not valid Unicode ({error})") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # no Exception, and not to be imported
            raise
        raise TokenizerError(f"the tokenizer cannot split this text ({error!s:.200})") from None
    return [encoding.ids for encoding in encodings]


def _steps(part: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Those of a component as JSON, sequences opened."""
    waiting = [part]
    while waiting:
        step = waiting.pop()
        if not isinstance(step, dict):
            continue
        yield step
        for name in ("normalizers", "pretokenizers", "decoders"):
            waiting += step.get(name) or ()


def _pattern(step: dict[str, Any]) -> str:
    pattern = step.get("pattern")
    found = next(iter(pattern.values()), "") if isinstance(pattern, dict) else ""
    return found if isinstance(found, str) else ""


def _growth(step: dict[str, Any]) -> int:
    """How many characters a step may make of one, or add to a text."""
    if step.get("type") == "Prepend":
        return max(1, len(step.get("prepend", "")))
    if step.get("type") != "Replace":
        return 1
    found = _pattern(step) if "String" in (step.get("pattern") or {}) else ""
    made = len(step.get("content", ""))
    return max(1, -(-made // len(found)) if found else made + 1)
