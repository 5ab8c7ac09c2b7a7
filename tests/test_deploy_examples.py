"""Example settings: each is read by its daemon, and what they promise is tried by real daemons."""

from pathlib import Path

import pytest

from cloud_node.settings import CloudSettings
from edge_node.settings import EdgeSettings
from spikebottlenet.cli.authority import issue
from spikebottlenet.config import read_yaml
from spikebottlenet.daemon import DaemonSettings
from spikebottlenet.rpc.security import check_address
from tests.conftest import Start, log_lines
from tests.door import DAY, Certificates, save
from tests.test_loopback import records, send

DEPLOY = Path(__file__).parent.parent / "deploy"
EXAMPLES = DEPLOY / "examples"
INSTALLED = "/etc/spikebottlenet/"
SETTINGS: dict[str, type[DaemonSettings]] = {"edge": EdgeSettings, "cloud": CloudSettings}
FILES = sorted(
    path
    for folder in ("examples", "compose", "kubernetes")
    for name in SETTINGS
    for path in (DEPLOY / folder).rglob(f"{name}.yaml")
)


def settings_of(path: Path) -> DaemonSettings:
    return SETTINGS[path.stem].parse(read_yaml(path), source=str(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_a_daemon_takes_these_settings(path: Path) -> None:
    settings = settings_of(path)
    # It would start: what other machines can reach is guarded, or said not to be.
    check_address(settings.listen, settings.server_security())
    check_address(settings.web_listen, settings.server_security())


def test_every_example_is_a_pair_and_none_is_insecure() -> None:
    found = sorted(folder.name for folder in EXAMPLES.iterdir())
    assert found == ["mutual-tls", "one-machine", "slow-link", "two-machines"]
    for folder in EXAMPLES.iterdir():
        assert sorted(path.name for path in folder.iterdir()) == ["cloud.yaml", "edge.yaml"]
        for path in folder.iterdir():
            assert not settings_of(path).insecure


def test_one_machine(start: Start, photo: Path) -> None:
    cloud = start("cloud_node", "--config", str(EXAMPLES / "one-machine" / "cloud.yaml"))
    config = str(EXAMPLES / "one-machine" / "edge.yaml")
    edge = start("edge_node", "--config", config, "--cloud", cloud.address)
    done = send(edge, "--json", "--deadline-ms", "30000", str(photo))
    assert done.returncode == 0, done.stderr
    (found,) = records(done)
    assert (found["label"], found["source"]) == ("motorcycle", "cloud")
    assert found["edge_radio_uj"] == 0


def installed(path: Path, folder: Path) -> Path:
    """An example with its files in another folder than where it says."""
    text = path.read_text().replace(INSTALLED, f"{folder}/")
    copy = folder / path.name
    copy.write_text(text)
    return copy


def test_mutual_tls(start: Start, photo: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "tls", tmp_path / "other"
    for folder in (ours, theirs):
        folder.mkdir()
    Certificates(ours)
    example = EXAMPLES / "mutual-tls"
    cloud_config, edge_config = (
        str(installed(example / name, tmp_path)) for name in ("cloud.yaml", "edge.yaml")
    )
    cloud = start("cloud_node", "--config", cloud_config)
    address = cloud.address.replace("127.0.0.1", "localhost")
    edge = start("edge_node", "--config", edge_config, "--cloud", address)
    done = send(edge, "--json", "--deadline-ms", "30000", str(photo))
    assert done.returncode == 0, done.stderr
    assert records(done)[0]["source"] == "cloud"
    assert edge.stop() == 0

    stranger = issue(Certificates(theirs).authority, "camera-1", hosts=(), lasts=DAY)
    save(ours, "client", stranger)
    edge = start("edge_node", "--config", edge_config, "--cloud", address)
    done = send(edge, "--json", str(photo))
    assert records(done)[0]["source"] == "edge_exit"
    assert "cloud not available" in {line["event"] for line in log_lines(edge)}
