"""Writes the PDF and the DOCX of examples/papers, byte for byte the same each time.

    python examples/make_papers.py [folder]

The Markdown and the Python file beside them are written by hand. All four are about the harbour
crossing of Port Ellery, a town that does not exist. They agree with each other but for one point,
left in for the demonstrations: the report has the crossing open on 14 September 2017, the minutes
on 21 September 2017.
"""

import sys
import zipfile
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reportlab.pdfgen.canvas import Canvas
    from reportlab.platypus import Flowable
    from reportlab.platypus.doctemplate import BaseDocTemplate

PAPERS = Path(__file__).parent / "papers"

REPORT_TITLE = "The Ellery Harbour Crossing"
REPORT_SUBTITLE = "Final report of the project office to the town council"
REPORT_SUMMARY = (
    "The Ellery harbour crossing is a lift bridge over the harbour mouth of Port Ellery. It joins "
    "the Old Quay in the north to Saltmarsh in the south.",
    "The crossing is 612 metres long and has five spans. It cost 48.2 million crowns. Work began "
    "on 3 March 2014, and the crossing opened to the public on 14 September 2017.",
    "The crossing was built by Calder and Vane, a firm of bridge builders from the city of Hask. "
    "It was designed by the harbour office of Port Ellery.",
)
# One list per page that follows the first; a heading and its paragraphs.
REPORT_PAGES = (
    (
        (
            "Why the town built it",
            "Until 2017 the only ways from the Old Quay to Saltmarsh were the chain ferry and a "
            "road of 31 kilometres around the inlet. In 2011 an ambulance took 44 minutes to reach "
            "a farm that can be seen from the hospital. The council asked for a fixed crossing in "
            "the spring of 2012.",
            "Three designs were compared: a tunnel, a high bridge and a lift bridge. The tunnel "
            "would have cost 130 million crowns. The high bridge would have needed ramps through "
            "the fish market. The lift bridge was chosen because it was the cheapest design that "
            "kept the harbour open to sailing ships.",
        ),
        (
            "What was built",
            "The bridge has five spans. The central span is 44 metres long and can be lifted "
            "between two towers. When it is closed, the clearance above mean high water springs is "
            "7.5 metres. When it is raised, the clearance is 32 metres. A lift takes 4 minutes up "
            "and 3 minutes down.",
            "The deck carries two lanes for vehicles and, on the seaward side, a path 3 metres "
            "wide for people on foot and on bicycles. Lorries above 26 tonnes are not allowed. The "
            "speed limit is 40 kilometres an hour. The bridge keeper closes the deck to all "
            "traffic when the wind is above 95 kilometres an hour.",
        ),
        (
            "How it was built",
            "The foundations stand on 84 steel piles. During the first winter the divers found the "
            "timber piles of a pier that was on no map. Drawing them out took 19 weeks and is the "
            "main reason why the work finished late: the contract had named 1 May 2017 as the day "
            "of opening.",
            "The lifting span was built on land at Hask, brought up the coast on a barge, and set "
            "in place on 22 June 2016 in a single tide.",
        ),
    ),
    (
        (
            "What it cost",
            "The council had approved 45.0 million crowns. The final cost was 48.2 million crowns, "
            "which is 3.2 million crowns above the budget. Of this overrun, 2.1 million crowns "
            "were spent on the timber piles and 1.1 million crowns on a stronger motor for the "
            "lifting span.",
            "The money came from three sources. The province paid 28.0 million crowns, the town "
            "paid 14.2 million crowns from the harbour fund, and a loan covered the remaining 6.0 "
            "million crowns. The loan will be repaid by 2032. There is no toll.",
        ),
        (
            "Safety",
            "Nobody was killed during the work. There were 11 accidents with an injury, 7 of them "
            "in the first winter. After the third accident the project office stopped all diving "
            "at night, and no diver was hurt afterwards.",
            "The lifting span has two motors, and either of them can raise it alone. If both fail, "
            "four people can lower the span by hand in 50 minutes. This is practised every year in "
            "the first week of November.",
        ),
        (
            "Traffic in the first year",
            "In its first twelve months the crossing carried 1.31 million vehicles and 0.46 "
            "million people on foot or on bicycles. The span was lifted 1,904 times. The longest "
            "closure was 6 hours and 20 minutes, in a storm on 8 January 2018.",
            "The drive from the Old Quay to Saltmarsh now takes 3 minutes. The ambulance reached "
            "the same farm in 6 minutes in a trial in October 2017.",
        ),
        (
            "What should be done next",
            "The steel must be repainted in 2027, which will close the bridge for six weeks. The "
            "project office recommends a second control room on the Saltmarsh side before then. "
            "The harbour master should publish the times of planned lifts one day ahead.",
        ),
    ),
)

MINUTES_TITLE = "Minutes of the town council of Port Ellery"
MINUTES = (
    (
        "Opening",
        "The council met in the town hall on 12 October 2017 at 18:30. The mayor was in the "
        "chair. Thirteen of the fifteen members were present; the members for Hill Street and for "
        "the Salt Works had sent apologies. The minutes of the meeting of 7 September were "
        "approved without a change.",
    ),
    (
        "Report on the harbour crossing",
        "The project manager reported that the crossing opened to the public on 21 September 2017 "
        "and that more than 4,000 people walked over it on the first day. The final cost is 48.2 "
        "million crowns, against a budget of 45.0 million crowns.",
        "The member for Fish Market asked why the old timber piles had not been found before the "
        "contract was signed. The project manager answered that the survey of 2013 had looked at "
        "the sea bed to a depth of two metres, and the piles began at three.",
        "The harbour master reported that the lifting span had been raised 112 times so far and "
        "had failed to rise once, for 25 minutes, because of a blown fuse.",
    ),
    (
        "Budget of the crossing for 2018",
        "The treasurer presented the budget for running the crossing in 2018. The items are in "
        "the table. The treasurer explained that the reserve is to be spent only with the consent "
        "of the council.",
    ),
)
BUDGET = (
    ("Item", "Crowns", "Paid from"),
    ("Wages of six bridge keepers", "264,000", "Town"),
    ("Electricity for the lifting span", "58,000", "Town"),
    ("Inspection by divers", "41,000", "Province"),
    ("Insurance", "97,000", "Town"),
    ("Lighting and signs", "22,000", "Town"),
    ("Reserve", "60,000", "Harbour fund"),
    ("Total", "542,000", ""),
)
MINUTES_AFTER_BUDGET = (
    (
        "Vote on the budget",
        "The budget was approved by 12 votes to 1. The member for Saltmarsh voted against it. The "
        "member asked that the reason be recorded: the budget contains no money for a night bus "
        "over the bridge, although Saltmarsh was promised one in 2013.",
        "The mayor replied that a night bus would cost 85,000 crowns a year and that the bus "
        "company had not yet made an offer. The matter will be taken up again in January 2018.",
    ),
    (
        "The future of the ferry",
        "The harbour office proposed to keep the ferry with one boat in place of two, to sell the "
        "Grey Heron, and to raise the single fare from 2.40 to 3.50 crowns on 1 January 2018. The "
        "member for Old Quay said that the ferry brings visitors to the museum and should not be "
        "judged by its fares alone.",
        "The proposal was approved by 9 votes to 4. The council asked the harbour office to keep "
        "counting passengers in the same way as before and to report every year.",
    ),
    (
        "Noise of the lifting span",
        "Residents of Chandler's Row had complained in a letter with 38 signatures about the bell "
        "that rings before each lift. The harbour master proposed to replace the bell with a light "
        "between 22:00 and 06:00. The council agreed without a vote. The change will cost 4,500 "
        "crowns and will be paid from the reserve.",
    ),
    (
        "Name of the crossing",
        "Three names had been proposed for the crossing: the Pilots' Bridge, the Long Reach and "
        "the Ellery Crossing. The council chose the Ellery Crossing by 8 votes to 5. The clerk was "
        "asked to order a plate for each end.",
    ),
    (
        "Close",
        "The mayor closed the meeting at 21:10. The next meeting is on 9 November 2017. These "
        "minutes were taken by the town clerk.",
    ),
)


def write_report(path: Path) -> None:
    """The PDF: a first page labelled i, then pages labelled 1 and 2, the labels also printed."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.platypus import SimpleDocTemplate

    document = SimpleDocTemplate(
        str(path),
        pagesize=A4,
        leftMargin=32 * mm,
        rightMargin=32 * mm,
        topMargin=28 * mm,
        bottomMargin=28 * mm,
        title=REPORT_TITLE,
        author="Project office, Port Ellery",
        invariant=1,
    )
    document.build(list(_report_flow()), onFirstPage=_print_label, onLaterPages=_print_label)


def _report_flow() -> "Iterator[Flowable]":
    from reportlab.lib.colors import HexColor
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import HRFlowable, PageBreak, Paragraph, Spacer

    navy = HexColor("#1d3a5f")
    body = ParagraphStyle("body", fontName="Times-Roman", fontSize=11.5, leading=16, spaceAfter=9)
    lead = ParagraphStyle("lead", body, fontSize=13, leading=19, spaceAfter=12)
    title = ParagraphStyle("title", fontName="Times-Bold", fontSize=27, leading=33, textColor=navy)
    subtitle = ParagraphStyle("subtitle", body, fontName="Times-Italic", fontSize=14, leading=20)
    heading = ParagraphStyle(
        "heading",
        fontName="Times-Bold",
        fontSize=14,
        leading=18,
        textColor=navy,
        spaceBefore=8,
        spaceAfter=5,
        keepWithNext=True,
    )

    yield Spacer(1, 110)
    yield Paragraph(REPORT_TITLE, title)
    yield Spacer(1, 6)
    yield Paragraph(REPORT_SUBTITLE, subtitle)
    yield HRFlowable(width="100%", color=navy, thickness=1, spaceBefore=8, spaceAfter=22)
    for text in REPORT_SUMMARY:
        yield Paragraph(text, lead)
    for sections in REPORT_PAGES:
        yield PageBreak()
        for name, *paragraphs in sections:
            yield Paragraph(name, heading)
            for text in paragraphs:
                yield Paragraph(text, body)


def _print_label(canvas: "Canvas", document: "BaseDocTemplate") -> None:
    page = canvas.getPageNumber()
    label = "i" if page == 1 else str(page - 1)
    if page == 1:
        canvas.addPageLabel(0, style="ROMAN_LOWER", start=1)
    elif page == 2:
        canvas.addPageLabel(1, style="ARABIC", start=1)
    canvas.saveState()
    canvas.setFont("Times-Roman", 10)
    canvas.drawCentredString(document.pagesize[0] / 2, document.bottomMargin / 2, label)
    canvas.restoreState()


def write_minutes(path: Path) -> None:
    """The DOCX: headings, paragraphs and one table."""
    import docx
    from docx.shared import Pt

    document = docx.Document()
    document.styles["Normal"].font.name = "Georgia"
    document.styles["Normal"].font.size = Pt(11)
    document.add_heading(MINUTES_TITLE, level=0)
    for name, *paragraphs in MINUTES:
        document.add_heading(name, level=1)
        for text in paragraphs:
            document.add_paragraph(text)
    table = document.add_table(rows=0, cols=3, style="Light Grid Accent 1")
    for row in BUDGET:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    for name, *paragraphs in MINUTES_AFTER_BUDGET:
        document.add_heading(name, level=1)
        for text in paragraphs:
            document.add_paragraph(text)

    moment = datetime(2017, 10, 13, 9, 0, 0)
    properties = document.core_properties
    properties.title = MINUTES_TITLE
    properties.author = properties.last_modified_by = "Town clerk, Port Ellery"
    properties.comments = ""
    properties.created = properties.modified = moment
    packed = BytesIO()
    document.save(packed)
    path.write_bytes(_with_fixed_times(packed.getvalue(), moment))


def _with_fixed_times(package: bytes, moment: datetime) -> bytes:
    repacked = BytesIO()
    with zipfile.ZipFile(BytesIO(package)) as source, zipfile.ZipFile(repacked, "w") as target:
        for name in source.namelist():
            entry = zipfile.ZipInfo(name, date_time=moment.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, source.read(name))
    return repacked.getvalue()


def main(folder: Path = PAPERS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_report(folder / "harbour-crossing-report.pdf")
    write_minutes(folder / "council-minutes.docx")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
