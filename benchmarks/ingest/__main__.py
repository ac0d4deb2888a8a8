"""Reading files: text kept, time and failures beside pypdf and markitdown; and a large folder.

python -m benchmarks.ingest FOLDER              peers on the files of FOLDER, in one run
python -m benchmarks.ingest --tokens 1000000    a generated folder, from disk to packed tokens
python -m benchmarks.ingest --truth DIR         words, order, rows against truth files (truth.py)
python -m benchmarks.ingest --account DIR ...   every file below is accounted for (account.py)

markitdown is tried only where it is installed. The folder is read cold (no cache, but files that
were just written are in the system's memory) and then again from the cache of extracted text.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import machine
from benchmarks.ingest.account import account
from benchmarks.ingest.folder import write_folder
from benchmarks.ingest.truth import measure
from engine.api import usable_cores
from engine.tokenizer import Tokenizer
from mm1cli.ingest import read_corpus
from mm1cli.ingest.cache import Cache
from mm1cli.ingest.pack import pack_all
from mm1cli.ingest.read import ReadOptions, read_files
from mm1cli.ingest.readers.lines import LINKS
from mm1cli.models import library

Row = dict[str, object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--account", type=Path, nargs="+")
    parser.add_argument("--model", default="mini")
    arguments = parser.parse_args()
    rows: list[Row] = []
    if arguments.folder is not None:
        rows += peers(arguments.folder)
    if arguments.tokens:
        rows += from_disk_to_tokens(arguments.tokens, arguments.model)
    if arguments.truth is not None:
        rows += against_truth(arguments.truth)
    if arguments.account:
        rows.append(account(arguments.account))
    if not rows:
        parser.error("name a FOLDER, --tokens, --truth or --account")
    machine.print_result("ingest", rows)


def peers(folder: Path) -> list[Row]:
    """Every reader on the same files, one after the other; the peers on one core."""
    logging.disable()  # pypdf speaks of every file it has doubts about
    print(f"{'reader':<12}  {'files':>6}  {'failed':>6}  {'characters':>12}  {'s':>7}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pdfs = [path for path in files if path.suffix.lower() == ".pdf"]
    rows = [_ours(f"mm1 ({usable_cores()})", [folder], None)]
    if pdfs:
        rows.append(_ours("mm1, PDF", pdfs, 1))
        rows.append(_one_by_one("pypdf, PDF", pdfs, _pypdf))
    if (markitdown := _markitdown()) is not None:
        rows.append(_one_by_one("markitdown", files, markitdown))
    return rows


def against_truth(folder: Path) -> list[Row]:
    """Our readers, without lists of links, which the truths keep elsewhere; and markitdown where it
    is installed."""
    logging.disable()
    readers: dict[str, Callable[[Path], str]] = {"mm1": _ours_of}
    if (markitdown := _markitdown()) is not None:

        def converted(path: Path) -> str:
            try:
                return markitdown(path)
            except Exception:  # whatever a parser raises is a failure to read
                return ""

        readers["markitdown"] = converted
    return measure(folder, readers)


def _ours_of(path: Path) -> str:
    corpus = read_corpus([str(path)], options=ReadOptions(allow_secrets=True, num_workers=1))
    blocks = (block for one in corpus.documents[:1] for block in one.blocks)
    return "\n".join(block.text for block in blocks if block.mark != LINKS)


def _ours(name: str, paths: list[Path], num_workers: int | None) -> Row:
    options = ReadOptions(allow_secrets=True, num_workers=num_workers)
    began = time.perf_counter()
    corpus = read_corpus(list(map(str, paths)), options=options)
    seconds = time.perf_counter() - began
    num_chars = sum(len(block.text) for one in corpus.documents for block in one.blocks)
    num_files = len(corpus.documents) + len(corpus.omissions)
    return _told(name, num_files, len(corpus.omissions), num_chars, seconds)


def _pypdf(path: Path) -> str:
    from pypdf import PdfReader

    return "".join(page.extract_text() for page in PdfReader(path).pages)


def _markitdown() -> Callable[[Path], str] | None:
    try:
        from markitdown import MarkItDown
    except ImportError:
        return None
    converter = MarkItDown()
    return lambda path: str(converter.convert(str(path)).text_content)


def _one_by_one(name: str, files: list[Path], read: Callable[[Path], str]) -> Row:
    num_chars = num_failed = 0
    began = time.perf_counter()
    for path in files:
        try:
            text = read(path)
        except Exception:  # whatever a parser raises is a failure to read
            text = ""
        num_failed += not text.strip()
        num_chars += len(text)
    return _told(name, len(files), num_failed, num_chars, time.perf_counter() - began)


def _told(name: str, files: int, failed: int, characters: int, seconds: float) -> Row:
    print(f"{name:<12}  {files:>6,}  {failed:>6,}  {characters:>12,}  {seconds:>7.1f}")
    return {
        "reader": name,
        "files": files,
        "failed": failed,
        "characters": characters,
        "seconds": seconds,
    }


def from_disk_to_tokens(num_tokens: int, model: str) -> list[Row]:
    """A folder of about `num_tokens`, read and packed twice."""
    tokenizer = Tokenizer(library.ensure(model, lambda *_: None))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "files")
        counts = write_folder(folder, num_tokens)
        print(f"\n{counts}, {usable_cores()} cores")
        options = ReadOptions(cache=Cache(Path(root, "cache")))
        for run in ("cold", "cached"):
            began = time.perf_counter()
            packed = pack_all(read_files([str(folder)], options=options), tokenizer)
            took = time.perf_counter() - began
            print(f"{run:<6}  {packed.num_tokens:>9,} tokens  {took:>6.1f} s")
            rows.append({"run": run, "tokens": packed.num_tokens, "seconds": took, **counts})
    return rows


if __name__ == "__main__":
    main()
