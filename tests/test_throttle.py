"""Client-side throttling, by its equation and against a server of a fixed capacity."""

import random

import pytest

from spikebottlenet.rpc.throttle import Throttle


def test_nothing_is_held_back_while_nothing_is_refused():
    throttle = Throttle(chance=lambda: 0.0)
    for tick in range(100):
        assert not throttle.holds_back(tick / 10)
        if tick % 2:  # answers may be late, or missing
            throttle.accepted(tick / 10)


def test_share_held_back_is_the_equations():
    drawn = 0.0
    throttle = Throttle(excess=1.5, fades_s=1e9, chance=lambda: drawn)
    for _ in range(2):
        throttle.accepted(0.0)
    for _ in range(5):
        throttle.refused(0.0)
    share = (7 - 1.5 * 2) / (7 + 1)
    drawn = share + 1e-6
    assert not throttle.holds_back(0.0)
    drawn = share - 1e-6
    assert throttle.holds_back(0.0)
    drawn = (8 - 1.5 * 2) / (8 + 1) - 1e-6  # the one held back was asked too
    assert throttle.holds_back(0.0)


def test_refusals_are_forgotten():
    throttle = Throttle(fades_s=1.0, chance=lambda: 0.01)
    for _ in range(50):
        throttle.refused(0.0)
    assert throttle.holds_back(0.0)
    assert not throttle.holds_back(20.0)


@pytest.mark.parametrize("over", [3.0, 10.0])
def test_little_is_sent_above_capacity_and_all_of_it_once_there_is_room(over):
    capacity = 100.0
    throttle = Throttle(chance=random.Random(1).random)
    step_s = 1 / (over * capacity)

    def offer(seconds: float, room: float, start: float) -> tuple[int, int]:
        """Requests (sent, accepted) by a server of ``room`` a second and a queue of half of one."""
        sent = accepted = 0
        free = 0.0
        for tick in range(int(seconds / step_s)):
            now, free = start + tick * step_s, min(0.5 * room, free + room * step_s)
            if throttle.holds_back(now):
                continue
            sent += 1
            if free >= 1:
                free, accepted = free - 1, accepted + 1
                throttle.accepted(now)
            else:
                throttle.refused(now)
        return sent, accepted

    offer(20, capacity, 0.0)  # settles
    sent, accepted = offer(20, capacity, 20.0)
    assert accepted >= 0.95 * capacity * 20
    assert sent <= 1.2 * accepted
    offer(90, 2 * over * capacity, 40.0)  # the server has room again
    sent, accepted = offer(20, 2 * over * capacity, 130.0)
    assert sent == accepted >= 0.99 * over * capacity * 20
