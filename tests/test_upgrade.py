"""A rolling upgrade: a new model on the cloud, then on the edge, while clients ask."""

import asyncio
import signal
from pathlib import Path

import pytest

from spikebottlenet.bundle import Bundle, Half, default_bundle, open_bundle
from spikebottlenet.cli.daemons import Daemon
from spikebottlenet.rpc.v1.edge_pb2 import SOURCE_CLOUD
from tests.clients import no_traceback
from tests.conftest import Start, altered_bundle, log_lines
from tests.free_port import free_port
from tests.load import Load
from tests.test_loopback import send
from tests.test_store import results, wait_for_log


@pytest.fixture(scope="module")
def mirrored_bundle(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    """The shipped bundle with its classes named backwards: every label tells who answered."""
    names = list(bundle.manifest.class_names[::-1])
    folder = tmp_path_factory.mktemp("bundle") / "mirrored"
    return altered_bundle(folder, name="mirrored", class_names=names)


async def test_an_upgrade_under_load_loses_nothing_and_mixes_nothing(
    start: Start, tmp_path: Path, mirrored_bundle: Path, photo: Path
) -> None:
    old, new = open_bundle(default_bundle(), Half.LAB), open_bundle(mirrored_bundle, Half.LAB)
    configs = {name: tmp_path / f"{name}.yaml" for name in ("cloud", "edge")}
    for config in configs.values():
        config.write_text("bundle: default\n")
    cloud = await asyncio.to_thread(start, "cloud_node", "--config", str(configs["cloud"]))
    arguments = ("--config", str(configs["edge"]), "--cloud", cloud.address)
    edge = await asyncio.to_thread(start, "edge_node", *arguments)

    async def reload(daemon: Daemon, name: str, bundles: str) -> None:
        seen = daemon.log.read_text().count('"reloaded"')
        configs[name].write_text(f"bundle: {bundles}\n")
        daemon.process.send_signal(signal.SIGHUP)
        while daemon.log.read_text().count('"reloaded"') == seen:
            await asyncio.sleep(0.01)
        await clients.some_more()

    clients = Load(edge, photo.read_bytes(), clients=4, deadline_ms=30_000)
    await clients.some_more()
    await reload(cloud, "cloud", f"default,{mirrored_bundle}")
    await reload(edge, "edge", str(mirrored_bundle))
    await reload(cloud, "cloud", str(mirrored_bundle))
    await clients.stop()
    expected = {old.fingerprint: "motorcycle"}
    names = old.manifest.class_names
    expected[new.fingerprint] = names[::-1][names.index("motorcycle")]
    answers = [(answer.fingerprint, answer.top5[0].label) for answer in clients.answers]
    assert {fingerprint for fingerprint, _ in answers} == set(expected)
    assert all(label == expected[fingerprint] for fingerprint, label in answers)
    assert {answer.source for answer in clients.answers} == {SOURCE_CLOUD}
    no_traceback(cloud, edge)
    assert await asyncio.to_thread(edge.stop) == 0
    assert log_lines(edge)[-1]["refused"] == 0


def test_spikes_stored_before_an_upgrade_are_answered_by_the_model_that_made_them(
    start: Start, tmp_path: Path, mirrored_bundle: Path, photo: Path
) -> None:
    address = free_port()
    store = ("--store-path", str(tmp_path / "queue.sqlite"))
    edge = start("edge_node", "--cloud", address, *store)
    assert send(edge, "--store", str(photo)).returncode == 0
    assert edge.stop() == 0
    edge = start("edge_node", "--cloud", address, *store, "--bundle", str(mirrored_bundle))
    cloud = start("cloud_node", "--bundle", f"{mirrored_bundle},default", listen=address)
    [found] = results(edge)
    assert found["label"] == "motorcycle"
    assert found["fingerprint"] == open_bundle(default_bundle(), Half.EDGE).fingerprint
    no_traceback(cloud, edge)


def test_a_reload_that_cannot_work_changes_nothing(
    start: Start, tmp_path: Path, photo: Path
) -> None:
    config = tmp_path / "cloud.yaml"
    config.write_text("bundle: default\n")
    cloud = start("cloud_node", "--config", str(config))
    edge = start("edge_node", "--cloud", cloud.address, "--deadline-ms", "30000")
    broken_settings = ("bundle: /nowhere\n", "bundle: ''\n", "no such setting: 1\n")
    for times, broken in enumerate(broken_settings, start=1):
        config.write_text(broken)
        cloud.process.send_signal(signal.SIGHUP)
        wait_for_log(cloud, "not reloaded, all stays as it was", times)
    assert b'"source": "cloud"' in send(edge, "--json", str(photo)).stdout
    no_traceback(cloud, edge)
