"""An answer while it is written: a terminal breaks its lines between words, and not inside them."""

from mm1cli.output.text import Channel, Style, cell_width, safe

_FENCE = "```"


class Flow:
    """Text that arrives in pieces of any length. What is no terminal gets it as it is.

    A word is held back until it has ended, since only then is it known where it fits. Characters
    two columns wide (Chinese, Japanese, Korean) are words each. Code between fences is broken by
    the terminal alone, so that it can be copied.
    """

    def __init__(self, channel: Channel, style: Style = Style.PLAIN) -> None:
        self._channel, self._style = channel, style
        self._column = 0
        self._gap = self._word = ""
        self._line = ""  # its first characters: a fence, or not
        self._is_code = False

    def write(self, text: str) -> None:
        if not self._channel.is_terminal:
            self._channel.write(text, self._style)
            return
        columns = self._channel.columns
        shown = "".join(self._next(char, columns) for char in text)
        self._channel.write(shown, self._style)

    def end(self) -> None:
        """Writes what was held back; the cursor may stand anywhere after this."""
        self._channel.write(self._end_word(self._channel.columns), self._style)
        self._column, self._gap, self._line, self._is_code = 0, "", "", False

    def _next(self, char: str, columns: int) -> str:
        if char == "\n":
            shown = self._end_word(columns) + char
            self._is_code ^= self._line.startswith(_FENCE)
            self._column, self._gap, self._line = 0, "", ""
            return shown
        if char in " \t":
            shown = self._end_word(columns)
            self._gap += char
            return shown
        if len(self._line) < len(_FENCE):
            self._line += char
        if cell_width(char) == 2:
            shown = self._end_word(columns)
            self._word = char
            return shown + self._end_word(columns)
        self._word += char
        return self._end_word(columns) if len(self._word) >= columns else ""

    def _end_word(self, columns: int) -> str:
        """The word that has ended, behind the space before it or on a line of its own."""
        if not self._word:
            return ""
        word, gap = self._word, self._gap.expandtabs(4)
        width = cell_width(safe(word))
        self._word = self._gap = ""
        if self._column and not self._is_code and self._column + len(gap) + width > columns:
            self._column, gap = 0, "\n"
        else:
            self._column += len(gap)
        self._column += width
        return gap + word
