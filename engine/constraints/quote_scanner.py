"""Quotation marks in running text: which character opens a quotation, and which closes it."""

from engine.constraints.word_boundaries import is_word

CLOSED_BY = {"“": "”", '"': '"', "«": "»"}
_FENCE = "```"


def closed_by(character: str, before: str) -> str | None:
    """The mark that closes the quotation `character` opens behind `before`, "" at the start.

    None if it opens none. Behind a word or a number it does not: 5" is a length, and « closes a
    word in German.
    """
    return None if before and is_word(before) else CLOSED_BY.get(character)


class QuoteScanner:
    """Follows text, character by character: what came last, and whether it is code.

    Between lines that begin with ```, and between backticks of one line, quotation marks are part
    of a program.
    """

    def __init__(self) -> None:
        self.before = ""
        self._line, self._after_fence, self._after_tick = "", False, False

    @property
    def in_fence(self) -> bool:
        return self._after_fence or self._line.lstrip().startswith(_FENCE)

    @property
    def in_code(self) -> bool:
        return self.in_fence or self._after_tick

    def feed(self, character: str) -> None:
        if character == "\n":
            self._after_fence ^= self._line.lstrip().startswith(_FENCE)
            self._line, self._after_tick = "", False
        else:
            self._line = (self._line + character)[: 2 * len(_FENCE)]
            self._after_tick ^= character == "`"
        self.before = character

    def opens(self, character: str) -> str | None:
        """The mark that closes the quotation `character` would open here, if it opens one."""
        return None if self.in_code else closed_by(character, self.before)


def quotations(text: str) -> list[str]:
    """What `text` has between quotation marks, code included, without the space around it."""
    found = (text[start + 1 : end - 1].strip() for start, end in spans(text))
    return list(filter(None, found))


def spans(text: str) -> list[tuple[int, int]]:
    """Where quotations stand in `text`, marks included; also those of nothing."""
    return _scan(text)[0]


def unfinished(text: str) -> str:
    """What `text` has behind a mark that opened its last quotation, if nothing closed it."""
    return _scan(text)[1]


def _scan(text: str) -> tuple[list[tuple[int, int]], str]:
    found: list[tuple[int, int]] = []
    prose, start, close = QuoteScanner(), 0, ""
    for at, character in enumerate(text):
        was_fence = prose.in_fence
        if close and character == close:
            found.append((start - 1, at + 1))
            close = ""
        elif not close and (mark := closed_by(character, prose.before)):
            start, close = at + 1, mark
        prose.feed(character)
        if prose.in_fence != was_fence:
            close = ""  # no quotation goes on from prose into a program
    return found, text[start:].strip() if close else ""
