"""Prompts of reading comprehension sets, taken apart: one passage comes in many wordings."""

import re
from typing import NamedTuple

_P, _Q = r"(?P<passage>.+?)", r"(?P<question>.+?)"
# The prompts' wordings, by set; anything else is left alone.
_LAYOUTS = tuple(
    re.compile(layout + r"\s*", re.DOTALL)
    for layout in (
        rf'Given the following passage\s+"{_P}",\s+answer the following question\..*Question: {_Q}',
        rf"Extract the answer to the question from .+?\.\s+Question: {_Q}\nContext: {_P}",
        rf'Question: "{_Q}"\s+Context: "{_P}"\s+Answer:',
        rf'I know that the answer to the question "{_Q}" is in "{_P}"\. Can you .+? what it is\?',
        rf"A friend asked me to answer this question: {_Q}, using the article: {_P}, what would be "
        r"the answer \?",
        rf"The following article contains an answer for the question: {_Q} , can you .+? it\? {_P}",
        rf"Found the following article online, use it to answer the question: {_Q}\n\n{_P}",
        rf"Given the following context:\s+{_P}\s+answer the following question:\s+{_Q}",
        rf"{_Q}\n\nAnswer the above question based on the context below:\s+{_P}",
        rf"Read the following paragraph and extract the answer for the question: {_Q}\n\n{_P}",
        rf"What is the answer for the question: {_Q} from the following article \?\s+{_P}",
        rf"I have a test where .+? an answer for the question: {_Q} \?\s+{_P}",
        rf"This article: {_P} contains an answer for the question: {_Q}, what is it \?",
    )
)


class Parsed(NamedTuple):
    passage: str
    question: str


def parse(prompt: str) -> Parsed | None:
    """Passage and question of a prompt; None for a wording that is not known."""
    for layout in _LAYOUTS:
        if found := layout.fullmatch(prompt):
            return Parsed(found["passage"].strip(), found["question"].strip())
    return None
