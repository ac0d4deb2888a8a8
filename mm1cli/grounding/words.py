"""Words of a sentence as they are compared: stems, names, clauses, and what a word says alike."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mm1cli.retrieval.passages import NOT_ABBREVIATED

_WORD = re.compile(r"[^\W_]+(?:[-'’_.][^\W_]+)*(?:\(\))?", re.UNICODE)
_CLAUSE = re.compile(
    rf"(?<=[.!?]){NOT_ABBREVIATED}\s+(?=[\"'“(]?[A-ZÄÖÜ0-9-])|(?<=:)\s+(?=[\"'“(]?[A-ZÄÖÜ0-9-])|;\s+|\s+\|\s+\|\s+|\n+"
    r"|,?\s+(?=(?:whereas|while|although|though|but|yet|however|because(?! of))\b)"
    r"|,\s+(?=(?:and|or|not|against|enough|less|subject|with|since|so|then|which|who|whose|when|where)\b|[\d.,]+\s?(?:%|per\s?cent\b))"
    r"|\s+(?=and\s+(?:(?:the|a|an)\s+\w+\s+|\w+\s+costs\s+)?(?:\w+ed|not)\b)"
)
# "Notice period: three months" says one thing.
_LABEL = re.compile(r"\W*[^\W_]\w*(?:[ -]\w+){0,3}:")
_STOPWORDS = """
a an the this that these those its it is are was were be been being am and or of in on at to for
from by with as into than then there their his her our your they he she we you which who whom whose
what when where will would shall should can could may might must do does did has have had having
also too so such if once each any some all both up out about over per only just now today still yet
whereas while although though but however since because due very ms mr mrs dr professor one under
until till between during through after before not
"""
STOPWORDS: Final = frozenset(_STOPWORDS.split())
# Words that stand for each other in restatements; each is compared as the first of its line.
_ALIKE = """
expire end terminate
fall fell fallen decline decrease drop lower sink
rise rose risen increase grow grew grown raise
pay paid
begin began begun start
buy bought purchase acquire
high higher
low
sell sold
woman women
man men
keep kept
take took taken
leave left depart departure
enrol enroll
chair chairman chairwoman chairperson
postpone defer
choose chose chosen select
yearly annual annually
doctor physician
firm company
delete remove
entire whole
forbid forbidden prohibit
allow permit
hold held
find found
write wrote written
send sent
appoint appointed successor succeed
win won award
use utilise
person people
child children
large larger big bigger
small smaller
few fewer
sign signature
consent approval
copy copies
entry entries
library libraries
party parties
foot feet
stand stood
bear borne
get got
sub subtract
call rename
cause reason
disable off
hit suffer
unmodified unchanged unmodify
liability liable
notify notification
transfer transferring
must require need
teach taught
bring brought
build built
think thought
catch caught
spend spent
lend lent
lose lost
make made
say said
tell told
give gave given
come came
run ran
see saw seen
speak spoke spoken
break broke broken
drive drove driven
know knew known
draw drew drawn
show shown
go went gone
wear wore worn
meet met
weigh weight
"""
_SAME: Final = {
    word: line.split()[0] for line in _ALIKE.strip().splitlines() for word in line.split()
}
_ENDINGS = ("ations", "ation", "ings", "ing", "edly", "ies", "ied", "es", "ed", "ly", "s")
_FEWEST_LETTERS = 3  # of a stem


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start: int
    stem: str
    is_name: bool  # capitalised inside a sentence, or an identifier of code

    @property
    def is_content(self) -> bool:
        return self.text.lower() not in STOPWORDS


def stem(word: str) -> str:
    """The word without its ending, as its line of words that are alike begins."""
    low = re.sub(r"['’]s?$", "", word.lower()).strip("-.")
    if (same := _SAME.get(low)) is not None:
        low = same
    for ending in _ENDINGS:
        if low.endswith(ending) and len(low) - len(ending) >= _FEWEST_LETTERS + (ending == "ly"):
            if ending == "s" and low.endswith("ss"):
                break
            low = low[: -len(ending)]
            if ending in {"ies", "ied"}:
                low += "y"
            break
    else:
        low = low[:-1] if len(low) == _FEWEST_LETTERS + 1 and low.endswith("ed") else low
    if len(low) > _FEWEST_LETTERS and low[-1] == low[-2] and low[-1] not in "sz":
        low = low[:-1]
    low = low.removesuffix("e") if len(low) > _FEWEST_LETTERS else low
    return _stem_of_same(low)


def _stem_of_same(low: str) -> str:
    same = _SAME.get(low) or _SAME.get(f"{low}e")
    return (same or low).removesuffix("e")


def words(text: str) -> list[Word]:
    found = []
    for match in _WORD.finditer(text):
        word, start = match.group(), match.start()
        begins = not text[:start].strip() or re.search(r"[.!?:|]\s*[\"'“(]?$", text[:start])
        is_code = word.endswith("()") or "_" in word
        is_name = is_code or (word[0].isupper() and not begins)
        found.append(Word(word, start, stem(word.removesuffix("()")), is_name))
    return found


def clauses(text: str) -> list[tuple[int, int]]:
    """Where each clause begins and ends: what says one thing, as far as punctuation tells."""
    return list(_spans(text))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for border in [match.span() for match in _CLAUSE.finditer(text)] + [(len(text),) * 2]:
        if _LABEL.fullmatch(text[start : border[0]]):
            continue
        if text[start : border[0]].strip(" |"):
            yield start, border[0]
        start = border[1]
