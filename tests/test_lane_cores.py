"""Lanes on cores of their own, where there are as many of them."""

import os
import sys

import pytest

from cloud_node.cores import LaneCores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has cores")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """What the system is asked for, on a machine that lets this process use cores 3, 5 and 8."""
    sets: list[set[int]] = []
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {8, 3, 5})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: sets.append(set(cores)))
    return sets


def test_as_many_lanes_as_cores_keep_to_one_each(asked: list[set[int]]) -> None:
    for lane in range(3):
        LaneCores(lane, 3).take(every=False)
    assert asked == [{3}, {5}, {8}]


def test_a_batch_with_every_thread_has_every_core_and_the_next_one_its_own(
    asked: list[set[int]],
) -> None:
    cores = LaneCores(1, 3)
    for every in (True, False, False, True, True, False):
        cores.take(every=every)
    assert asked == [{5}, {3, 5, 8}, {5}]


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_other_numbers_of_lanes_are_left_to_the_scheduler(
    asked: list[set[int]], lanes: int
) -> None:
    cores = LaneCores(0, lanes)
    cores.take(every=False)
    cores.take(every=True)
    assert asked == []


def test_cores_that_are_taken_away_meanwhile_stay_so(
    asked: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = LaneCores(2, 3)
    cores.take(every=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    cores.take(every=True)
    cores.take(every=False)
    assert asked == [{8}, {3, 5}]


def test_a_system_that_allows_none_of_it_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(*of: object) -> None:
        tried.append(of)
        raise PermissionError(1, "Operation not permitted")

    for name in ("setpriority", "sched_getaffinity", "sched_setaffinity"):
        monkeypatch.setattr(os, name, refuse)
    LaneCores(0, 2).take(every=False)
    assert len(tried) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    LaneCores(0, 2).take(every=False)
    assert len(tried) == 4
