"""Red here means that a right sum is warned of, or a number that only happens to fit is not."""

import pytest

from mm1cli.grounding.computed import computed

SHOWN = (
    (1, "Class A has 21 pupils. Class B has 13 pupils."),
    (2, "The north hut cost 12.5 million crowns and has 6 rooms at 40 crowns each."),
    (4, "The south hut cost 7.1 million crowns. It opened in 1998; the other in 2004."),
)


@pytest.mark.parametrize(
    ("text", "question", "told"),
    [
        ("34 pupils.", "How many pupils in total?", "34 = 21 + 13, from [1]"),
        ("34", "How many are there altogether?", "34 = 21 + 13, from [1]"),
        (
            "Together they cost 19.6 million crowns.",
            "What did they cost?",
            "19.6 million crowns = 12.5 million crowns + 7.1 million crowns, from [2] and [4]",
        ),
        ("8 pupils", "What is the difference?", "8 = 21 \u2212 13, from [1]"),
        (
            "240 crowns",
            "What do all bring at 40 each?",
            "240 crowns = 6 \u00d7 40 crowns, from [2]",
        ),
        ("34 pupils.", "How many pupils are there?", None),
        ("8 pupils.", "How many pupils in total?", None),
        ("35 pupils.", "How many pupils in total?", None),
        ("34 crowns.", "How much in total?", None),
        ("6 years", "What is the difference?", None),
        ("4002", "What is the total?", None),
    ],
)
def test_a_number_is_computed_where_a_sum_is_spoken_of(text, question, told):
    assert list(computed(text, question, SHOWN).values()) == ([told] if told else [])


def test_a_number_that_two_pairs_give_is_not_computed():
    shown = [(1, "There were 3 cats, 7 cats, 4 cats and 6 cats.")]
    assert computed("10 cats", "How many in total?", shown) == {}
