"""Debian's documentation packages as records of text.

    python -m training.debian --packages python3.11-doc git-doc sqlite3-doc --out debian.jsonl.xz

Each package is downloaded (`apt-get download`), unpacked without being installed (`dpkg-deb -x`)
and read file by file: plain text, and HTML without its markup, scripts and menus. A record has
"text", "source" (package:path), "licence" and "copyright" (the file of the package that says more);
look at the licences before you train on them. Texts that were there before are left out. With
--folder what is unpacked already is read. Files of records can be joined: cat a.xz b.xz > text.xz
"""

import argparse
import gzip
import hashlib
import json
import lzma
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any

from engine import durable

FEWEST_CHARACTERS = 400  # less is a frame, a redirect or a list of links
_FEWEST_FILES = 8  # a line that so many share, and half of all, is no prose
_HTML, _PLAIN = {".html", ".htm", ".xhtml"}, {".txt", ".rst", ".md"}
_SKIPPED = {"script", "style", "nav", "head", "form", "button", "svg", "header", "footer"}
_BLOCKS = {"p", "div", "li", "dt", "dd", "tr", "table", "section", "article", "blockquote", "pre"}
_BLOCKS |= {"h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "br", "hr"}
_LICENCE = re.compile(r"^License:[ \t]*(\S.*?)\s*$", re.MULTILINE)


class _Prose(HTMLParser):
    """The text of a page: a line for each block, those of `pre` as they are."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._skipped: list[str] = []  # open elements that are no prose
        self._num_pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        menu = ("role", "navigation") in attrs
        if tag in _SKIPPED or (menu and tag in _BLOCKS) or (self._skipped and tag in self._skipped):
            self._skipped.append(tag)
        self._break(tag)
        self._num_pre += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self._skipped and self._skipped[-1] == tag:
            self._skipped.pop()
        self._break(tag)
        self._num_pre = max(self._num_pre - (tag == "pre"), 0)

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.parts.append(data if self._num_pre else re.sub(r"\s+", " ", data))

    def _break(self, tag: str) -> None:
        if tag in _BLOCKS and not self._skipped:
            self.parts.append("\n\n" if tag in {"p", "pre", "table"} or tag[0] == "h" else "\n")


def prose(page: str) -> str:
    """The text of an HTML page."""
    parser = _Prose()
    parser.feed(page)
    parser.close()
    return _tidy("".join(parser.parts))


def records(folder: Path, package: str, seen: set[bytes]) -> list[dict[str, Any]]:
    """One of each file of prose in an unpacked package; adds hashes of the texts to `seen`.

    Links are not followed. Plain text that is there as HTML too is left out, and so are lines that
    most files share: menus and footers.
    """
    licences, copyright_file = _copyright(folder, package)
    texts = {path: text for path in sorted(folder.rglob("*")) if (text := _text_of(path))}
    shared = Counter(line for text in texts.values() for line in set(text.split("\n")) if line)
    fewest = max(len(texts) / 2, _FEWEST_FILES)
    found = []
    for path, text in texts.items():
        kept = "\n".join(line for line in text.split("\n") if shared[line] < fewest)
        own = _tidy(kept)
        digest = hashlib.sha256(own.encode()).digest()
        if len(own) < FEWEST_CHARACTERS or digest in seen:
            continue
        seen.add(digest)
        inside = path.relative_to(folder).as_posix()
        facts = {"source": f"{package}:{inside}", "licence": licences, "copyright": copyright_file}
        found.append({**facts, "text": own})
    return found


def _text_of(path: Path) -> str:
    """Nothing if the file is none, no text, or there as HTML too."""
    bare = path.with_suffix("") if path.suffix == ".gz" else path
    is_html = bare.suffix.lower() in _HTML
    if path.is_symlink() or not path.is_file() or bare.suffix.lower() not in _HTML | _PLAIN:
        return ""
    if not is_html and any(bare.with_suffix(suffix).exists() for suffix in _HTML):
        return ""
    try:
        data = path.read_bytes()
        page = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError):
        return ""
    return prose(page) if is_html else _tidy(page)


def _copyright(folder: Path, package: str) -> tuple[str, str]:
    """The licences that the package's copyright file names, and where it stands."""
    found = [*folder.glob(f"usr/share/doc/{package}/copyright"), *folder.rglob("copyright")]
    for path in found:
        if path.is_file() and not path.is_symlink():
            text = path.read_text(encoding="utf-8", errors="replace")
            names = sorted(set(_LICENCE.findall(text)))
            return ", ".join(names) or "see copyright", path.relative_to(folder).as_posix()
    return "unknown", ""


def _tidy(text: str) -> str:
    lines = (line.rstrip() for line in text.replace("\xa0", " ").replace("\r\n", "\n").split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def download(package: str, folder: Path) -> Path:
    """The unpacked package in a new folder beside its file. Raises OSError if that fails."""
    work = folder / package
    work.mkdir()
    _run(["apt-get", "download", "--", package], work)
    found = sorted(work.glob("*.deb"))
    if len(found) != 1:
        raise OSError(f"{package}: apt-get download left {len(found)} packages")
    return unpack(found[0], work / "files")


def unpack(deb: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    _run(["dpkg-deb", "-x", str(deb), str(folder)], deb.parent)
    return folder


def _run(arguments: list[str], folder: Path) -> None:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OSError(f"{arguments[0]}: {last}")


def command(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", nargs="*", default=[], help="names of Debian packages")
    parser.add_argument(
        "--folder", type=Path, nargs="*", default=[], help="unpacked packages, named like them"
    )
    parser.add_argument("--out", type=Path, required=True, help="FILE.jsonl.xz to write")
    options = parser.parse_args(arguments)
    if not options.packages and not options.folder:
        parser.error("give --packages or --folder")
    try:
        durable.write(options.out, partial(_write, options), is_private=False)
    except OSError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def _write(options: argparse.Namespace, target: Path) -> None:
    seen: set[bytes] = set()
    with (
        tempfile.TemporaryDirectory() as temporary,
        lzma.open(target, "wt", encoding="utf-8") as out,
    ):
        for folder in options.folder:
            _write_package(out, folder, folder.name, seen)
        for package in options.packages:
            _write_package(out, download(package, Path(temporary)), package, seen)


def _write_package(out: IO[str], folder: Path, package: str, seen: set[bytes]) -> None:
    num_files = num_characters = 0
    for record in records(folder, package, seen):
        out.write(json.dumps(record, ensure_ascii=False) + "\n")
        num_files, num_characters = num_files + 1, num_characters + len(record["text"])
    licence, _ = _copyright(folder, package)
    facts = f"{package}: {num_files:,} files, {num_characters:,} characters; {licence}"
    print(f"{facts:.200}", file=sys.stderr)


if __name__ == "__main__":
    command()
