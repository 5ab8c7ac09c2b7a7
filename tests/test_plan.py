"""A plan by hand-worked arithmetic, its units, and what it refuses."""

import json
from pathlib import Path

import pytest

from spikebottlenet.accounting.energy import Radio
from spikebottlenet.accounting.wire import framed_bytes
from spikebottlenet.bundle import Bundle
from spikebottlenet.errors import ConfigError
from spikebottlenet.plan.decision import (
    Objective,
    Sender,
    best,
    crossings,
    forecast,
    make_plan,
)
from spikebottlenet.plan.link import Link, parse_bit_rate, parse_duration_ms, parse_loss
from spikebottlenet.plan.machines import Profiles
from spikebottlenet.plan.messages import answer_bytes, request_bytes
from spikebottlenet.plan.notes import plan_notes
from spikebottlenet.plan.placements import Kind, Placement, Source, Status, placements
from spikebottlenet.plan.profile import (
    CloudSide,
    EdgeSide,
    FileCost,
    HeadCost,
    Loopback,
    Ms,
    Profile,
    StageTime,
    TailCost,
    read_profile,
    write_profile,
)
from spikebottlenet.plan.sources import find_source
from spikebottlenet.rpc.v1.coinference_pb2 import StreamRequest


def ms(median: float) -> Ms:
    return Ms(median=median, low=median, high=median, repeats=1)


def way(key: str, kind: Kind = Kind.CUT, **figures: float) -> Placement:
    whole = {
        "edge_ms": 0.0,
        "cloud_ms": 0.0,
        "overhead_ms": 0.0,
        "up_bytes": 0,
        "down_bytes": 0,
        "edge_uj": 0.0,
    }
    return Placement(
        key=key,
        title=key,
        kind=kind,
        status=Status.DEPLOYABLE,
        top1=None,
        bytes_are="",
        **whole | figures,
    )


EARLY = way("cloud-only", Kind.CLOUD_ONLY, cloud_ms=10, up_bytes=1000)
LATE = way("cut-2", edge_ms=18, cloud_ms=10, up_bytes=200, edge_uj=70)
ALONE = way("edge-only", Kind.EDGE_ONLY, edge_ms=15, edge_uj=2000)
EXIT = way("edge-exit-2", Kind.EDGE_EXIT, edge_ms=9, edge_uj=70)


def profile_of(bundle: Bundle, **changes: object) -> Profile:
    """Head of stage k: 10 k ms; tail behind it: 40 - 10 k ms; processes add 5, 2 and 3 ms."""
    architecture = bundle.manifest.architecture
    stages = range(1, 5)
    edge = EdgeSide(
        machine={},
        threads=1,
        image_file="PNG",
        preprocess=ms(1),
        encode=ms(0.5),
        edge_exit=ms(0.25),
        heads=tuple(
            HeadCost(
                after_stage=stage,
                channels=8 << (stage - 1),
                spike_bits=8192 >> stage,
                weights="bundle" if stage == architecture.after_stage else "random",
                time=ms(10 * stage),
                macs=1_000_000,
                accumulates=10_000_000 * stage,
            )
            for stage in stages
        ),
        files=(FileCost(name="JPEG q75", bytes_mean=800, time=ms(0.2)),),
        uncut_stages=(StageTime(name="stem", time=ms(1)),),
        uncut=ms(30),
        firing_rates={},
        assumed_rate=0.1,
    )
    cloud = CloudSide(
        machine={},
        threads=2,
        batch=16,
        decode=ms(0.5),
        tails=tuple(
            TailCost(
                after_stage=stage,
                weights="random",
                time=ms(40 - 10 * stage),
                batch_time=ms(100),
                macs=1,
            )
            for stage in stages
        ),
        uncut_stages=(),
        uncut=ms(12),
        uncut_batch=ms(100),
    )
    together = Loopback(
        images=1,
        split=ms(1 + 20 + 0.5 + 0.5 + 20 + 5),
        edge_exit=ms(1 + 20 + 0.5 + 0.25 + 2),
        uncut=ms(12 + 3),
        uncut_file="JPEG q75",
        uncut_answer_bytes=86,
    )
    whole = {
        "bundle": bundle.model,
        "fingerprint": bundle.fingerprint,
        "architecture": architecture,
        "images": "made up",
        "frame_bytes": 7 + 256.0,  # one bit a site
        "macs_uncut": 500_000_000,
        "edge": edge,
        "cloud": cloud,
        "loopback": together,
    }
    return Profile(**whole | changes)


def test_an_exchange_takes_its_bits_and_a_round_trip() -> None:
    link = Link(up_bit_s=100e3, down_bit_s=200e3, rtt_ms=20)
    # 250 bytes are 2,000 bits: 20 ms up; 100 bytes are 800 bits: 4 ms down.
    assert link.exchange_ms(up_bytes=250, down_bytes=100) == pytest.approx(20 + 20 + 4)
    assert link.exchange_ms(up_bytes=0, down_bytes=0) == 0


def test_lost_packets_wait_for_the_probe() -> None:
    link = Link(1e6, 1e6, rtt_ms=50, loss=0.2)
    # Two packets up and one down; each is lost 0.25 times on average and waits 300 ms for it.
    assert link.loss_ms(up_bytes=1449, down_bytes=60) == pytest.approx(3 * 0.25 * 300)
    assert link.sent_bytes(100) == pytest.approx(125)


def test_a_forecast_is_the_sum_of_its_parts() -> None:
    link = Link(1e5, 1e5, rtt_ms=20)
    found = forecast(LATE, link, Sender(Radio.NONE))
    assert found.latency_ms == pytest.approx(18 + 16 + 20 + 10)
    assert found.energy_uj == pytest.approx(70)
    assert found.wire_bytes == 200


def test_radio_energy_is_of_the_links_rate() -> None:
    # Wi-Fi at 1 Mbit/s: 283.17 + 132.86 mW, 8 us a byte: 3.32824 uJ; half of a 0.04 J tail beside.
    sent = forecast(LATE, Link(1e6, 1e6, 0), Sender(Radio.WIFI, burst=2))
    assert sent.radio_uj == pytest.approx(200 * 3.32824 + 20_000)
    assert forecast(ALONE, Link(1e6, 1e6, 0), Sender(Radio.LTE, burst=1)).radio_uj == 0


def test_the_best_cut_changes_with_bandwidth_where_the_lines_cross() -> None:
    # Late: 28 ms + 1,600 bits; early: 10 ms + 8,000 bits: equal at 6,400 bits / 18 ms.
    (found,) = crossings([EARLY, LATE, ALONE], Link(1, 1, 20), Sender(), Objective.LATENCY)
    assert found.bit_s == pytest.approx(6400 / 18e-3)
    assert (found.below, found.above) == ("cut-2", "cloud-only")


def test_a_slower_downlink_stays_slower_where_bandwidth_is_looked_over() -> None:
    early = way("cloud-only", Kind.CLOUD_ONLY, cloud_ms=10, up_bytes=1000, down_bytes=100)
    late = way("cut-2", edge_ms=18, cloud_ms=10, up_bytes=200, down_bytes=10)
    # 20 ms more for late, 6,400 bits more up and 720 down for early; down is a hundredth of up.
    (found,) = crossings([early, late], Link(2e6, 2e4, 0), Sender(), Objective.LATENCY)
    assert found.bit_s == pytest.approx((6400 + 100 * 720) / 18e-3)


def test_best_names_the_cut_the_whole_and_what_can_be_had() -> None:
    link = Link(1e8, 1e8, rtt_ms=20)
    found = best(
        [forecast(each, link, Sender()) for each in (EXIT, ALONE, EARLY, LATE)], Objective.LATENCY
    )
    assert [each.placement.key for each in found][:2] == ["cloud-only", "edge-only"]
    assert found.of_all.placement is ALONE  # not the exit, which is less accurate


def test_placements_take_what_the_profile_says(bundle: Bundle) -> None:
    profile = profile_of(bundle)
    profiles = Profiles(profile, profile)
    found = placements(profiles, [bundle], find_source("jpeg", profiles))
    by_key = {each.key: each for each in found}
    assert list(by_key) == [
        "edge-exit-2",
        "edge-only",
        "cut-1",
        "cut-2",
        "cut-3",
        "cut-4",
        "cloud-only",
    ]
    own = by_key["cut-2"]
    assert (own.edge_ms, own.cloud_ms, own.overhead_ms) == pytest.approx((21.5, 20.5, 5))
    assert (own.status, own.top1) == (Status.DEPLOYABLE, bundle.manifest.measured.top1)
    assert own.up_bytes == request_bytes(263)
    assert own.edge_uj == pytest.approx(4.6 + 0.9 * 20)
    deep = by_key["cut-4"]  # a quarter of the sites: 7 + 64 bytes, a quarter of the codec's time
    assert (deep.edge_ms, deep.cloud_ms) == pytest.approx((1 + 40 + 0.125, 0.125))
    assert deep.up_bytes == request_bytes(71)
    assert (deep.status, deep.top1) == (Status.TRAINING, None)
    remote = by_key["cloud-only"]
    assert (remote.edge_ms, remote.cloud_ms, remote.overhead_ms) == pytest.approx((1.2, 12, 3))
    assert (remote.up_bytes, remote.down_bytes) == (framed_bytes(800) + 26, framed_bytes(86) + 26)
    assert by_key["edge-only"].edge_ms + by_key["edge-only"].overhead_ms == pytest.approx(33)
    assert by_key["edge-only"].edge_uj == pytest.approx(2300)
    assert by_key["edge-exit-2"].top1 == bundle.manifest.measured.edge_exit_top1


def test_a_slower_edge_and_a_given_file_change_what_they_should(bundle: Bundle) -> None:
    profile = profile_of(bundle)
    profiles = Profiles(profile, profile)
    found = placements(profiles, [bundle], find_source("20000", profiles), edge_factor=4)
    by_key = {each.key: each for each in found}
    assert by_key["edge-only"].edge_ms == pytest.approx(124)
    assert by_key["cut-2"].edge_ms == pytest.approx(86)
    assert by_key["cut-2"].overhead_ms == pytest.approx(
        5 + 3 * 2
    )  # the edge's daemon is slower too
    assert by_key["cut-2"].cloud_ms == pytest.approx(20.5)
    assert by_key["cloud-only"].up_bytes == framed_bytes(20_000) + 26


def test_bytes_of_a_message_are_those_of_the_contract() -> None:
    message = StreamRequest(sequence=300, frame=bytes(200), deadline_ms=1900)
    assert request_bytes(200) == framed_bytes(len(message.SerializeToString())) + 26
    assert answer_bytes() > framed_bytes(0)


def test_two_machines_share_what_the_processes_add(bundle: Bundle) -> None:
    near = profile_of(bundle)
    far = profile_of(bundle, loopback=near.loopback.model_copy(update={"split": ms(49)}))
    assert Profiles(near, far).added().split == pytest.approx(6)  # (5 + 7) / 2
    alone = profile_of(bundle, loopback=None)
    assert not Profiles(alone, alone).added().measured


def test_a_profile_without_a_cut_it_needs_and_one_of_a_busy_machine_say_so(bundle: Bundle) -> None:
    whole = profile_of(bundle)
    for part, changed in (
        ("head", {"edge": whole.edge.model_copy(update={"heads": whole.edge.heads[:1]})}),
        ("tail", {"cloud": whole.cloud.model_copy(update={"tails": whole.cloud.tails[:1]})}),
    ):
        damaged = whole.model_copy(update=changed)
        with pytest.raises(ConfigError, match=f"no {part} for the cut after stage 2"):
            placements(Profiles(damaged, damaged), [bundle], Source("file", 800, 0))
    busy = profile_of(bundle, loopback=whole.loopback.model_copy(update={"split": ms(1)}))
    profiles = Profiles(busy, busy)
    ways = placements(profiles, [bundle], Source("file", 800, 0))
    notes = plan_notes(profiles, ways, edge_factor=1, sender=Sender())
    assert any("busy" in note for note in notes)
    calm = plan_notes(Profiles(whole, whole), ways, edge_factor=1, sender=Sender())
    assert not any("busy" in note for note in calm)


def test_a_profile_comes_back_as_it_was_written(bundle: Bundle, tmp_path: Path) -> None:
    profile = profile_of(bundle)
    write_profile(profile, tmp_path / "new" / "profile.json")
    assert read_profile(tmp_path / "new" / "profile.json") == profile


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("[]", "profile of format None"),
        ('{"format_version": 9}', "profile of format 9"),
        ('{"format_version": 1, "bundel": "x"}', "did you mean 'bundle'"),
    ],
)
def test_a_file_that_is_no_profile_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_profile(path)
    with pytest.raises(ConfigError, match="spikebottlenet profile"):
        read_profile(tmp_path / "none.json")


def test_a_bundle_of_another_network_and_a_missing_side_are_refused(bundle: Bundle) -> None:
    profile = profile_of(bundle)
    wider = bundle.manifest.architecture.model_copy(update={"width": 32})
    other = profile_of(bundle, architecture=wider)
    with pytest.raises(ConfigError, match="has width 64, the profile"):
        placements(Profiles(other, other), [bundle], Source("x", 1, 0))
    with pytest.raises(ConfigError, match="give --cloud-profile"):
        Profiles(profile, profile_of(bundle, cloud=None)).sides()
    with pytest.raises(ConfigError, match="no edge side"):
        Profiles(profile_of(bundle, edge=None), profile).sides()
    with pytest.raises(ConfigError, match="wanted one of jpeg"):
        find_source("gif", Profiles(profile, profile))


def test_units() -> None:
    rates = ("100kbit/s", "20 Mbps", "1MB/s", "0.5 Gbit/s", "9600 bit/s", "1Mb/s")
    assert [parse_bit_rate(text) for text in rates] == [1e5, 2e7, 8e6, 5e8, 9600, 1e6]
    assert [parse_duration_ms(text) for text in ("20ms", "0.3 s", "500us", "0")] == [
        20,
        300,
        0.5,
        0,
    ]
    assert [parse_loss(text) for text in ("1%", "0.01", "0")] == [0.01, 0.01, 0]


@pytest.mark.parametrize(
    "text", ["100", "fast", "0kbit/s", "-1kbit/s", "1 kilobit", "", "1e400bit/s", "1e-9bit/s"]
)
def test_a_bandwidth_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="bandwidth"):
        parse_bit_rate(text)


@pytest.mark.parametrize("text", ["20", "soon", "1 h"])
def test_a_time_without_a_known_unit_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="such as 20ms"):
        parse_duration_ms(text)


def test_half_of_all_packets_lost_is_no_link() -> None:
    with pytest.raises(ConfigError, match="less than 50 %"):
        parse_loss("50%")


def test_a_plan_is_plain_json_sorted_by_its_objective() -> None:
    plan = make_plan([EARLY, LATE, ALONE, EXIT], Link(1e5, 1e5, 20), Sender(), Objective.BYTES)
    plain = json.loads(json.dumps(plan.as_json()))
    assert [each["wire_bytes"] for each in plain["placements"]] == [0, 0, 200, 1000]
    assert plain["best"]["latency"] == {
        "cut": "cut-2",
        "of_all": "edge-only",
        "deployable": "edge-only",
    }
