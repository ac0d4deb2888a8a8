"""Corpora for properties: real sentences, odd spacing, several formats."""

from hypothesis import strategies as st

from mm1cli.ingest.corpus import Block, Corpus, Document, Omission, Place, Reason

_PIECES = [
    "The bridge cost 48.2 million crowns. ",
    "Who built it? ",
    "“Nobody knows,” he said.  ",
    "1,904 people came on 3 March 2014! ",
    "harbour ",
    "X" + "x" * 300 + ". ",
    "- item\n",
    "| a | b |\n",
    "\n",
    "\n\n",
    " \t",
    "\u00a0",
    "港の歴史。次の文。",
    "naïve ﬁx ",
    "\u2028",
    "    return x\n",
]
PLACES = [
    None,
    Place("page", 3, "iv"),
    Place("page", 4),
    Place("slide", 0),
    Place("sheet", 1, "It's 2"),
    Place("cell", 7),
    Place("chapter", 0, "Storms"),
    Place("part", 1, "text/html"),
]
block_texts = st.lists(st.sampled_from(_PIECES) | st.text(max_size=12), max_size=30).map("".join)
blocks = st.builds(
    Block,
    text=block_texts,
    unit=st.sampled_from(["line", "paragraph"]),
    first=st.integers(1, 50),
    place=st.sampled_from(PLACES),
    mark=st.sampled_from(["", "", "hidden"]),
)


def document(text: str, path: str = "a.md", kind: str = "markdown", **block: object) -> Document:
    return Document(path, kind, len(text), "0" * 64, "reader", (Block(text, **block),))


def corpus(*texts: str) -> Corpus:
    """One document for each text: 0.md, 1.md, ..."""
    return Corpus(tuple(document(text, f"{i}.md") for i, text in enumerate(texts)))


@st.composite
def corpora(draw) -> Corpus:
    documents = tuple(
        Document(f"{i}.{kind}", kind, 1, "0" * 64, "reader", tuple(parts))
        for i, (kind, parts) in enumerate(
            draw(
                st.lists(
                    st.tuples(
                        st.sampled_from(["markdown", "text", "pdf", "docx", "python"]),
                        st.lists(blocks, max_size=3),
                    ),
                    max_size=4,
                )
            )
        )
    )
    reasons = draw(st.lists(st.sampled_from(list(Reason)), max_size=4))
    return Corpus(documents, tuple(Omission(f"o{i}", r) for i, r in enumerate(reasons)))
