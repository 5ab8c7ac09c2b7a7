"""What the bench says of measurements, on values derived by hand."""

import json
import math
from collections import Counter
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from spikebottlenet.bench.entropies import entropies
from spikebottlenet.bench.figures import Bound, Claim, Table, claim, limit_claim
from spikebottlenet.bench.growth_part import slope
from spikebottlenet.bench.load.samples import (
    OK,
    UNANSWERED,
    LoadReport,
    Samples,
    count_codes,
    good_rate,
    latencies,
    percentiles,
)
from spikebottlenet.bench.load.schedule import poisson_schedule
from spikebottlenet.bench.measuring import in_turns, spread
from spikebottlenet.bundle import Bundle
from spikebottlenet.codec.frame import OVERHEAD_BYTES


def samples(*rows: tuple[float, float, float, int]) -> Samples:
    table = np.array(rows)
    return Samples(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.int64))


def test_quartiles_of_one_to_five() -> None:
    assert spread([5, 1, 4, 2, 3]) == (3.0, 2.0, 4.0, 5)
    with pytest.raises(ValueError, match="measure at least once"):
        spread([])


def test_contestants_take_turns_in_any_order_and_warm_rounds_do_not_count() -> None:
    order: list[str] = []

    def contestant(name: str) -> float:
        order.append(name)
        return float(len(order))

    measured = in_turns(20, *(partial(contestant, name) for name in "abc"), warm=1)
    rounds = ["".join(order[at : at + 3]) for at in range(0, 63, 3)]
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    before = Counter(pairwise(order))
    assert min(before[pair] for pair in (("a", "b"), ("b", "a"), ("c", "a"))) > 2
    for name, values in zip("abc", measured, strict=True):
        assert [order[int(value) - 1] for value in values] == [name] * 20
        assert [int(value - 1) // 3 for value in values] == list(range(1, 21))


def a_claim(bound: Bound, wanted: float) -> Claim:
    values, references = [2.0, 30.0, 4.0], [1.0, 10.0, 2.0]
    return claim(
        "part.name",
        "says",
        bound,
        wanted,
        unit="s",
        values=values,
        references=references,
        reference_is="r",
    )


def test_a_ratio_is_taken_within_each_round() -> None:
    found = a_claim(Bound.AT_MOST, 2.0)  # 2, 3, 2: the noisy round hits both alike
    assert found.ratio == (2.0, 2.0, 2.5, 3)
    assert (found.value, found.reference) == (4.0, 2.0)
    assert found.holds
    assert not a_claim(Bound.AT_MOST, 1.99).holds
    assert a_claim(Bound.AT_LEAST, 2.0).holds
    assert not a_claim(Bound.AT_LEAST, 2.01).holds


def test_a_limit_is_its_own_reference() -> None:
    found = limit_claim("a.b", "says", 1.5, unit="s", values=[0.75, 1.5, 0.9])
    assert found.ratio.median == pytest.approx(0.6)
    assert found.holds


def test_what_was_not_measured_is_no_number_and_does_not_hold() -> None:
    found = claim(
        "a.b",
        "says",
        Bound.AT_MOST,
        1.0,
        unit="s",
        values=[float("nan")],
        references=[1.0],
        reference_is="r",
    )
    assert not found.holds
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["ratio"] is None
    table = Table("k", "t", ("name", "x"), (("row", float("nan")),))
    assert table.as_json()["rows"] == [{"name": "row", "x": None}]


def test_percentiles_are_nearest_ranks_and_none_without_enough_samples() -> None:
    thousand = np.arange(1, 1001) / 1e3
    found = percentiles(np.random.default_rng(0).permutation(thousand))
    assert found == pytest.approx({50.0: 500.0, 90.0: 900.0, 99.0: 990.0, 99.9: 999.0})
    hundred = percentiles(thousand[:100])
    assert hundred.pop(99.9) is None
    assert hundred == pytest.approx({50.0: 50.0, 90.0: 90.0, 99.0: 99.0})
    assert percentiles(thousand[:0]) == dict.fromkeys((50.0, 90.0, 99.0, 99.9))


def test_latency_counts_from_when_a_request_was_due() -> None:
    # Due every second; a server that stalls kept the generator from sending the second until 3 s.
    found = samples((0, 0, 0.5, OK), (1, 3, 3.5, OK), (2, 3.5, 4, 8), (3, 4, np.inf, UNANSWERED))
    assert latencies(found, accepted=True).tolist() == [0.5, 2.5]
    assert latencies(found, accepted=False).tolist() == [2.0]
    assert count_codes(found) == {"OK": 2, "RESOURCE_EXHAUSTED": 1, "UNANSWERED": 1}
    assert good_rate(found, 0, 2) == 0.5  # one of the two came in those two seconds


def test_poisson_arrivals_leave_one_window_in_e_empty() -> None:
    rate, seconds = 50.0, 400.0
    schedule = poisson_schedule(rate=rate, seconds=seconds, edges=4, seed=7)
    windows = np.bincount((schedule.due_s * rate).astype(int), minlength=int(rate * seconds))
    # Windows of 1 / rate: P(0) = P(1) = 1/e, P(2) = 1/2e; 20,000 of them, 3 sigma is 0.01.
    for count, wanted in ((0, np.exp(-1)), (1, np.exp(-1)), (2, np.exp(-1) / 2)):
        assert (windows == count).mean() == pytest.approx(wanted, abs=0.01)
    assert np.all(np.diff(schedule.due_s) >= 0)
    assert schedule.due_s.max() < seconds
    assert np.bincount(schedule.edge) / len(schedule.edge) == pytest.approx([0.25] * 4, abs=0.02)


def test_processes_part_the_same_schedule() -> None:
    whole = poisson_schedule(rate=30, seconds=10, edges=5, seed=1)
    again = poisson_schedule(rate=30, seconds=10, edges=5, seed=1)
    assert np.array_equal(whole.due_s, again.due_s)
    parts = [whole.of_process(index, 3) for index in range(3)]
    assert sorted(np.concatenate([part.due_s for part in parts])) == whole.due_s.tolist()
    edges = [set(part.edge.tolist()) for part in parts]
    assert not (edges[0] & edges[1])
    assert not (edges[1] & edges[2])


def test_a_generator_later_than_a_tenth_of_its_latencies_is_not_believed() -> None:
    def report(lag_ms: float, cpu: float) -> LoadReport:
        return LoadReport(
            seconds=1,
            requests=1000,
            offered_rate=1000,
            goodput=1000,
            codes={"OK": 1000},
            accepted_ms=dict.fromkeys((50.0, 90.0, 99.0, 99.9), 100.0),
            refused_ms=dict.fromkeys((50.0, 90.0, 99.0, 99.9)),
            lag_ms=dict.fromkeys((50.0, 90.0, 99.0, 99.9), lag_ms),
            generator_cpu=cpu,
            generator_processes=1,
            server_cpu_s=None,
            wire_up=0,
            wire_down=0,
            answered=1000,
            open_loop=True,
        )

    assert report(9.0, 0.5).valid
    assert not report(11.0, 0.5).valid
    assert not report(1.0, 0.99).valid
    # Its lateness is in what it reports, so that is a bound all the same.
    assert report(11.0, 0.5).as_bound(100.0) == 100.0
    assert math.isnan(report(1.0, 0.99).as_bound(100.0))
    assert math.isnan(report(9.0, 0.5).as_bound(None))


def test_slope_of_a_square_is_two() -> None:
    assert slope([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="two points"):
        slope([1], [1])


def test_entropy_under_the_prior_is_that_of_every_site(bundle: Bundle, spikes: np.ndarray) -> None:
    prior = bundle.codec().prior
    bits = 0.0
    for probability, fired in zip(prior.ravel().tolist(), spikes.ravel().tolist(), strict=True):
        fires = probability / 65536
        bits -= float(np.log2(fires if fired else 1 - fires))
    assert entropies(bundle, spikes[None]).prior.tolist() == pytest.approx([bits])


def test_no_payload_is_below_the_information_of_its_spikes(bundle: Bundle) -> None:
    codec = bundle.codec()
    spikes = (np.random.default_rng(0).random((20, *codec.shape)) < codec.prior / 65_536).astype(
        np.uint8
    )
    found = entropies(bundle, spikes)
    sizes = [8 * (len(codec.encode_spikes(s, scheme="entropy")) - OVERHEAD_BYTES) for s in spikes]
    assert (np.array(sizes) > found.prior - 8).all()
    assert (np.array(sizes) < found.prior + 64).all()
    # Spikes drawn site by site are not what the context model was fitted to: it says so.
    assert found.model.mean() > found.prior.mean()
    assert found.model_is == "context model"
