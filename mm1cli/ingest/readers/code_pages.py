"""Which code page of one byte a letter a text is in, by how its letters are used in languages.

For each language, the letters beyond a-z from the most to the least frequent. A page is likely in
the code page under which some language would have written the letters that come out. Frequencies
fall off with the rank, which is all that a guess among code pages needs.
"""

import math
from collections import Counter
from collections.abc import Iterator
from functools import cache

# Beyond ASCII; of alphabets other than the Latin one, all letters.
_LANGUAGES = {
    "French": "éèàêçùôîûâœëïü",
    "German": "üäößé",
    "Spanish": "óáíéñúü",
    "Portuguese": "ãçáéíóõêúâàô",
    "Italian": "èàùòéì",
    "Swedish": "äåöé",
    "Danish": "åøæé",
    "Icelandic": "áíðéúþöóæý",
    "Finnish": "äöå",
    "Polish": "łążęóśćźń",
    "Czech": "íáěéýřčžšůúťďňó",
    "Slovak": "áíčýžéšúťľôňäďóĺŕ",
    "Hungarian": "áéöóőüíúű",
    "Romanian": "ăîşâţșț",
    "Croatian": "čšžćđ",
    "Turkish": "ıiüşğçöâ",
    "Lithuanian": "ėšųžįčūąę",
    "Latvian": "āīēšūžņļģčķ",
    "Estonian": "äõüöšž",
    "Greek": "αοιετσνηυρπκμλωςίόγάέδήχθφύβώξζψϊΐϋΰ",
    "Russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "Ukrainian": "оаиніврететслкдпмузяьбгчйхжшїцюєщфґ",
    "Bulgarian": "аоиетнрсвлкдпмзгуъбчяцжйщхшфюь",
    "Serbian": "аоиенртсјувкдмлпгзбћшчжцњхљђфџ",
    "Hebrew": "יוהלאמרתבשנםדעקחפטכןצגךזסףץ",
    "Arabic": "اليمونرتبعدسفهكقحجةشطصخذضىزثأئءغظإؤآ",
}
# The more usual of two that give the same text stands first.
CODE_PAGES = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("iso8859_2", "iso8859_5", "iso8859_7", "iso8859_9", "iso8859_13", "koi8_r", "koi8_u"),
    *("cp866", "cp850", "cp852", "mac_roman", "mac_latin2", "mac_cyrillic"),
)
_USUAL_SIGNS = frozenset("“”„‘’‚«»–—…°§€£©®·•№×½¼²³´ºª¿¡\u00a0")
_JOINING = frozenset("’·\u00a0")
_SIGN, _ODD_SIGN, _NO_LETTER = -4.5, -9.0, -9.0  # logarithms of their frequency
_IN_WORD = -6.0  # for a sign or a capital inside a word, on top
_SAMPLE_BYTES = 1 << 14
_LIKELY = -4.2  # of a letter, on average, in the right language
_EVIDENCE = 8.0  # that another code page must have over the usual one
_ASCII = bytes(range(128))


def likely_code_page(data: bytes) -> str:
    """The code page of `data`, which is no ASCII; "" where no language would have written it."""
    sample = _with_high_bytes(data)
    scores = {page: score for page in CODE_PAGES if (score := _score(sample, page)) is not None}
    if not scores:
        return ""
    best = max(scores, key=lambda page: scores[page])
    usual = scores.get(CODE_PAGES[0])
    if usual is not None and scores[best] - usual < _EVIDENCE:
        best = CODE_PAGES[0]
    num_letters = len(sample.translate(None, _ASCII))
    return best if scores[best] >= _LIKELY * num_letters else ""


def _with_high_bytes(data: bytes) -> bytes:
    """The part of a long file around its first letter outside ASCII."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    first = next((at for at, byte in enumerate(data) if byte > 127), 0)
    start = max(0, first - 100)
    return data[start : start + _SAMPLE_BYTES]


def _score(data: bytes, page: str) -> float | None:
    """The logarithm of how likely the letters outside ASCII are; None where they are none."""
    try:
        text = data.decode(page)
    except UnicodeDecodeError:
        return None
    found = Counter(text)
    own = [(letter, count) for letter, count in found.items() if letter > "\x7f"]
    inside = _IN_WORD * sum(map(_is_odd, text, text[1:], text[2:]))
    signs = sum(count * _sign(letter) for letter, count in own if not letter.isalpha())
    letters = Counter[str]()
    for letter, count in own:
        if letter.isalpha():
            letters[_lower(letter)] += count
    best = max(
        sum(count * ranks.get(letter, _NO_LETTER) for letter, count in letters.items())
        for ranks in _models()
    )
    return best + signs + inside


def _lower(letter: str) -> str:
    return letter.lower() if len(letter.lower()) == 1 else letter


def _is_odd(before: str, letter: str, after: str) -> bool:
    """Whether a capital follows a small letter, or a sign stands between two letters."""
    if letter < "\x80" or not before.isalpha():
        return False
    if letter.isalpha():
        return letter.isupper() and before.islower()
    return after.isalpha() and letter not in _JOINING


def _sign(letter: str) -> float:
    return _SIGN if letter in _USUAL_SIGNS else _ODD_SIGN


@cache
def _models() -> tuple[dict[str, float], ...]:
    """The logarithm of each letter's frequency, by language."""

    def ranked(letters: str) -> Iterator[tuple[str, float]]:
        total = sum(1 / rank for rank in range(1, len(letters) + 1))
        for rank, letter in enumerate(letters, 1):
            yield letter, math.log(1 / rank / total)

    return tuple(dict(ranked("".join(dict.fromkeys(one)))) for one in _LANGUAGES.values())
