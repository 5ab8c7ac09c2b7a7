"""What a batch costs, and which images the next one takes for their deadlines' sake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.batching import FairQueue, Sender, next_batch, start_at
from cloud_node.cost import Cost, CostModel, Measured
from tests.waiting_jobs import Job


def fitted(measured: list[Measured]) -> Cost:
    model = CostModel()
    for batch in measured:
        model.learn(batch)
    return model.cost


def test_the_cost_model_finds_the_line_that_made_its_batches() -> None:
    cost = fitted([Measured(n, 0.010 + 0.006 * n) for n in (1, 4, 16)])
    assert cost.fixed_s == pytest.approx(0.010)
    assert cost.image_s == pytest.approx(0.006)
    assert cost.queue_s(33, max_batch=16) == pytest.approx(3 * 0.010 + 33 * 0.006)


@given(st.lists(st.builds(Measured, st.integers(1, 64), st.floats(0, 10)), max_size=20))
def test_no_batch_is_thought_to_take_less_than_nothing(measured: list[Measured]) -> None:
    cost = fitted(measured)
    assert cost.fixed_s >= 0
    assert cost.image_s >= 0


def test_batches_of_one_size_are_foretold_at_that_size() -> None:
    assert fitted([Measured(16, 0.1), Measured(16, 0.3)]).batch_s(16) == pytest.approx(0.2)


def test_old_batches_are_forgotten() -> None:
    old = [Measured(n % 7 + 1, 5.0) for n in range(50)]
    new = [Measured(n % 5 + 1, 0.01 * (n % 5 + 1)) for n in range(64)]
    assert fitted(old + new) == pytest.approx(fitted(new))


def test_an_estimate_that_turns_all_away_is_forgotten_in_the_end() -> None:
    model = CostModel()
    for _ in range(3):
        model.learn(Measured(1, 100.0))
    for _ in range(3):
        model.doubt()
    assert model.cost == Cost()


def jobs_due(*deadlines: float | None) -> FairQueue[Job]:
    queue: FairQueue[Job] = FairQueue()
    for deadline in deadlines:
        queue.push(Sender("a"), Job(deadline=deadline))
    return queue


def test_a_batch_shrinks_to_meet_a_deadline() -> None:
    queue = jobs_due(3.0, None, None, None)
    plan = next_batch(queue, max_batch=4, cost=Cost(0.0, 1.0), now=0.0)
    assert len(plan.batch) == 3
    assert len(queue) == 1
    assert plan.too_late == []


def test_a_batch_shrinks_to_half_and_no_further() -> None:
    plan = next_batch(jobs_due(1.5, *[None] * 7), max_batch=8, cost=Cost(0.0, 1.0), now=0.0)
    assert [job.deadline for job in plan.too_late] == [1.5]
    assert len(plan.batch) == 7


def of_deadlines(*jobs: tuple[float | None, bool]) -> FairQueue[Job]:
    queue: FairQueue[Job] = FairQueue()
    for number, (deadline, abandoned) in enumerate(jobs):
        queue.push(Sender("a"), Job(str(number), deadline, abandoned))
    return queue


def test_those_that_are_gone_or_too_late_take_no_room_of_one_that_can_be_met() -> None:
    cost = Cost(0.01, 0.01)  # one image: 20 ms; eight: 90 ms
    gone = of_deadlines(*[(None, True)] * 15, (0.05, False))
    assert [job.name for job in next_batch(gone, max_batch=16, cost=cost, now=0.0).batch] == ["15"]
    for place in (0, 7, 15):
        jobs: list[tuple[float | None, bool]] = [(0.015, False)] * 15
        jobs.insert(place, (0.05, False))
        plan = next_batch(of_deadlines(*jobs), max_batch=16, cost=cost, now=0.0)
        assert [job.name for job in plan.batch] == [str(place)]
        assert len(plan.too_late) == 15


def test_what_nobody_waits_for_is_not_computed() -> None:
    queue: FairQueue[Job] = FairQueue()
    queue.push(Sender("a"), Job(abandoned=True))
    queue.push(Sender("a"), Job("wanted"))
    plan = next_batch(queue, max_batch=1, cost=Cost(), now=0.0)
    assert [job.name for job in plan.batch] == ["wanted"]
    assert plan.too_late == []


@given(
    st.lists(st.none() | st.floats(0, 20), max_size=30),
    st.integers(1, 8),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_every_image_is_computed_in_time_or_given_up_or_waits(
    deadlines: list[float | None], max_batch: int, fixed: float, image: float
) -> None:
    queue, cost = jobs_due(*deadlines), Cost(fixed, image)
    plan = next_batch(queue, max_batch=max_batch, cost=cost, now=0.0)
    assert len(plan.batch) + len(plan.too_late) + len(queue) == len(deadlines)
    assert len(plan.batch) <= max_batch
    for job in plan.batch:
        assert job.deadline is None or cost.batch_s(len(plan.batch)) <= job.deadline


def test_a_batch_that_may_wait_begins_in_time_for_the_earliest_deadline() -> None:
    cost = Cost(0.1, 0.1)
    waits = {"max_batch": 4, "max_wait_s": 5.0, "cost": cost}
    assert start_at(jobs_due(None, None), **waits) == 5.0  # type: ignore[arg-type]
    assert start_at(jobs_due(2.0, None), **waits) == pytest.approx(2.0 - 0.4)  # type: ignore[arg-type]
    assert start_at(jobs_due(*[None] * 4), **waits) < 0  # type: ignore[arg-type]  # full
