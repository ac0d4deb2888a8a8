"""Stretches of real Python files with a bug in some of their functions, drawn with a seed.

Nothing is copied: the standard library, installed packages and mm1 itself are read where they are.
"""

import ast
import importlib.util
import random
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.work import digest
from benchmarks.surprisal.mutations import (
    KINDS,
    Function,
    Mutation,
    apply,
    is_real,
    mutations,
    parse,
)
from engine.tokenizer import Tokenizer
from mm1cli.ingest.corpus import Block, Corpus, Document
from mm1cli.ingest.pack import Packed, pack

PACKAGES = ("numpy", "networkx", "jinja2", "rich", "hypothesis", "click", "sympy")
OWN = ("kernels", "engine", "mm1cli", "training")
SOURCES = ("standard library", "packages", "mm1")
MOST_BUGS = 5  # in one piece, each in a function of its own
FEWEST_BUGS = 2
_SKIPPED = frozenset(
    {"encodings", "test", "tests", "idlelib", "turtledemo", "site-packages", "__pycache__"}
)
_FEWEST_LINES = 60
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Bug:
    """`line` is where it is seen in the piece with bugs, `original_line` in the one without."""

    kind: str
    line: int
    original_line: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Lines of one file, before and after. `is_test` says which half it belongs to."""

    source: str
    path: str
    first: int
    before: str
    after: str
    bugs: tuple[Bug, ...]
    is_test: bool

    def packed(self, tokenizer: Tokenizer, *, with_bugs: bool) -> Packed:
        text = self.after if with_bugs else self.before
        block = Block(text, first=self.first)
        document = Document(self.path, "python", len(text.encode()), "", "text", (block,))
        return pack(Corpus((document,)), tokenizer)


def files(source: str) -> list[tuple[str, Path]]:
    """(name, path) of a source's Python files, in a fixed order."""
    roots: list[tuple[str, Path]] = []
    if source == "standard library":
        roots.append(("", Path(sysconfig.get_paths()["stdlib"])))
    elif source == "packages":
        for name in PACKAGES:
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None:
                roots.append((f"{name}/", Path(spec.origin).parent))
    else:
        roots += [(f"{name}/", _ROOT / name) for name in OWN]
    return [
        (prefix + path.relative_to(root).as_posix(), path)
        for prefix, root in roots
        for path in sorted(root.rglob("*.py"))
        if _SKIPPED.isdisjoint(path.relative_to(root).parts)
    ]


def pieces(
    tokenizer: Tokenizer, num_tokens: int, seed: int, sources: Sequence[str] | None = None
) -> Iterator[Piece]:
    """Endless but for the files there are: sources in turn, each file once, halves in turn."""
    named = SOURCES if sources is None else sources
    streams = {source: _of_source(source, tokenizer, num_tokens, seed) for source in named}
    is_test = False
    while streams:
        for source in list(streams):
            piece = next(streams[source], None)
            if piece is None:
                del streams[source]
                continue
            name, first, before, after, bugs = piece
            yield Piece(source, name, first, before, after, bugs, is_test)
        is_test = not is_test


_Found = tuple[str, int, str, str, tuple[Bug, ...]]


def _of_source(source: str, tokenizer: Tokenizer, num_tokens: int, seed: int) -> Iterator[_Found]:
    counts: Counter[str] = Counter()
    # By hash, so that a file more or less leaves the others where they are.
    for name, path in sorted(files(source), key=lambda file: digest([seed, file[0]])):
        try:
            text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
            tree = parse(text)
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        draw = random.Random(f"{seed} {name}")
        found = _piece(text, tree, tokenizer, num_tokens, draw, counts)
        if found is not None:
            yield name, *found


def _piece(
    text: str,
    tree: ast.Module,
    tokenizer: Tokenizer,
    num_tokens: int,
    draw: random.Random,
    counts: Counter[str],
) -> tuple[int, str, str, tuple[Bug, ...]] | None:
    """(first line, before, after, bugs), or None where there is too little to choose from."""
    lines = text.split("\n")  # as ast counts them, form feeds aside
    if "\f" in text or "\r" in text:
        return None
    sizes = [len(ids) for ids in tokenizer.encode_batch([line + "\n" for line in lines])]
    starts = [1, *(_begin(node) for node in _parts(tree))]
    if sum(sizes) > num_tokens:
        fitting = [at for at in starts if sum(sizes[at - 1 :]) >= num_tokens // 2]
        first = draw.choice(fitting)
    else:
        first = 1
    last, total = first - 1, 0
    while last < len(lines) and total + sizes[last] <= num_tokens:
        total += sizes[last]
        last += 1
    if last - first < _FEWEST_LINES:
        return None
    chosen = _choose(text, lines, tree, (first, last), draw, counts)
    if len(chosen) < FEWEST_BUGS:
        return None
    counts.update(mutation.kind for mutation in chosen)
    changed, seen = apply(lines, chosen)
    removed = sum(mutation.num_removed for mutation in chosen)
    bugs = tuple(Bug(m.kind, line, m.original_line) for m, line in zip(chosen, seen, strict=True))
    before = "\n".join(lines[first - 1 : last]) + "\n"
    after = "\n".join(changed[first - 1 : last - removed]) + "\n"
    return first, before, after, bugs


def _choose(
    text: str,
    lines: list[str],
    tree: ast.Module,
    within: tuple[int, int],
    draw: random.Random,
    counts: Counter[str],
) -> list[Mutation]:
    """At most one bug for each function inside, of the kinds there are fewest of so far."""
    inside = [
        node
        for node in _parts(tree)
        if isinstance(node, Function) and within[0] <= _begin(node) and _end(node) <= within[1]
    ]
    draw.shuffle(inside)
    chosen: list[Mutation] = []
    so_far = Counter(counts)
    for function in inside:
        if len(chosen) == MOST_BUGS:
            break
        found = mutations(function, lines, draw)
        for kind in sorted(KINDS, key=lambda kind: (so_far[kind], kind)):
            options = found[kind]
            draw.shuffle(options)
            real = (m for m in options[:3] if is_real(text, "\n".join(apply(lines, [m])[0])))
            if (mutation := next(real, None)) is not None:
                chosen.append(mutation)
                so_far[kind] += 1
                break
    return sorted(chosen, key=lambda mutation: mutation.line)


def _parts(tree: ast.Module) -> Iterator[ast.stmt]:
    """Top-level statements, and those of top-level classes in place of the class."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from node.body
        else:
            yield node


def _begin(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno
