"""Red here means an error bar is wrong, so a table claims more than was measured."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.stats import (
    Z,
    auroc,
    bootstrap_auroc,
    bootstrap_mean,
    normal_mean,
    wilson,
)

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20)


# Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("successes", "num", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_published_intervals(successes, num, low, high):
    found = wilson(successes, num)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == successes / num
    mirrored = wilson(num - successes, num)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - high, 1 - low), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_share_lies_in_its_interval_and_the_interval_in_0_to_1(drawn):
    found = wilson(*drawn)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_no_trial_has_no_share():
    with pytest.raises(ValueError, match="at least one"):
        wilson(0, 0)


@given(SCORES, SCORES)
def test_auroc_counts_pairs(positive, negative):
    won = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(sum(won) / len(won))
    assert auroc(negative, positive) == pytest.approx(1 - auroc(positive, negative))


def test_bootstrap_intervals_narrow_with_more_items_and_depend_on_the_seed_alone():
    draw = random.Random(0)
    few = [draw.gauss(2, 1) for _ in range(20)]
    many = few * 25
    wide, narrow = bootstrap_mean(few, 1, "nats"), bootstrap_mean(many, 1, "nats")
    assert wide.low < wide.value < wide.high
    assert (narrow.high - narrow.low) < (wide.high - wide.low) / 3
    assert bootstrap_mean(few, 1, "nats") == wide != bootstrap_mean(few, 2, "nats")
    # Many items: as wide as the normal distribution says.
    expected = 2 * Z * normal_standard_error(many)
    assert narrow.high - narrow.low == pytest.approx(expected, rel=0.15)


def normal_standard_error(values):
    found = normal_mean(values, "nats")
    return (found.high - found.value) / Z


def test_normal_mean_has_the_textbook_error_and_none_from_one_block():
    found = normal_mean([1.0, 2.0, 3.0, 4.0], "nats")
    assert found.value == 2.5
    assert found.high - 2.5 == pytest.approx(Z * 1.2909944487 / 2)
    for one in (normal_mean([3.0], "nats"), bootstrap_mean([3.0], 0, "nats")):
        assert (one.value, one.low, one.high) == (3.0, None, None)
        assert str(one) == "3.000 of 1"


def test_the_interval_of_an_area_is_as_wide_as_theory_says():
    draw = random.Random(0)
    positive = [draw.gauss(1, 1) for _ in range(60)]
    negative = [draw.gauss(0, 1) for _ in range(60)]
    found = bootstrap_auroc(positive, negative, 0)
    # Hanley and McNeil (1982), equation 2.
    area = auroc(positive, negative)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + 59 * (q1 + q2 - 2 * area**2)) / 60**2
    assert found.low < found.value == area < found.high
    assert found.high - found.low == pytest.approx(2 * Z * variance**0.5, rel=0.2)


def test_perfect_separation_of_few_items_is_no_certainty():
    found = bootstrap_auroc([2.0] * 5, [1.0] * 5, 0)
    assert (found.value, found.low, found.high) == (1, wilson(5, 5).low, 1)


@given(st.lists(st.floats(0, 1), min_size=30, max_size=30))
def test_scores_between_0_and_1_vary_no_more_than_wilson_allows(scores):
    found, textbook = wilson(sum(scores), 30, "score"), normal_mean(scores, "score")
    assert found.high - found.low > 0.9 * (textbook.high - textbook.low)


def test_twins_with_overlapping_scores_keep_the_area_inside_its_interval():
    found = bootstrap_auroc([n + 0.5 for n in range(20)], list(map(float, range(20))), 0)
    assert found.low < found.value == 0.525 < found.high
