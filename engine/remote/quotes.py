"""The grammar that lets a server's model write between quotation marks only what stands in a text.

llguidance's `substring_words` is what holds it. A llama-server whose grammar is too large answers
unconstrained and says nothing, so the size is bounded here, and quotes are looked up afterwards as
those of any model.
"""

import json
from collections.abc import Sequence
from typing import Final

# It ends between 170 and 200 KB; 100 cost 1.5 s a request, before the first token.
MAX_QUOTED_BYTES: Final = 32_000
_MARKS: Final = (('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"))


def grammar(texts: Sequence[str]) -> str | None:
    """Lark for llguidance; None where there is nothing to quote.

    The first of `texts` that fit are taken, each once, with one space for all white space.
    """
    chosen: dict[str, int] = {}
    for text in dict.fromkeys(" ".join(text.split()) for text in texts):
        size = len(text.encode()) + 1
        if text and sum(chosen.values()) + size <= MAX_QUOTED_BYTES:
            chosen[text] = size
    if not chosen:
        return None
    whole = "\n".join(chosen)
    rules = [f"Q{number}" for number in range(len(_MARKS))]
    free = f"[^{''.join(begin for begin, _ in _MARKS)}]"
    # What stands before a mark, and what stands between, are one lexeme with it: a lexeme that
    # ended before it would take the first bytes of “ for those of ’, and then refuse the last.
    quoted = [
        f"{rule}: /{free}*{begin}/ SAID {_text(end)}"
        for rule, (begin, end) in zip(rules, _MARKS, strict=True)
    ]
    return "\n".join(
        (
            f"start: ({' | '.join(rules)})* REST?",
            f"REST: /{free}+/",
            *quoted,
            f'SAID: %regex {{"substring_words": {_text(whole)}}}',
        )
    )


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
