"""Formulas as one line of LaTeX: Office's markup (OMML) and MathML.

Letters and signs stay as they are written, so that a formula can be quoted and searched; only what
a line of plain text cannot say has a command: fractions, roots, limits, matrices.
"""

from collections.abc import Callable, Iterable

from mm1cli.ingest.readers.markup import Element, attribute, child, children, local_name, names

_LARGE = {
    "∑": "\\sum",
    "∏": "\\prod",
    "∐": "\\coprod",
    "∫": "\\int",
    "∬": "\\iint",
    "∭": "\\iiint",
    "∮": "\\oint",
    "⋃": "\\bigcup",
    "⋂": "\\bigcap",
    "⋁": "\\bigvee",
    "⋀": "\\bigwedge",
    "⨁": "\\bigoplus",
    "⨂": "\\bigotimes",
}
_ACCENTS = {
    "\u0302": "hat",
    "^": "hat",
    "\u0303": "tilde",
    "~": "tilde",
    "\u0304": "bar",
    "\u0305": "overline",
    "¯": "overline",
    "\u203e": "overline",
    "\u0307": "dot",
    "˙": "dot",
    "\u0308": "ddot",
    "\u20d7": "vec",
    "→": "vec",
    "\u0306": "breve",
    "\u030c": "check",
}
_NAMES = names(
    "sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln lg exp lim max min sup inf"
    " det dim ker gcd deg arg"
)
_INVISIBLE = dict.fromkeys(map(ord, "\u2061\u2062\u2063\u2064"))
_DEEPEST = 100
_PROPERTIES = "Pr"  # how the names of Office's properties end


def raised(text: str, sign: str) -> str:
    """`text` above ("^") or below ("_") the line."""
    return f"{sign}{{{text}}}" if text.strip() else ""


def omml(element: Element) -> str:
    """A formula of Office, from `oMath` or anything inside it."""
    return " ".join(_office(element, 0).split())


def mathml(element: Element) -> str:
    """A formula in MathML; the LaTeX that an author left with it is taken as it is."""
    for note in element.iter("{*}annotation"):
        if "tex" in attribute(note, "encoding").lower() and (text := "".join(note.itertext())):
            return " ".join(text.split())
    return " ".join(_content(element, 0).split())


def _office(element: Element, depth: int) -> str:
    if depth > _DEEPEST:
        return "".join(element.itertext())
    name = local_name(element)
    if name == "t":
        return element.text or ""

    def part(key: str) -> str:
        found = child(element, key)
        return "" if found is None else _joined(found, _office, depth).strip()

    def setting(key: str, default: str) -> str:
        """The value of a property; an element without a value says that there is no sign."""
        found = child(element, f"{name}{_PROPERTIES}", key)
        return default if found is None else attribute(found, "val")

    match name:
        case "f":
            kind = setting("type", "bar")
            if kind == "noBar":
                return f"{{{part('num')} \\atop {part('den')}}}"
            if kind in {"lin", "skw"}:
                return f"{_grouped(part('num'))}/{_grouped(part('den'))}"
            return f"\\frac{{{part('num')}}}{{{part('den')}}}"
        case "rad":
            degree = part("deg")
            return f"\\sqrt{f'[{degree}]' if degree else ''}{{{part('e')}}}"
        case "sSup" | "sSub" | "sSubSup":
            return _scripts(part("e"), part("sub"), part("sup"))
        case "sPre":
            return "{}" + _scripts("", part("sub"), part("sup")) + part("e")
        case "nary":
            sign = setting("chr", "∫")
            return _operator(sign, part("sub"), part("sup")) + f" {part('e')} "
        case "d":
            separator = setting("sepChr", "|")
            inside = separator.join(
                _joined(one, _office, depth).strip() for one in children(element, "e")
            )
            return f"{setting('begChr', '(')}{inside}{setting('endChr', ')')}"
        case "m":
            rows = (children(row, "e") for row in children(element, "mr"))
            return _matrix([[_joined(one, _office, depth) for one in row] for row in rows])
        case "eqArr":
            lines = (_joined(one, _office, depth).strip() for one in children(element, "e"))
            return " \\\\ ".join(line.replace("&", "") for line in lines)
        case "func":
            return f"{_named(part('fName'))} {part('e')}"
        case "limLow" | "limUpp":
            base = _named(part("e"))
            return base + raised(part("lim"), "_" if name == "limLow" else "^")
        case "acc":
            return f"\\{_ACCENTS.get(setting('chr', '^'), 'hat')}{{{part('e')}}}"
        case "bar":
            where = "overline" if setting("pos", "bot") == "top" else "underline"
            return f"\\{where}{{{part('e')}}}"
        case _ if name.endswith(_PROPERTIES):
            return ""
        case _:
            return _joined(element, _office, depth)


def _content(element: Element, depth: int) -> str:
    if depth > _DEEPEST:
        return "".join(element.itertext())
    name = local_name(element)
    inside = [one for one in element if local_name(one)]

    def part(at: int) -> str:
        return _content(inside[at], depth + 1).strip() if at < len(inside) else ""

    match name:
        case "mi" | "mn" | "mtext" | "ms":
            return _named("".join(element.itertext()).translate(_INVISIBLE).strip())
        case "mo":
            sign = "".join(element.itertext()).translate(_INVISIBLE).strip()
            return f"{_LARGE[sign]} " if sign in _LARGE else sign
        case "mfrac":
            return f"\\frac{{{part(0)}}}{{{part(1)}}}"
        case "msqrt":
            return f"\\sqrt{{{_joined(element, _content, depth).strip()}}}"
        case "mroot":
            return f"\\sqrt[{part(1)}]{{{part(0)}}}"
        case "msup":
            return _scripts(part(0), "", part(1))
        case "msub":
            return _scripts(part(0), part(1), "")
        case "msubsup" | "munderover":
            return _scripts(part(0), part(1), part(2)) + " "
        case "munder":
            return _scripts(part(0), part(1), "") + " "
        case "mover":
            accent = _ACCENTS.get(part(1))
            return f"\\{accent}{{{part(0)}}}" if accent else _scripts(part(0), "", part(1))
        case "mtable":
            rows = [one for one in inside if local_name(one) in {"mtr", "mlabeledtr"}]
            return _matrix([[_joined(cell, _content, depth) for cell in row] for row in rows])
        case "mfenced":
            separator = attribute(element, "separators")[:1] or ","
            texts = separator.join(part(at) for at in range(len(inside)))
            return f"{element.attrib.get('open', '(')}{texts}{element.attrib.get('close', ')')}"
        case "semantics":
            return part(0)
        case "annotation" | "annotation-xml" | "mphantom" | "maligngroup" | "malignmark":
            return ""
        case "mspace":
            return " "
        case _:
            return _joined(element, _content, depth)


def _joined(element: Element, write: Callable[[Element, int], str], depth: int) -> str:
    return "".join(write(inner, depth + 1) for inner in element)


def _scripts(base: str, lower: str, upper: str) -> str:
    return _named(base) + raised(lower, "_") + raised(upper, "^")


def _operator(sign: str, lower: str, upper: str) -> str:
    return _LARGE.get(sign, sign) + raised(lower, "_") + raised(upper, "^")


def _named(text: str) -> str:
    return f"\\{text}" if text in _NAMES else text


def _grouped(text: str) -> str:
    return text if len(text) < 2 or text.isalnum() else f"({text})"


def _matrix(rows: Iterable[Iterable[str]]) -> str:
    lines = " \\\\ ".join(" & ".join(cell.strip() for cell in row) for row in rows)
    return f"\\begin{{matrix}}{lines}\\end{{matrix}}"
