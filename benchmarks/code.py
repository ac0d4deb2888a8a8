"""Facts of repositories: time from text to facts, beside Python's own `ast` on the Python files.

python -m benchmarks.code FOLDER... [--workers 1]

The folder is read first, which is not counted; what is counted has the start of the child
processes in it. Rates are per second of CPU time, theirs included, as a busy machine says little
of wall time. `ast` parses and walks the tree in this process, without a sandbox.
"""

import argparse
import ast
import resource
import time
import warnings
from contextlib import suppress

from benchmarks import machine
from mm1cli.code import index_of, reading_order
from mm1cli.code.parsing import source_text
from mm1cli.ingest import Corpus, read_corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    rows = [measured(folder, arguments.workers) for folder in arguments.folders]
    print(
        f"{'files':>6}  {'lines':>9}  {'MB':>6}  {'s':>6}  {'CPU s':>6}  {'MB/s':>5}"
        f"  {'lines/s':>8}  {'order s':>7}  {'unparsed':>8}  {'python MB':>9}  {'ast MB/s':>8}"
        "  folder"
    )
    for row in rows:
        print(
            f"{row['files']:>6}  {row['lines']:>9,}  {row['mb']:>6.2f}  {row['facts_s']:>6.2f}"
            f"  {row['cpu_s']:>6.2f}  {row['mb_per_s']:>5.2f}  {row['lines_per_s']:>8,}"
            f"  {row['order_s']:>7.3f}"
            f"  {row['unparsed']:>8}  {row['python_mb']:>9.2f}  {row['ast_mb_per_s']:>8.2f}"
            f"  {row['folder']}"
        )
    machine.print_result("code", rows)


def measured(folder: str, num_workers: int) -> dict[str, object]:
    corpus = read_corpus([folder])
    began, cpu_began = time.perf_counter(), cpu_seconds()
    facts = index_of(corpus, paths=[folder], num_workers=num_workers)
    facts_s, cpu_s = time.perf_counter() - began, cpu_seconds() - cpu_began
    order_s = machine.seconds(lambda: reading_order(corpus, facts.graph))
    code = [file for file in facts.files if file.is_code]
    num_bytes = sum(file.num_bytes for file in code)
    num_lines = sum(file.num_lines for file in code)
    python_bytes = sum(d.num_bytes for d in corpus.documents if d.kind == "python")
    cpu_began = cpu_seconds()
    walk_with_ast(corpus)
    ast_s = cpu_seconds() - cpu_began
    return {
        "folder": folder,
        "workers": num_workers,
        "files": len(code),
        "lines": num_lines,
        "mb": num_bytes / 1e6,
        "facts_s": facts_s,
        "cpu_s": cpu_s,
        "mb_per_s": num_bytes / 1e6 / cpu_s,
        "lines_per_s": round(num_lines / cpu_s),
        "order_s": order_s,
        "definitions": len(facts.definitions),
        "imports": {str(status): count for status, count in facts.import_counts.items()},
        "unparsed": len(facts.unparsed),
        "first_errors": sum(file.first_error is not None for file in facts.files),
        "python_mb": python_bytes / 1e6,
        "ast_mb_per_s": python_bytes / 1e6 / max(ast_s, 1e-9),
    }


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def walk_with_ast(corpus: Corpus) -> int:
    """How many functions, classes and imports `ast` finds."""
    num_found = 0
    for document in corpus.documents:
        if document.kind == "python":
            with suppress(SyntaxError, ValueError), warnings.catch_warnings(action="ignore"):
                for node in ast.walk(ast.parse(source_text(document))):
                    num_found += isinstance(
                        node,
                        ast.FunctionDef
                        | ast.AsyncFunctionDef
                        | ast.ClassDef
                        | ast.Import
                        | ast.ImportFrom,
                    )
    return num_found


if __name__ == "__main__":
    main()
