"""From bytes to text: byte order marks, strict UTF-8, and only then a detector."""

import codecs

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.readers.code_pages import likely_code_page
from mm1cli.ingest.readers.reader import ReadError

# UTF-32 before UTF-16: the little-endian mark of one starts with that of the other.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What text files do hold: \a \b \t \n \v \f \r and the escape of terminal colours.
_CONTROLS = bytes(sorted(set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 27}))
_MAX_CONTROL_SHARE = 0.01
_MAX_LATIN_CONTROL_SHARE = 0.001
# Of several bytes a letter; the detector knows more, and then guesses wildly.
_WIDE = ("cp932", "euc_jp", "gb18030", "big5", "cp949")
_DETECTED_BYTES = 1 << 18
_FEW_BYTES = 4  # outside ASCII; fewer tell nothing about a language
_ASCII = bytes(range(128))
_LONGEST_CHARACTER_BYTES = 4


def decode(data: bytes) -> tuple[str, str, tuple[str, ...]]:
    """The text in `data`, its encoding, and a warning if that was guessed.

    The text holds no NUL and no lone surrogate, and no byte order mark at its start. Raises
    ReadError: BINARY.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                text, warnings = _decoded(data, encoding)
            except UnicodeDecodeError:
                break
            _refuse_binary(text.encode(), _MAX_CONTROL_SHARE)
            return text, encoding, warnings
    if encoding := _wide_without_mark(data[:4096]):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            raise ReadError(Reason.BINARY) from None
        _refuse_binary(text.encode(), _MAX_CONTROL_SHARE)
        return text, encoding, _guessed(encoding)
    try:
        text, warnings = _decoded(data, "utf-8")
    except UnicodeDecodeError:
        return _detect(data)
    _refuse_binary(data, _MAX_CONTROL_SHARE)
    return text, "utf-8", warnings


def _decoded(data: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    """The text, also of a file that was cut inside its last character; UnicodeDecodeError."""
    try:
        return data.decode(encoding), ()
    except UnicodeDecodeError as error:
        # `error` counts from after a byte order mark.
        num_left = len(error.object) - error.start
        whole = data[:-num_left]
        is_cut = error.end == len(error.object) and num_left < _LONGEST_CHARACTER_BYTES
        # One odd byte at the end of plain ASCII is a letter of some other encoding.
        if not is_cut or whole.isascii():
            raise
        return whole.decode(encoding), ("ends inside a character: its end is missing",)


def looks_binary(data: bytes) -> bool:
    """Whether `data`, in an encoding that extends ASCII, is no text."""
    return _is_binary(data, _MAX_CONTROL_SHARE)


def _detect(data: bytes) -> tuple[str, str, tuple[str, ...]]:
    # Every byte is a letter in these encodings, so controls are the only sign of binary data.
    _refuse_binary(data, _MAX_LATIN_CONTROL_SHARE)
    for encoding in (*_likely(data), "cp1252"):
        try:
            return data.decode(encoding), encoding, _guessed(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1"), "latin-1", _guessed("latin-1")


def _likely(data: bytes) -> list[str]:
    outside = data.translate(None, _ASCII)
    if len(outside) < _FEW_BYTES:
        return []
    if page := likely_code_page(data):
        return [page]
    from charset_normalizer import from_bytes

    best = from_bytes(data[:_DETECTED_BYTES], cp_isolation=list(_WIDE)).best()
    return [] if best is None else [best.encoding]


def _guessed(encoding: str) -> tuple[str]:
    return (f"not UTF-8; read as {encoding}, letters outside ASCII may be wrong",)


def _wide_without_mark(head: bytes) -> str:
    """UTF-16 of mostly Latin text: every second byte is NUL, and no other."""
    half = len(head) // 2
    if half < 2:
        return ""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > 0.7 * half and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 * half and odd == 0 else ""


def _refuse_binary(data: bytes, max_share: float) -> None:
    if _is_binary(data, max_share):
        raise ReadError(Reason.BINARY)


def _is_binary(data: bytes, max_share: float) -> bool:
    if b"\0" in data:
        return True
    num_controls = len(data) - len(data.translate(None, _CONTROLS))
    return num_controls > max_share * len(data)
