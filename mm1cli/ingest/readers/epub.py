"""EPUB: the pages of a book in the order of its spine, each a chapter."""

import posixpath
from urllib.parse import unquote

from mm1cli.ingest.corpus import Block, Damaged, Place, Reason, Unread
from mm1cli.ingest.readers.html import decode_html, html_blocks
from mm1cli.ingest.readers.lines import hidden_warnings, one_paragraph, ranges
from mm1cli.ingest.readers.markup import (
    Element,
    attribute,
    child,
    children,
    descendants,
    lxml_version,
)
from mm1cli.ingest.readers.package import Package
from mm1cli.ingest.readers.reader import MIB, Reader, ReadError, Reading

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGE_TYPES = frozenset({"application/xhtml+xml", "text/html", "text/x-oeb1-document"})


def read_epub(data: bytes) -> Reading:
    """Blocks of paragraphs; the place is the chapter, with its title in the table of contents.

    Raises ReadError: EMPTY, ENCRYPTED, TOO_LARGE, UNREADABLE.
    """
    package = Package(data)
    book = _Book(package)
    locked = _locked(package)
    blocks: list[Block] = []
    warnings: list[str] = []
    blank: list[int] = []
    for index, path in enumerate(book.spine):
        if path.lower() in locked:
            raise ReadError(Reason.ENCRYPTED)
        try:
            found = book.chapter(index, path)
        except ReadError as error:
            if error.reason is Reason.TOO_LARGE:
                raise
            warnings.append(
                Damaged(f"chapter {index + 1} cannot be read: {error.detail or error.reason}")
            )
            continue
        blocks += found
        if not found:
            blank.append(index)
    if not blocks:
        if warnings:
            raise ReadError(Reason.UNREADABLE, warnings[0])
        raise ReadError(Reason.EMPTY)
    if blank:
        warnings.append(f"without text: chapter {ranges(blank)}")
    warnings += hidden_warnings(blocks)
    if left := book.num_outside_spine():
        warnings.append(Unread(f"{left} pages that the book does not show are not read"))
    return Reading(tuple(blocks), (*package.warnings, *warnings), lxml_version())


class _Book:
    def __init__(self, package: Package) -> None:
        self._package = package
        opf = _opf(package)
        self._folder = posixpath.dirname(opf)
        root = package.xml(opf)
        manifest = child(root, "manifest")
        spine = child(root, "spine")
        if manifest is None or spine is None:
            raise ReadError(Reason.UNREADABLE, "no spine in the book")
        items = {attribute(item, "id"): item for item in children(manifest, "item")}
        entries = [
            (items[key], attribute(entry, "linear") == "no")
            for entry in children(spine, "itemref")
            if (key := attribute(entry, "idref")) in items
        ]
        # A table of contents beside the reading order says each heading once more.
        self.spine = list(
            dict.fromkeys(
                self._path(attribute(item, "href"))
                for item, is_beside in entries
                if not (is_beside and _is_navigation(item))
            )
        )
        self._pages = {
            self._path(attribute(item, "href")): attribute(item, "media-type")
            for item in items.values()
        }
        self._toc: dict[str, str] = {}
        self._navigation = ""
        for item in items.values():
            path = self._path(attribute(item, "href"))
            if _is_navigation(item):
                self._navigation = path
            is_ncx = attribute(item, "media-type") == "application/x-dtbncx+xml"
            if path in package and (is_ncx or path == self._navigation):
                self._read_contents(path)

    def chapter(self, index: int, path: str) -> list[Block]:
        if self._pages.get(path, "") not in _PAGE_TYPES:
            return []
        text, _, _ = decode_html(self._package.read(path))
        place = Place("chapter", index, self._toc.get(path, ""))
        blocks, title = html_blocks(text, place)
        if place.label or not blocks:
            return blocks
        headings = blocks[0].headings
        label = headings[0] if headings else title
        return html_blocks(text, Place("chapter", index, label))[0] if label else blocks

    def num_outside_spine(self) -> int:
        shown = {*self.spine, self._navigation}
        return sum(
            media_type in _PAGE_TYPES and path not in shown and path in self._package
            for path, media_type in self._pages.items()
        )

    def _path(self, href: str) -> str:
        href = unquote(href.partition("#")[0])
        return posixpath.normpath(posixpath.join("/", self._folder, href)).lstrip("/")

    def _read_contents(self, path: str) -> None:
        """The first title that points to each page, out of a nav page or an NCX."""
        folder = posixpath.dirname(path)
        try:
            root = self._package.xml(path)
        except ReadError as error:
            if error.reason is Reason.TOO_LARGE:
                raise
            return
        entries: list[tuple[str, str]] = []
        for point in descendants(root, "navPoint"):
            target, label = child(point, "content"), child(point, "navLabel", "text")
            if target is not None and label is not None:
                entries.append((attribute(target, "src"), label.text or ""))
        for nav in descendants(root, "nav"):
            if attribute(nav, "type") in {"toc", ""}:
                links = descendants(nav, "a")
                entries += [(attribute(link, "href"), "".join(link.itertext())) for link in links]
        for href, text in entries:
            page = posixpath.normpath(
                posixpath.join("/", folder, unquote(href.partition("#")[0]))
            ).lstrip("/")
            if label_text := " ".join(one_paragraph(text).split()):
                self._toc.setdefault(page, label_text)


def _is_navigation(item: Element) -> bool:
    return "nav" in attribute(item, "properties").split()


def _opf(package: Package) -> str:
    if _CONTAINER not in package:
        raise ReadError(Reason.UNREADABLE, "no book in the package")
    for rootfile in descendants(package.xml(_CONTAINER), "rootfile"):
        if (path := attribute(rootfile, "full-path").lstrip("/")) in package:
            return path
    raise ReadError(Reason.UNREADABLE, "no book in the package")


def _locked(package: Package) -> set[str]:
    """The parts under a lock. Fonts are often scrambled, which is no lock on the text."""
    if _ENCRYPTION not in package:
        return set()
    root: Element = package.xml(_ENCRYPTION)
    references = descendants(root, "CipherReference")
    return {unquote(attribute(reference, "URI")).lower() for reference in references}


EPUB = Reader(
    name="epub",
    version=6,
    kinds={".epub": "epub"},
    max_bytes=256 * MIB,
    sandboxed=True,
    read=read_epub,
)
