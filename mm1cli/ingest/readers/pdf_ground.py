"""Where a PDF page has been painted in another colour than white: what white text is seen on."""

from dataclasses import dataclass, field

Box = tuple[float, float, float, float]  # left, bottom, right, top, in points

_NUM_CELLS = 256  # in each direction
_SEEN_SHARE = 0.5
NEARLY_WHITE = 0xF0


def is_nearly_white(red: int, green: int, blue: int) -> bool:
    return min(red, green, blue) >= NEARLY_WHITE


@dataclass(frozen=True, slots=True)
class Ground:
    """The page as a grid of cells; each row is a number with a bit for each painted cell."""

    page: Box
    rows: list[int] = field(default_factory=lambda: [0] * _NUM_CELLS)

    def paint(self, box: Box, *, is_white: bool = False) -> None:
        """What is painted later hides what is below it; white does so only in whole cells."""
        first, last, mask = self._cells(box, is_inside=is_white)
        for row in range(first, last):
            self.rows[row] = self.rows[row] & ~mask if is_white else self.rows[row] | mask

    def shows_white_at(self, box: Box) -> bool:
        """Whether white text in `box` stands on another colour, for the most part."""
        first, last, mask = self._cells(box, is_inside=False)
        painted = sum((row & mask).bit_count() for row in self.rows[first:last])
        return painted >= _SEEN_SHARE * (last - first) * mask.bit_count()

    def _cells(self, box: Box, *, is_inside: bool) -> tuple[int, int, int]:
        """First row, the row after the last, and the columns as bits."""
        left, right = self._range(box[0], box[2], self.page[0], self.page[2], is_inside)
        first, last = self._range(box[1], box[3], self.page[1], self.page[3], is_inside)
        return first, last, (1 << right) - (1 << left)

    @staticmethod
    def _range(
        low: float, high: float, page_low: float, page_high: float, is_inside: bool
    ) -> tuple[int, int]:
        scale = _NUM_CELLS / max(page_high - page_low, 1e-6)
        # Numbers of a hostile file may be too large for an integer, or not be numbers.
        start, end = (
            min(float(_NUM_CELLS), max(0.0, (edge - page_low) * scale)) for edge in (low, high)
        )
        if is_inside:
            first, last = -int(-start // 1), int(end)
        else:
            first, last = int(start), -int(-end // 1)
        return first, max(first, last)
