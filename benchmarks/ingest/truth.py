"""Readings against texts that are known to be right: words, their order, and rows of tables.

Truth files are taken as two projects keep them: docling's `groundtruth/NAME.md` (or `NAME.EXT.md`)
beside `sources/NAME.EXT`, and pandoc's `NAME.native` beside `NAME.EXT`. For each reader:

recall     of the words of the truth, how many are read (each as often as it stands there)
precision  of the words read, how many stand in the truth
order      of the words both have, how many stand in the same order
rows       of the truth's table rows of two or more cells, how many are one line with all words
           of their cells in order
"""

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_WORD = re.compile(r"\w+")
# Of a .native file: text, strings that are none (names, classes, addresses), what parts words, and
# lists, whose numbers are text here: those of the other truths, and of readers, are.
_LITERAL = r'"(?:[^"\\]|\\.)*"'
_INNER = rf"\((?:[^()\"]|{_LITERAL})*\)"
_ATTRIBUTES = rf"\((?:[^()\"]|{_LITERAL}|{_INNER})*\)"
_NATIVE = re.compile(
    rf"\b(Str|Math\s+\w+|(?:Code|CodeBlock|RawInline|RawBlock)\s*{_ATTRIBUTES})\s*({_LITERAL})"
    rf"|{_LITERAL}|(?P<list>\bOrderedList\s*\(\s*(\d+)\s*,\s*(\w+))|(?P<bracket>[][])"
    r"|\b(?:Space|MetaInlines|SoftBreak|LineBreak|Para|Plain|Header|Cell|CodeBlock|RawBlock|LineBlock|Note)\b",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(\d{1,6}|.)")
_ROMAN = (*zip((10, 9, 5, 4), ("x", "ix", "v", "iv"), strict=True), (1, "i"))
_MARKUP = re.compile(r"<!--.*?-->|!?\[([^\]]*)\]\([^)]*\)|<[^>]{1,200}>", re.S)
_RULE = re.compile(r"[|:\s-]+")
_PLACES = 64  # before and after the one it would have if nothing else were read
_NOT_SOURCES = {".md", ".native", ".json", ".txt", ".log"}

Read = Callable[[Path], str]


@dataclass(frozen=True, slots=True)
class Truth:
    source: Path
    words: list[str]
    rows: list[list[str]]


@dataclass(slots=True)
class Score:
    """Counts over all files; `num_ordered` of the words both have stand in the truth's order."""

    num_files: int = 0
    num_truth: int = 0
    num_read: int = 0
    num_both: int = 0
    num_ordered: int = 0
    num_rows: int = 0
    num_whole_rows: int = 0

    def add(self, truth: Truth, text: str) -> None:
        read = words_of(text)
        both, ordered = _agreement(truth.words, read)
        self.num_files += 1
        self.num_truth += len(truth.words)
        self.num_read += len(read)
        self.num_both += both
        self.num_ordered += ordered
        lines = [words_of(line) for line in text.split("\n")]
        self.num_rows += len(truth.rows)
        self.num_whole_rows += sum(any(_is_in(row, line) for line in lines) for row in truth.rows)

    def row(self, reader: str) -> dict[str, object]:
        return {
            "reader": reader,
            "files": self.num_files,
            "recall": round(self.num_both / max(self.num_truth, 1), 4),
            "precision": round(self.num_both / max(self.num_read, 1), 4),
            "order": round(self.num_ordered / max(self.num_both, 1), 4),
            "whole_rows": self.num_whole_rows,
            "rows": self.num_rows,
        }


def truths(folder: Path) -> Iterator[Truth]:
    """Every file below `folder` that has a truth file, in the order of their paths."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _NOT_SOURCES or not path.is_file():
            continue
        native = path.with_suffix(".native")
        known = path.parent.parent / "groundtruth"
        pages = [known / f"{path.name}.md", known / f"{path.stem}.md"]
        markdown = next((page for page in pages if page.is_file()), None)
        if path.parent.name == "sources" and markdown is not None:
            text = _MARKUP.sub(lambda match: match[1] or " ", markdown.read_text("utf-8"))
            yield Truth(path, words_of(text), list(_rows(text)))
        elif native.is_file():
            yield Truth(path, words_of(_native_text(native.read_text("utf-8"))), [])


def measure(folder: Path, readers: dict[str, Read]) -> list[dict[str, object]]:
    """One row for each reader, printed as it is known."""
    known = list(truths(folder))
    found = []
    print(f"{'reader':<12}  {'files':>5}  {'recall':>6}  {'precis':>6}  {'order':>6}  {'rows':>9}")
    for name, read in readers.items():
        score = Score()
        for truth in known:
            score.add(truth, read(truth.source))
        row = score.row(name)
        found.append(row)
        print(
            f"{name:<12}  {score.num_files:>5}  {row['recall']:>6}  {row['precision']:>6}"
            f"  {row['order']:>6}  {score.num_whole_rows:>4}/{score.num_rows:<4}"
        )
    return found


def words_of(text: str) -> list[str]:
    return [word.lower().strip("_") for word in _WORD.findall(text.replace("\\_", "_"))]


def _native_text(native: str) -> str:
    pieces: list[str] = []
    begun: tuple[int, str] | None = None
    around: list[tuple[int, str] | None] = []  # of each open bracket: the list's next number
    for found in _NATIVE.finditer(native):
        if found["list"]:
            begun = int(found[4]), found[5]
        elif found["bracket"] == "]":
            around[-1:] = []
            pieces.append(" " if around and around[-1] else "")
        elif found["bracket"]:
            if around and (of_list := around[-1]):
                pieces.append(f" {_number(*of_list)} ")
                around[-1] = of_list[0] + 1, of_list[1]
            around.append(begun)
            begun = None
        else:
            pieces.append(_native_piece(found))
    return "".join(pieces)


def _number(number: int, style: str) -> str:
    if style.endswith("Alpha"):
        return chr(ord("a") + (number - 1) % 26)
    if not style.endswith("Roman"):
        return str(number)
    text = ""
    for value, sign in _ROMAN:
        text += sign * (number // value)
        number %= value
    return text


def _native_piece(found: "re.Match[str]") -> str:
    if found[1] is not None:
        text = _string(found[2][1:-1])
        return f" {text} " if found[1].startswith(("CodeBlock", "RawBlock")) else text
    return "" if found[0].startswith('"') else " "


def _string(escaped: str) -> str:
    """A string of Haskell's: decimal escapes are characters."""
    return _ESCAPE.sub(
        lambda match: (
            chr(int(match[1]))
            if match[1].isdigit()
            else {"n": " ", "&": ""}.get(match[1], match[1])
        ),
        escaped,
    )


def _rows(markdown: str) -> Iterator[list[str]]:
    for line in markdown.split("\n"):
        if not line.startswith("|") or _RULE.fullmatch(line):
            continue
        cells = [cell for cell in line.strip("|").split("|") if cell.strip()]
        if len(cells) > 1 and (words := words_of(" ".join(cells))):
            yield words


def _is_in(row: list[str], line: list[str]) -> bool:
    left = iter(line)
    return len(line) >= len(row) and all(word in left for word in row)


def _agreement(truth: list[str], read: list[str]) -> tuple[int, int]:
    """How many words both have, and how many of those a longest ordered run through both has (Hunt
    and Szymanski, 1977). A word is tried at so many of its places: a header read on each page must
    not move all words after it."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for at, word in enumerate(read):
        places[word].append(at)
    both = sum((Counter(truth) & Counter(read)).values())
    seen: Counter[str] = Counter()
    ends: list[int] = []
    for word in truth:
        first = max(0, seen[word] - _PLACES)
        for at in reversed(places[word][first : seen[word] + _PLACES + 1]):
            end = bisect_left(ends, at)
            ends[end : end + 1] = [at]
        seen[word] += 1
    return both, len(ends)
