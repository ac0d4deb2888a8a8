"""Every wording of the generated tasks, in one place: what training has seen, tests must not use.

{key} and {value} are made up, {document} is real text. `tests/training/test_generated.py` looks
for these wordings in tests and benchmarks.
"""

# The sentence that mm1cli/prompts/system.txt asks for.
REFUSAL = "Not found in the documents."

# A statement to hide in a text, and the question after it.
FACTS = (
    ("Locker {key} opens with {value}.", "What opens locker {key}?"),
    (
        "The tracking code of parcel {key} reads {value}.",
        "Which tracking code does parcel {key} have?",
    ),
    ("Ledger line {key} stands at {value}.", "At what does ledger line {key} stand?"),
    ("{key} = {value};", "To what is {key} set?"),
    ("The boat {key} lies at berth {value}.", "At which berth does the boat {key} lie?"),
    ("Sensor {key} last reported {value}.", "What did sensor {key} report last?"),
    ("In the register, {key} is filed under {value}.", "Under what is {key} filed?"),
    ("To ring {key}, dial {value} from any desk.", "What do you dial to ring {key}?"),
    ("Shelf mark of {key}: {value}.", "Give the shelf mark of {key}."),
    ("The seed named {key} was sown on plot {value}.", "On which plot was {key} sown?"),
    ("Invoice {key} was paid with voucher {value}.", "With which voucher was invoice {key} paid?"),
    ("When asked, {key} gave {value} as the reply.", "What reply did {key} give?"),
    ("Chart {key} is drawn at a scale of {value}.", "At what scale is chart {key} drawn?"),
    ("{key}: {value};", "Which entry belongs to {key}?"),
    ("The lot called {key} went to bidder {value}.", "To which bidder did the lot {key} go?"),
    ("Engine {key} carries the plate {value}.", "Which plate does engine {key} carry?"),
)

# {sentence} or {word} is taken from the document; the answer is one of its sentences.
QUOTES = (
    'Which sentence mentions "{word}"? Quote it exactly.',
    'Copy out the sentence in which "{word}" occurs.',
    'Where does the text speak of "{word}"? Give that sentence as it stands.',
    'Show the one sentence with the word "{word}" in it, unchanged.',
)
FOLLOWING = (
    'Which sentence comes right after this one? "{sentence}"',
    'Quote the sentence that follows "{sentence}"',
)

COPIES = (
    "Write this out once more, unchanged:\n\n{document}",
    "{document}\n\nRepeat the text above word for word.",
    "Give back exactly what stands here:\n\n{document}",
)
LINES = (
    "{document}\n\nWrite out line {number} of the lines above.",
    "Write out only line {number} of these:\n\n{document}",
)

# Where the question stands: after the document, before it, or both.
AFTER = (
    "{document}\n\n{question}",
    "Text:\n{document}\n\nQuestion: {question}",
    "Read this.\n\n{document}\n\nNow answer from it alone: {question}",
)
BEFORE = (
    "{question}\n\n{document}",
    "Question: {question}\n\nText:\n{document}",
)
BOTH = (
    "{question}\n\n{document}\n\n{question}",
    "You will be asked: {question}\n\n{document}\n\nThe question again: {question}",
)

# What keys are made of, besides the names put together from the syllables.
_ADJECTIVES = """
amber brisk calm copper dusky early faint gentle hollow ivory jolly keen lofty mellow narrow olive
pale quiet rusty silver tidy upper vivid weary young
"""
_NOUNS = """
anchor basin cedar drum ember falcon garnet heron inlet juniper kettle lantern meadow nettle orchard
pebble quarry ribbon saddle thicket urn valley willow yarn zephyr
"""
_SYLLABLES = "ba dor el fin gar hal is jo ka lem mir nor os pel qui ra sel tor un vel wen zan"
ADJECTIVES, NOUNS, SYLLABLES = (x.split() for x in (_ADJECTIVES, _NOUNS, _SYLLABLES))
