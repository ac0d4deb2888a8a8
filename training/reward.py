"""What a program can check of an answer, as a number between 0 and 1."""

from training.templates import REFUSAL

EXACT, VERBATIM = 0.8, 0.2


def reward(prompt: str, wanted: str, answer: str) -> float:
    """Of `answer` to `prompt`, whose right answer is `wanted`.

    Where the right answer is to refuse, 1 for that and 0 for anything else. Otherwise 0.8 for the
    exact answer and 0.2 for one that stands in the prompt word for word and is no mere scrap of it.
    """
    wanted, answer = wanted.strip(), answer.strip()
    if REFUSAL in (wanted, answer):
        return float(wanted == answer)
    is_quote = 2 * len(answer) >= len(wanted) and answer in prompt
    return EXACT * (answer == wanted) + VERBATIM * is_quote
