"""Turns of clients and streams, and the place that one more image would have."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.batching import FairQueue, Sender
from tests.waiting_jobs import Job


def queued(*names: str, turn: int = 1) -> FairQueue[Job]:
    """A queue of jobs; ``a1.x`` is client a's stream 1."""
    queue: FairQueue[Job] = FairQueue(turn)
    for name in names:
        queue.push(Sender(name[0], name[1].encode()), Job(name))
    return queue


def test_clients_take_turns_and_so_do_their_streams() -> None:
    queue = queued("a1.x", "a1.y", "a1.z", "a2.x", "b1.x", "c1.x")
    order = [queue.pop().name for _ in range(len(queue))]
    assert order == ["a1.x", "b1.x", "c1.x", "a2.x", "a1.y", "a1.z"]


def test_one_image_waits_a_turn_and_not_five_hundred() -> None:
    queue = queued(*["a1"] * 500, turn=16)
    queue.pop()  # the turn has begun
    assert queue.ahead_of(Sender("b", b"1")) == 15
    assert queue.ahead_of(Sender("a", b"2")) == 15
    assert queue.ahead_of(Sender("a", b"1")) == 499
    queue.push(Sender("b", b"1"), Job("b"))
    assert [queue.pop().name for _ in range(16)] == ["a1"] * 15 + ["b"]


senders = st.builds(Sender, st.sampled_from("abc"), st.sampled_from([b"1", b"2"]))


def test_a_turn_is_of_several_images() -> None:
    queue = queued("a1", "a1", "a1", "a2", "a2", "b1", "b1", "b1", "b1", turn=2)
    order = ["a1", "a1", "b1", "b1", "a2", "a2", "b1", "b1", "a1"]
    assert [queue.pop().name for _ in range(len(queue))] == order


def test_a_stream_that_comes_passes_those_that_had_a_turn() -> None:
    queue = queued(*["a1"] * 6, *["b1"] * 6, turn=2)
    assert [queue.pop().name for _ in range(5)] == ["a1", "a1", "b1", "b1", "a1"]
    queue.push(Sender("c"), Job("c"))
    assert [queue.pop().name for _ in range(4)] == ["a1", "c", "b1", "b1"]


def test_what_a_stream_has_waiting_is_not_parted_for_the_end_of_a_turn() -> None:
    queue = queued("a1", "a1", "a1", turn=4)
    assert [queue.pop().name for _ in range(3)] == ["a1"] * 3  # one image of its turn is left
    for name in ["b1"] * 12 + ["a1"] * 3:
        queue.push(Sender(name[0]), Job(name))
    assert [queue.pop().name for _ in range(7)] == ["b1"] * 4 + ["a1"] * 3
    queue.push(Sender("a"), Job("a1"))  # and now it has had more than its turn
    assert [queue.pop().name for _ in range(5)] == ["b1"] * 4 + ["a1"]


@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.integers(1, 8))
def test_those_that_always_have_some_waiting_have_as_much_as_each_other(
    sends: list[int], turn: int
) -> None:
    queue: FairQueue[Job] = FairQueue(turn)
    had: Counter[str] = Counter()
    for _ in range(200):
        for number, images in enumerate(sends):
            while queue.held(f"{number}") < images:
                queue.push(Sender(f"{number}"), Job(f"{number}"))
        had[queue.pop().name] += 1
    assert max(had.values()) - min(had[f"{number}"] for number in range(len(sends))) <= 2 * turn


@pytest.mark.parametrize("busy", [1, 8, 32])
def test_one_that_sends_an_image_at_a_time_has_as_many_and_waits_a_turn_at_most(busy: int) -> None:
    turn = 16
    queue: FairQueue[Job] = FairQueue(turn)
    for number in range(busy):
        for _ in range(2000):
            queue.push(Sender(f"busy {number}"), Job("busy"))
    waits: list[int] = []
    while len(waits) < 10 * turn:
        foretold = queue.ahead_of(Sender("one"))
        queue.push(Sender("one"), Job("one"))
        waited = 0
        while queue.pop().name != "one":
            waited += 1
        assert waited <= foretold
        waits.append(waited)
    # All others have a turn where its own is over, and else it passes them.
    rounds = [wait for wait in waits if wait > turn]
    assert len(rounds) <= len(waits) // turn
    assert max(waits) <= (busy + 1) * turn
    assert sum(waits) / len(waits) <= busy + turn


def test_those_that_come_without_end_hold_up_nobody_for_good() -> None:
    queue: FairQueue[Job] = FairQueue(16)
    had = 0
    for number in range(4000):
        while queue.held("old") < 16:
            queue.push(Sender("old"), Job("old"))
        queue.push(Sender(f"new {number}"), Job("new"))
        had += queue.pop().name == "old"
    assert had > 4000 / 40


@given(
    st.lists(st.none() | senders | st.integers(1, 24), max_size=60),
    senders,
    st.integers(1, 24),
    st.integers(1, 30),
)
def test_nothing_is_lost_and_the_place_foretold_is_not_passed(
    steps: list[Sender | int | None], late: Sender, turn: int, images: int
) -> None:
    queue: FairQueue[Job] = FairQueue(turn)
    waiting = 0
    for step in steps:
        if isinstance(step, int):
            queue.set_turn(step)
        elif step is not None:
            queue.push(step, Job())
            waiting += 1
        elif waiting:
            queue.pop()
            waiting -= 1
    assert len(queue) == len(list(queue)) == waiting
    foretold = queue.ahead_of(late, images)
    queue.push(late, *[Job("late")] * (images - 1))
    if images > 1:
        assert queue.ahead_of(late) == foretold
    queue.push(late, Job("last"))
    order = [queue.pop().name for _ in range(len(queue))]
    assert len(order) == waiting + images
    assert order.index("last") <= foretold


@given(st.lists(st.none() | senders, max_size=200), st.integers(1, 8))
def test_nobody_has_two_turns_while_another_waits(steps: list[Sender | None], turn: int) -> None:
    queue: FairQueue[Job] = FairQueue(turn)
    waits: Counter[str] = Counter()
    since: dict[str, Counter[str]] = {}  # what others have had since a client waits
    for step in steps:
        if step is not None:
            queue.push(step, Job(step.client))
            waits[step.client] += 1
            since.setdefault(step.client, Counter())
        elif waits.total():
            client = queue.pop().name
            waits[client] -= 1
            for had in since.values():
                had[client] += 1
            del since[client]
            if waits[client]:
                since[client] = Counter()
            assert all(count <= 2 * turn for had in since.values() for count in had.values())


def test_at_the_end_of_a_long_queue_others_are_taken_to_go_on_sending() -> None:
    queue = queued(*["a1"] * 9, "b1", "b1", "c1")
    # Nine of its own, and of both others as many as have gone by then.
    assert queue.ahead_of(Sender("a", b"1")) == 9 + 10 + 10
    # Those that wait, within a turn more than its own.
    assert queue.ahead_of(Sender("c", b"1")) == 1 + 3 + 3
    for _ in range(9):
        queue.pop()
    queue.push(Sender("b", b"1"), Job("b"))
    assert [job.name for job in queue] == ["a1"] * 3 + ["b"]
    # The others' places have passed: nobody goes on sending but b.
    assert queue.ahead_of(Sender("a", b"1")) == 3 + 4
