"""Red here means `make test` takes minutes for examples, or other profiles run fewer than a test
asks for."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def drawn():
    numbers = []
    yield numbers
    assert len(numbers) == min(60, settings.default.max_examples)


@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.integers())
def test_a_profile_wins_over_the_settings_of_a_test(drawn, number):
    drawn.append(number)
    assert HealthCheck.too_slow in settings().suppress_health_check
    assert settings().deadline is None
