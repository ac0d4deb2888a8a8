"""Styles of WordprocessingML: outline levels, lists, and which text nobody sees."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mm1cli.ingest.readers.docx_ink import Ink, ink_of, ink_of_style, is_unseen
from mm1cli.ingest.readers.markup import Element, attribute, child, children, is_true, number

NUM_LEVELS = 9
_TITLE_LEVEL = -1


@dataclass(slots=True)
class Styles:
    """What the ids of styles say: the outline level of headings, and which text is hidden."""

    levels: dict[str, int] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    lists: dict[str, tuple[str, int]] = field(default_factory=dict)
    inks: dict[str, Ink] = field(default_factory=dict)
    depths: dict[str, int] = field(default_factory=dict)  # of "List Bullet 2" and its like, from 0

    @classmethod
    def of(cls, root: Element) -> "Styles":
        styles = {attribute(style, "styleId"): style for style in children(root, "style")}
        levels = {}
        hidden = set()
        lists = {}
        inks = {}
        for name in styles:
            chain = list(_ancestry(name, styles))
            own = (_style_level(style) for style in chain)
            if (level := next((level for level in own if level is not None), None)) is not None:
                levels[name] = level
            if any(_is_hidden(style) for style in chain):
                hidden.add(name)
            properties = [found for style in chain if (found := child(style, "pPr")) is not None]
            listed = (list_of(found) for found in properties)
            if (first := next((found for found in listed if found is not None), None)) is not None:
                lists[name] = first
            inks[name] = ink_of_style(chain)
        depths = {name: depth for name, style in styles.items() if (depth := _depth(style))}
        return cls(levels, frozenset(hidden), lists, inks, depths)

    def mark(self, run: Element | None, paragraph_style: str, *, is_on_ground: bool) -> str:
        """Why nobody sees the text of a run with the properties `run`; "" where it is seen.

        `is_on_ground` says that something other than the white page lies below it.
        """
        style = child(run, "rStyle") if run is not None else None
        run_style = "" if style is None else attribute(style, "val")
        own = None if run is None else child(run, "vanish")
        if own is not None:
            is_hidden = is_true(attribute(own, "val"), default=True)
        else:
            is_hidden = run_style in self.hidden
        if is_hidden:
            return "hidden"
        found = [self.inks[name] for name in (run_style, paragraph_style) if name in self.inks]
        inks = [ink_of(run), *found] if run is not None else found
        return "invisible" if is_unseen(inks, is_on_ground=is_on_ground) else ""

    def paints(self, style: Element | None) -> bool:
        """Whether the style that `style` refers to colours the ground below its text."""
        ink = None if style is None else self.inks.get(attribute(style, "val"))
        return ink is not None and ink.is_on_ground


def _ancestry(name: str, styles: dict[str, Element]) -> Iterator[Element]:
    """The style and those it is based on."""
    seen = set()
    while name in styles and name not in seen:
        seen.add(name)
        yield styles[name]
        based_on = child(styles[name], "basedOn")
        name = "" if based_on is None else attribute(based_on, "val")


def _style_level(style: Element) -> int | None:
    if (outline := child(style, "pPr", "outlineLvl")) is not None:
        level = number(outline, "val", NUM_LEVELS)
        return level if 0 <= level < NUM_LEVELS else None
    name_element = child(style, "name")
    name = "" if name_element is None else attribute(name_element, "val").lower()
    if name.startswith("heading ") and name[8:] in set("123456789"):
        return int(name[8:]) - 1
    return _TITLE_LEVEL if name == "title" else None


def _depth(style: Element) -> int:
    name = child(style, "name")
    words = [] if name is None else attribute(name, "val").lower().split()
    return int(words[-1]) - 1 if words[:1] == ["list"] and words[-1] in set("2345") else 0


def list_of(properties: Element) -> tuple[str, int] | None:
    """The list that a paragraph or style belongs to, and its level in it."""
    listed = child(properties, "numPr")
    key = None if listed is None else child(listed, "numId")
    if listed is None or key is None:
        return None
    level = child(listed, "ilvl")
    return attribute(key, "val"), 0 if level is None else number(level, "val")


def _is_hidden(style: Element) -> bool:
    properties = child(style, "rPr")
    return properties is not None and is_on(properties, "vanish")


def is_on(properties: Element, name: str) -> bool:
    """Whether a switch of a run's properties is there and not turned off."""
    switch = child(properties, name)
    return switch is not None and is_true(attribute(switch, "val"), default=True)
