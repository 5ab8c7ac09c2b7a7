"""An edge-node that has its bundle from the cloud-node."""

import signal
from pathlib import Path

import pytest

from spikebottlenet.bundle import Bundle, Half, open_bundle
from spikebottlenet.errors import UnavailableError
from tests.clients import no_traceback
from tests.conftest import Start
from tests.free_port import free_port
from tests.test_loopback import records, send
from tests.test_store import wait_for_log


def test_an_edge_takes_the_clouds_bundle_keeps_it_and_follows_it(
    start: Start, bundle: Bundle, other_bundle: Path, photo: Path, tmp_path: Path
) -> None:
    other = open_bundle(other_bundle, Half.EDGE)
    config = tmp_path / "cloud.yaml"
    config.write_text(f"bundle: {other_bundle}\n")
    cloud = start("cloud_node", "--config", str(config))
    options = ("--bundle-from-cloud", "--bundle-store", str(tmp_path / "state"))
    edge = start("edge_node", "--cloud", cloud.address, *options, "--deadline-ms", "30000")
    [record] = records(send(edge, "--json", str(photo)))
    assert (record["fingerprint"], record["source"]) == (other.fingerprint, "cloud")
    config.write_text(f"bundle: default,{other_bundle}\n")
    cloud.process.send_signal(signal.SIGHUP)
    wait_for_log(cloud, "reloaded")
    edge.process.send_signal(signal.SIGHUP)
    wait_for_log(edge, "reloaded")
    [record] = records(send(edge, "--json", str(photo)))
    assert (record["fingerprint"], record["source"]) == (bundle.fingerprint, "cloud")
    assert edge.stop() == 0
    assert cloud.stop() == 0
    edge = start("edge_node", "--cloud", free_port(), *options)
    [record] = records(send(edge, "--json", str(photo)))
    assert (record["fingerprint"], record["source"]) == (bundle.fingerprint, "edge_exit")
    no_traceback(edge, cloud)


def test_without_a_cloud_and_without_a_bundle_it_says_so(start: Start, tmp_path: Path) -> None:
    options = ("--bundle-from-cloud", "--bundle-store", str(tmp_path / "state"))
    with pytest.raises(UnavailableError, match="none from the cloud-node"):
        start("edge_node", "--cloud", free_port(), *options)
