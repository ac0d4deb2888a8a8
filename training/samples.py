"""What a record of the data has to say: running text, or a prompt with its answer.

Four shapes are read: {"text"}, {"prompt", "answer"}, a meeting with queries and the spans that
answer them, and a document with questions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_MEETING = "{document}\n\nAnswer from the transcript above: {question}"
_STORY = "{document}\n\n{question}"
_MARK = re.compile(r"\s*\{[a-z]+\}")  # {disfmarker}, {vocalsound}


@dataclass(frozen=True, slots=True)
class Sample:
    """A turn of a user (after `system`, if there is one) and its answer.

    Without a prompt, `answer` is running text that nobody asked for.
    """

    prompt: str
    answer: str
    system: str = ""


def samples_of(record: Mapping[str, Any], max_characters: int) -> list[Sample]:
    """Nothing if the record is of another shape, or empty.

    Of meetings and documents only the questions whose evidence fits into `max_characters`; if there
    are none, what was said or written as running text.
    """
    text, answer = record.get("text"), record.get("answer")
    if isinstance(text, str):
        return [Sample("", text)] if text else []
    if isinstance(record.get("prompt"), str) and isinstance(answer, str):
        return [Sample(record["prompt"], answer)] if record["prompt"] and answer else []
    if isinstance(record.get("meeting"), list):
        return _of_meeting(record, max_characters)
    if isinstance(record.get("document"), str) and record["document"].strip():
        return _of_document(record, max_characters)
    return []


def _of_meeting(record: Mapping[str, Any], max_characters: int) -> list[Sample]:
    turns = [_cleaned(turn) for turn in record["meeting"] if isinstance(turn, str)]
    found = []
    for query in record.get("queries") or []:
        spans = [(int(first), int(last)) for first, last in query.get("relevant_text_span") or []]
        if not spans or not (query.get("query") and query.get("answer")):
            continue
        first, last = min(s[0] for s in spans), max(s[1] for s in spans)
        room = max_characters - len(query["query"]) - len(query["answer"]) - len(_MEETING)
        if excerpt := _around(turns, first, last, room):
            text = _MEETING.format(document=excerpt, question=query["query"])
            found.append(Sample(text, query["answer"]))
    whole = "\n".join(turns)
    return found or ([Sample("", whole)] if whole.strip() else [])


def _around(turns: list[str], first: int, last: int, room: int) -> str:
    """The turns `first` to `last` and as many beside them as fit; nothing if they do not fit."""
    if not 0 <= first <= last < len(turns):
        return ""
    length = sum(len(turn) + 1 for turn in turns[first : last + 1])
    if length > room:
        return ""
    while first > 0 or last + 1 < len(turns):  # one turn before, one after, until one is too long
        beside = [n for n in (first - 1, last + 1) if 0 <= n < len(turns)]
        for n in beside:
            length += len(turns[n]) + 1
            if length > room:
                return "\n".join(turns[first : last + 1])
            first, last = min(first, n), max(last, n)
    return "\n".join(turns[first : last + 1])


def _of_document(record: Mapping[str, Any], max_characters: int) -> list[Sample]:
    document = record["document"].strip()
    found = []
    for question in record.get("questions") or []:
        asked, answers = question.get("q"), question.get("a") or []
        if asked and answers and len(document) + len(asked) + len(answers[0]) <= max_characters:
            found.append(Sample(_STORY.format(document=document, question=asked), answers[0]))
    return found or [Sample("", document)]


def _cleaned(turn: str) -> str:
    """Without marks of noises, and punctuation where it belongs."""
    joined = re.sub(r"\s+(?=[,.?!]|'(?:s|ll|re|ve|m|d)\b)", "", _MARK.sub("", turn))
    return joined.strip()
