"""Signs in fonts of pictures: what the codes of Symbol and Wingdings show.

Office writes such a sign as a code in a font, with 0xF000 added or not. Sources: Adobe's Symbol
encoding; Unicode's names of the signs of Wingdings and Wingdings 2 (L2/11-052).
Fonts of pictures alone (Webdings) have no such list here.
"""

_FIRST_PRIVATE = 0xF000
_SYMBOL = {
    **dict(zip(range(0x41, 0x5B), "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ", strict=True)),
    **dict(zip(range(0x61, 0x7B), "αβχδεφγηιϕκλμνοπθρστυϖωξψζ", strict=True)),
    **dict(zip(range(0xA1, 0xB0), "ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓", strict=True)),
    **dict(zip(range(0xB0, 0xC0), "°±″≥×∝∂•÷≠≡≈…⏐⎯↵", strict=True)),
    **dict(zip(range(0xC0, 0xD0), "ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉", strict=True)),
    **dict(zip(range(0xD0, 0xE0), "∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓", strict=True)),
    0x22: "∀",
    0x24: "∃",
    0x27: "∋",
    0x2A: "∗",
    0x2D: "−",
    0x40: "≅",
    0x5C: "∴",
    0x5E: "⊥",
    0x7E: "∼",
    0xA0: "€",
    0xE0: "◊",
    0xE1: "⟨",
    0xE5: "∑",
    0xF1: "⟩",
    0xF2: "∫",
}
_BY_FONT = {
    "symbol": _SYMBOL,
    "wingdings": {
        0x22: "✂",
        0x28: "☎",
        0x2A: "✉",
        0x4A: "☺",
        0x4B: "😐",
        0x4C: "☹",
        0x6C: "●",
        0x6E: "■",
        0x6F: "☐",
        0x70: "☐",
        0x71: "❑",
        0x72: "❒",
        0x73: "⬧",
        0x74: "⧫",
        0x75: "◆",
        0x76: "❖",
        0x77: "⬥",
        0x78: "☒",
        0x9E: "·",
        0x9F: "•",
        0xA1: "○",
        0xA7: "▪",
        0xA8: "☐",
        0xAB: "★",
        0xD8: "➢",
        0xDF: "←",
        0xE0: "→",
        0xE1: "↑",
        0xE2: "↓",
        0xE7: "←",
        0xE8: "→",
        0xE9: "↑",
        0xEA: "↓",
        0xF0: "⇨",
        0xF3: "⇔",
        0xFB: "✗",
        0xFC: "✓",
        0xFD: "☒",
        0xFE: "☑",
    },
    "wingdings 2": {
        0x4F: "✗",
        0x50: "✓",
        0x51: "☒",
        0x52: "☑",
        0x53: "☒",
        0x54: "☒",
        0xA2: "■",
        0xA3: "☐",
        0x97: "●",
        0x98: "●",
    },
}


def is_of_symbols(font: str) -> bool:
    return font.lower() in _BY_FONT


def symbol(font: str, code: int) -> str:
    """The sign `code` of `font`; one that is not known by name and code, so that it is not lost."""
    code -= _FIRST_PRIVATE if code >= _FIRST_PRIVATE else 0
    known = _BY_FONT.get(font.lower(), {})
    if code in known:
        return known[code]
    if font.lower() == "symbol" and 0x20 <= code < 0x7F:
        return chr(code)
    return f"[{font} {code:02X}]" if code > 0x20 else " "


def in_font(text: str, font: str) -> str:
    """`text` as a font of signs shows it; as it is in every other font."""
    if not is_of_symbols(font):
        return text
    return "".join(
        symbol(font, ord(one)) if " " < one <= "\xff" or "\uf000" <= one <= "\uf0ff" else one
        for one in text
    )
