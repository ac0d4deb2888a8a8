from enum import Enum


class RowForm(Enum):
    """What x is rounded to before it is multiplied with blocks: the integer that the largest
    magnitude of 32 columns becomes, and the bytes of each."""

    largest: int
    num_bytes: int

    INT16 = 32_767, 2
    INT8 = 127, 1
    INT8_IN_INT16 = 127, 2  # where there is no code that multiplies bytes

    def __init__(self, largest: int, num_bytes: int) -> None:
        self.largest, self.num_bytes = largest, num_bytes
