"""Red here means tokens are read twice, left out, or on another grid than the fingerprint says."""

from hypothesis import given
from hypothesis import strategies as st

from engine.prefill import grid


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 600))
def test_chunks_cover_the_range_once_and_meet_at_multiples_of_the_size(start, count, size):
    chunks = list(grid(start, start + count, size))
    covered = [position for first, last in chunks for position in range(first, last)]
    assert covered == list(range(start, start + count))
    assert all(last % size == 0 for _, last in chunks[:-1])
    assert all(0 < last - first <= size for first, last in chunks)


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(1, 600))
def test_a_second_call_goes_on_with_the_grid_of_the_first(first, second, size):
    border = first - first % size
    whole = list(grid(0, border + second, size))
    assert list(grid(0, border, size)) + list(grid(border, border + second, size)) == whole
