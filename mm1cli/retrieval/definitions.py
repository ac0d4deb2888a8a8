"""The headings of source code: the definitions that lines stand in, as the grammars see them."""

from collections.abc import Callable, Iterable
from math import inf

from mm1cli.code.grammars import grammar_of
from mm1cli.code.parsed import MAX_SCOPE, Parsed, RawDefinition
from mm1cli.code.parsing import parse_all, source_text
from mm1cli.ingest.corpus import Corpus
from mm1cli.retrieval.passages import Outline


def outlines(
    corpus: Corpus, on_parsed: Callable[[int, int], None] = lambda _done, _total: None
) -> list[Outline]:
    """For each document, from which offset of its text on which definitions are around.

    Empty for what is no source code, or cannot be parsed. Parses in child processes: see `parsing`.
    `on_parsed` gets how many files are, and of how many.
    """
    has_cpp = any(document.kind in ("cpp", "cuda") for document in corpus.documents)
    grammars = [
        # Lines of the source are lines of its one block; a text of several is none of a file.
        grammar_of(document, has_cpp=has_cpp) if len(document.blocks) == 1 else ""
        for document in corpus.documents
    ]
    jobs = [pair for pair in zip(corpus.documents, grammars, strict=True) if pair[1]]
    parsed = parse_all(jobs) if jobs else iter(())
    found: list[Outline] = []
    num_parsed = 0
    for document, grammar in zip(corpus.documents, grammars, strict=True):
        outcome = next(parsed) if grammar else None
        if grammar:
            num_parsed += 1
            on_parsed(num_parsed, len(jobs))
        definitions = outcome.definitions if isinstance(outcome, Parsed) else ()
        found.append(_outline(definitions, source_text(document)) if definitions else ())
    return found


def _outline(definitions: Iterable[RawDefinition], text: str) -> Outline:
    """Of definitions that span lines: one that is a line says itself what it is."""
    points: dict[int, tuple[str, ...]] = {1: ()}  # by line
    around: list[tuple[int, tuple[str, ...]]] = []  # last line, names, outermost first

    def close_before(line: float) -> None:
        while around and around[-1][0] < line:
            last, _ = around.pop()
            points[last + 1] = around[-1][1] if around else ()

    for one in sorted(definitions, key=lambda one: (one.first, -one.last)):
        if one.first == one.last:
            continue
        close_before(one.first)
        # A method of Go names its receiver, which does not stand around it.
        above = around[-1][1] if around else one.scope
        names = (*above, f"{one.kind} {one.name}")[:MAX_SCOPE]
        points[one.first] = names
        around.append((one.last, names))
    close_before(inf)
    starts = [0, *(at + 1 for at, character in enumerate(text) if character == "\n")]
    inside = [line for line in sorted(points) if line <= len(starts)]
    return tuple((starts[line - 1], points[line]) for line in inside)
