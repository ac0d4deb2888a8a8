"""What a reader is, what it returns, and how it says no."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mm1cli.ingest.corpus import Block, Reason

MIB = 1 << 20
MAX_MEMBERS = 10_000
MAX_MEMBER_BYTES = 256 * MIB


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a file: a member of an archive, an attachment of an e-mail.

    `name` is its path in the container, as the container gives it. A member that cannot be given
    out has `refusal`, and then no data; one that is cut off or damaged has `damage`, which says so.
    """

    name: str
    data: bytes = b""
    refusal: "ReadError | None" = None
    damage: str = ""


def beyond(why: str) -> Member:
    """Stands for all members that are not given out, so that they are an omission."""
    return Member("what follows", refusal=ReadError(Reason.TOO_LARGE, why))


@dataclass(frozen=True, slots=True)
class Reading:
    """The text of one file. Blocks hold no NUL, no lone surrogate, and "\\n" as only line end.

    `library` is the package and version that parsed the file, if one did; `encoding` is that of a
    text file. `members` are read after it, each as a file of its own: the reader counts their
    bytes while it inflates them, and has at most `MAX_MEMBERS` of `MAX_MEMBER_BYTES` in all.
    """

    blocks: tuple[Block, ...]
    warnings: tuple[str, ...] = ()
    library: str = ""
    encoding: str = ""
    members: tuple[Member, ...] = ()


def installed(package: str) -> str:
    """The package with its version, as `Reading.library` has it."""
    import importlib.metadata

    return f"{package} {importlib.metadata.version(package)}"


class ReadError(Exception):
    """A file that has no text to give; `detail` is one line."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Reader:
    """`read` turns a file's bytes into a `Reading` or raises ReadError.

    `version` grows when the same bytes give other text than before. `kinds` maps an extension
    (".pdf") to the kind of document. A `sandboxed` reader runs someone else's parser and must only
    be called in the child process; other readers never raise anything but ReadError. `fallback`
    names the reader that is tried when this one breaks its child, `with_ocr` the one to take for
    `--ocr`. One that `is_converter` gives a single member, which is read instead of the file. One
    file may take `patience` times as long as usual.
    """

    name: str
    version: int
    kinds: Mapping[str, str]
    max_bytes: int
    sandboxed: bool
    read: Callable[[bytes], Reading]
    fallback: str = ""
    with_ocr: str = ""
    patience: int = 1
    is_converter: bool = False
