"""XML from strangers, by local names: no entity is expanded and nothing is fetched.

Local names, because ISO-strict Office files carry other namespaces than all the rest.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, Self

from mm1cli.ingest.corpus import Reason
from mm1cli.ingest.display_names import one_line
from mm1cli.ingest.readers.reader import ReadError

if TYPE_CHECKING:
    from mm1cli.ingest.readers.inflation import Stream


class Element(Protocol):
    """What the readers need of an lxml element."""

    tag: object
    text: str | None
    tail: str | None

    @property
    def attrib(self) -> Mapping[str, str]: ...
    def __iter__(self) -> Iterator[Self]: ...
    def __len__(self) -> int: ...
    def __delitem__(self, index: int) -> None: ...
    def iter(self, *tags: str) -> Iterator[Self]: ...
    def itertext(self) -> Iterator[str]: ...
    def getparent(self) -> Self | None: ...
    def getprevious(self) -> Self | None: ...
    def clear(self) -> None: ...
    def getroottree(self) -> Any: ...  # noqa: ANN401


def is_maths(element: Element) -> bool:
    """Whether it is Office's markup for formulas, which has very short names."""
    return isinstance(element.tag, str) and "/math" in element.tag


def names(listed: str) -> frozenset[str]:
    """The names in a string that lists them."""
    return frozenset(listed.split())


@lru_cache(maxsize=4096)
def _local(name: str) -> str:
    return name.rpartition("}")[2]


def local_name(element: Element) -> str:
    # Comments and processing instructions have a function for a tag.
    return _local(element.tag) if isinstance(element.tag, str) else ""


def attribute(element: Element, name: str) -> str:
    """The attribute called `name` in whatever namespace, "" without one."""
    for key, value in element.attrib.items():
        if _local(key) == name:
            return value
    return ""


def relation_id(element: Element) -> str:
    """Of the attributes called "id", the one with a namespace: it names a relation."""
    return next((value for key, value in element.attrib.items() if key.endswith("}id")), "")


def number(element: Element, name: str, default: int = 0) -> int:
    """The attribute as a number; `default` where it is missing or no number."""
    text = attribute(element, name).strip()
    # Python would take an hour over a million digits, and wants none that are not ASCII.
    is_number = len(text) < 20 and text.isascii() and text.lstrip("-").isdigit()
    return int(text) if is_number and text.rfind("-") < 1 else default


def is_true(value: str, *, default: bool = False) -> bool:
    """An XML boolean as Office writes it; `default` for ""."""
    return value.lower() in {"1", "true", "on"} if value else default


def child(element: Element, *path: str) -> Element | None:
    """The first child called `path[0]`, its first child called `path[1]`, and so on."""
    found: Element | None = element
    for name in path:
        if found is None:
            return None
        found = next((inner for inner in found if local_name(inner) == name), None)
    return found


def children(element: Element, name: str) -> Iterator[Element]:
    return (inner for inner in element if local_name(inner) == name)


def descendants(element: Element, name: str) -> Iterator[Element]:
    """In document order, the element itself included."""
    return element.iter(f"{{*}}{name}")


def alternative(element: Element) -> Element:
    """The branch of an AlternateContent to read: the first that has text, or else the first."""
    branches = [branch for branch in element if local_name(branch) in {"Choice", "Fallback"}]
    for branch in branches:
        if any((text.text or "").strip() for text in descendants(branch, "t")):
            return branch
    return branches[0] if branches else element


def parse_xml(data: bytes, *, is_cut: bool = False) -> Element:
    """The root; of data that is cut off, as far as it goes. Raises ReadError: UNREADABLE, also for
    a file that declares entities."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        recover=is_cut,
    )
    try:
        root: Element | None = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise broken(error) from None
    if root is None:
        raise ReadError(Reason.UNREADABLE, "cut off before its first element")
    _refuse_entities(root)
    return root


def stream_xml(stream: "Stream", *names: str) -> Iterator[Element]:
    """Every element called one of `names` once it is complete; it is emptied afterwards.

    Memory stays that of one such element, where the elements are siblings. Raises ReadError.
    """
    from lxml import etree

    events = etree.iterparse(
        stream,
        events=("end",),
        tag=[f"{{*}}{name}" for name in names],
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    is_first = True
    try:
        for _, element in events:
            if is_first:
                _refuse_entities(element)
                is_first = False
            yield element
            element.clear()
            parent = element.getparent()
            while parent is not None and element.getprevious() is not None:
                del parent[0]
    except etree.XMLSyntaxError as error:
        raise broken(error) from None


def _refuse_entities(element: Element) -> None:
    """Text in entities would be left out in silence, and no honest file has them."""
    declared = element.getroottree().docinfo.internalDTD
    for entity in () if declared is None else declared.iterentities():
        raise ReadError(Reason.UNREADABLE, f"declares the entity '{one_line(entity.name)}'")


def broken(error: Exception) -> ReadError:
    message = one_line(str(error).strip() or type(error).__name__)[:200]
    return ReadError(Reason.UNREADABLE, message)


def lxml_version() -> str:
    from lxml import etree

    return f"lxml {etree.__version__}"
