"""Quotation marks in running text: which character opens a quotation, and which closes it."""

from engine.words import is_word

CLOSED_BY = {"“": "”", '"': '"', "«": "»"}
_FENCE = "```"


def closed_by(character: str, before: str) -> str | None:
    """The mark that closes the quotation `character` opens behind `before`, "" at the start.

    None if it opens none. Behind a word or a number it does not: 5" is a length, and « closes a
    word in German.
    """
    return None if before and is_word(before) else CLOSED_BY.get(character)


class Prose:
    """Follows text, character by character: what came last, and whether it is code.

    Between lines that begin with ``` quotation marks are part of a program.
    """

    def __init__(self) -> None:
        self.before = ""
        self._line, self._fenced = "", False

    @property
    def in_code(self) -> bool:
        return self._fenced or self._line.lstrip().startswith(_FENCE)

    def feed(self, character: str) -> None:
        if character == "\n":
            self._fenced ^= self._line.lstrip().startswith(_FENCE)
            self._line = ""
        elif len(self._line) < 2 * len(_FENCE):
            self._line += character
        self.before = character

    def opens(self, character: str) -> str | None:
        """The mark that closes the quotation `character` would open here, if it opens one."""
        return None if self.in_code else closed_by(character, self.before)


def quotations(text: str) -> list[str]:
    """What `text` has between quotation marks, code included, without the space around it."""
    found: list[str] = []
    prose, start, close = Prose(), 0, ""
    for at, character in enumerate(text):
        was_code = prose.in_code
        if close and character == close:
            found.append(text[start:at].strip())
            close = ""
        elif not close and (mark := closed_by(character, prose.before)):
            start, close = at + 1, mark
        prose.feed(character)
        if prose.in_code != was_code:
            close = ""  # no quotation goes on from prose into code
    return [quote for quote in found if quote]
