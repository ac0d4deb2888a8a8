"""Red here means parts are dropped that are needed soon, or read in an order nobody uses."""

from hypothesis import given
from hypothesis import strategies as st

from engine.streamed.prefetch import PrefetchPlan
from engine.streamed.weight_groups import DENSE, GroupKey


@st.composite
def schedules(draw):
    num_layers, num_experts = draw(st.integers(1, 5)), draw(st.integers(0, 6))
    experts = st.lists(st.integers(0, max(num_experts - 1, 0)), unique=True, max_size=num_experts)
    layer = draw(st.integers(0, num_layers - 1))
    return PrefetchPlan(
        num_layers,
        num_experts,
        layer,
        num_calls=draw(st.integers(0, 2)),
        pending=tuple(draw(experts)),
        all_experts=draw(st.booleans()),
        predicted={(layer + 1) % num_layers: draw(experts)} if num_layers > 1 else {},
    )


def keys(schedule):
    experts = [DENSE, *range(schedule.num_experts)]
    return [GroupKey(layer, expert) for layer in range(schedule.num_layers) for expert in experts]


@given(schedules())
def test_parts_are_read_ahead_in_the_order_of_their_next_use(schedule):
    ahead = list(schedule.ahead())
    uses = [schedule.next_use(key) for key in ahead]
    assert uses == sorted(uses)
    assert len(set(ahead)) == len(ahead)
    assert set(ahead) <= set(keys(schedule))


@given(schedules())
def test_dense_parts_outlive_experts_that_nobody_expects(schedule):
    ahead = set(schedule.ahead())
    dense = [schedule.next_use(GroupKey(layer)) for layer in range(schedule.num_layers)]
    assert len(set(dense)) == len(dense)
    for key in keys(schedule):
        if key.expert != DENSE and not schedule.all_experts and key not in ahead:
            is_next_pass = key.expert in schedule.predicted.get(key.layer, ())
            assert is_next_pass or schedule.next_use(key) > max(dense)


def test_a_pass_over_many_tokens_uses_every_part_in_order_layer_by_layer():
    schedule = PrefetchPlan(4, 3, layer=2, pending=(1, 2), all_experts=True)
    here = [GroupKey(2), GroupKey(2, 1), GroupKey(2, 2)]
    later = [GroupKey(layer, expert) for layer in (3, 0, 1) for expert in (DENSE, 0, 1, 2)]
    done = [GroupKey(2, 0)]
    assert sorted(keys(schedule), key=schedule.next_use) == here + later + done
    assert list(schedule.ahead()) == here[1:] + later[:4]


def test_a_layer_that_is_called_again_needs_its_experts_before_the_next_layer():
    schedule = PrefetchPlan(2, 3, layer=0, num_calls=1, pending=(2,), all_experts=True)
    again = [GroupKey(0, 2), GroupKey(0, 0), GroupKey(0, 1)]
    assert list(schedule.ahead()) == again + [GroupKey(1, expert) for expert in (DENSE, 0, 1, 2)]
