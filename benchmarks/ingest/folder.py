"""A folder of mixed files with about so many tokens, the same one each time."""

import random
from io import BytesIO
from pathlib import Path

_TEXT = """
the harbour crossing was planned in spring and the council asked for a survey of the bed before any
pile could be driven because silt moves with every tide while ferries keep their timetable through
autumn storms and the cost of steel had doubled since the first estimate
"""
_WORDS = _TEXT.split()
_WORDS_PER_TOKEN = 0.75
# Of all tokens, by kind of file; and the words of one file.
_SHARES = {".pdf": (0.35, 4000), ".docx": (0.15, 3000), ".md": (0.25, 1500), ".py": (0.25, 800)}


def write_folder(folder: Path, num_tokens: int) -> dict[str, int]:
    """Returns how many files of each kind there are."""
    chance = random.Random(0)
    counts: dict[str, int] = {}
    for ending, (share, num_words) in _SHARES.items():
        count = max(round(share * num_tokens * _WORDS_PER_TOKEN / num_words), 1)
        counts[ending] = count
        for number in range(count):
            path = folder / ending[1:] / f"{number // 50:02d}" / f"file-{number:04d}{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_content(ending, _sentences(chance, num_words)))
    return counts


def _sentences(chance: random.Random, num_words: int) -> list[str]:
    sentences = []
    while num_words > 0:
        length = chance.randint(8, 24)
        words = chance.choices(_WORDS, k=length)
        words[chance.randrange(length)] = str(chance.randint(2, 9999))
        sentences.append(" ".join(words).capitalize() + ".")
        num_words -= length
    return sentences


def _content(ending: str, sentences: list[str]) -> bytes:
    if ending == ".pdf":
        return _pdf(sentences)
    if ending == ".docx":
        return _docx(sentences)
    if ending == ".md":
        paragraphs = (" ".join(sentences[at : at + 5]) for at in range(0, len(sentences), 5))
        return "\n\n".join(["# Notes", *paragraphs]).encode()
    lines = (f"    # {text}\n    total += {len(text)}" for text in sentences)
    return ("def add(total):\n" + "\n".join(lines) + "\n    return total\n").encode()


def _pdf(sentences: list[str]) -> bytes:
    from reportlab.pdfgen.canvas import Canvas

    output = BytesIO()
    canvas = Canvas(output, invariant=1)
    for at in range(0, len(sentences), 45):
        for row, text in enumerate(sentences[at : at + 45]):
            canvas.drawString(40, 800 - 16 * row, text)
        canvas.showPage()
    canvas.save()
    return output.getvalue()


def _docx(sentences: list[str]) -> bytes:
    import docx

    output = BytesIO()
    document = docx.Document()
    for at in range(0, len(sentences), 4):
        document.add_paragraph(" ".join(sentences[at : at + 4]))
    document.save(output)
    return output.getvalue()
