"""Formulas of Office and of MathML as one line of LaTeX."""

import pytest

from mm1cli.ingest.readers.lines import signed
from mm1cli.ingest.readers.markup import parse_xml
from mm1cli.ingest.readers.maths import mathml, omml

M = "http://schemas.openxmlformats.org/officeDocument/2006/math"


def r(text):
    return f"<m:r><m:t>{text}</m:t></m:r>"


def sign(name, value):
    return f'<m:{name} m:val="{value}"/>'


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (
            r("f")
            + f"<m:d><m:e>{r('x')}</m:e></m:d>"
            + r("=2")
            + f"<m:d><m:e>{r('x+1')}</m:e></m:d>",
            "f(x)=2(x+1)",
        ),
        (
            f"<m:nary><m:naryPr>{sign('chr', '∑')}</m:naryPr><m:sub>{r('i=1')}</m:sub>"
            f"<m:sup>{r('n')}</m:sup><m:e>{r('i')}</m:e></m:nary>",
            "\\sum_{i=1}^{n} i",
        ),
        (
            f"<m:nary><m:sub>{r('0')}</m:sub><m:sup>{r('1')}</m:sup>"
            f"<m:e>{r('x dx')}</m:e></m:nary>",
            "\\int_{0}^{1} x dx",
        ),
        (
            f"<m:d><m:dPr>{sign('begChr', '[')}{sign('endChr', ']')}</m:dPr><m:e>"
            f"<m:m><m:mr><m:e>{r(1)}</m:e><m:e>{r(2)}</m:e></m:mr></m:m></m:e></m:d>",
            "[\\begin{matrix}1 & 2\\end{matrix}]",
        ),
        (f"<m:rad><m:deg>{r(3)}</m:deg><m:e>{r('x')}</m:e></m:rad>", "\\sqrt[3]{x}"),
        (f"<m:func><m:fName>{r('sin')}</m:fName><m:e>{r('x')}</m:e></m:func>", "\\sin x"),
        (
            f"<m:f><m:fPr>{sign('type', 'noBar')}</m:fPr><m:num>{r('n')}</m:num>"
            f"<m:den>{r('k')}</m:den></m:f>",
            "{n \\atop k}",
        ),
    ],
)
def test_office_formulas_are_linear_latex(formula, expected):
    """Red: 2(x+1) is read as 2x+1, and a sum without its limits."""
    assert omml(parse_xml(f'<m:oMath xmlns:m="{M}">{formula}</m:oMath>'.encode())) == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("<msup><mn>10</mn><mn>6</mn></msup>", "10^{6}"),
        (
            "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover>"
            "<mi>i</mi>",
            "\\sum_{i=1}^{n} i",
        ),
        ("<mfrac><mn>1</mn><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow></mfrac>", "\\frac{1}{a+b}"),
        (
            "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr></mtable>",
            "\\begin{matrix}1 & 2\\end{matrix}",
        ),
        (
            "<semantics><mi>x</mi><annotation encoding='application/x-tex'>x^2</annotation>"
            "</semantics>",
            "x^2",
        ),
    ],
)
def test_mathml_is_linear_latex(formula, expected):
    """Red: a half on a page is read as 12."""
    assert mathml(parse_xml(f"<math>{formula}</math>".encode())) == expected


@pytest.mark.parametrize(
    ("pieces", "sign", "expected"),
    [
        (["was ", "950 "], "~", "was ~~950~~ "),
        (["~~950~~", " "], "~", "~~950~~ "),
        ([" 6"], "^", " ^{6}"),
        (["~~one~~ ", "look"], "~", "~~one look~~"),
        (["_{a}", " b"], "_", "_{a b}"),
        (["x", " "], "^", "x "),
    ],
)
def test_blanks_stay_outside_of_signs_and_one_look_has_them_once(pieces, sign, expected):
    """Red: words run together where a word was struck out or raised."""
    *before, last = pieces
    text = signed(last, sign, before)
    assert "".join([*before, text]) == expected
