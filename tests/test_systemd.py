"""Units of the service manager: they parse, and agree with the daemons they start."""

import configparser
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from cloud_node.settings import CloudSettings
from edge_node.settings import EdgeSettings
from spikebottlenet.daemon import DaemonSettings

ROOT = Path(__file__).parent.parent
UNITS = {"edge-node": EdgeSettings, "cloud-node": CloudSettings}


def unit_path(name: str) -> Path:
    return ROOT / "deploy" / "systemd" / f"{name}.service"


def service(name: str) -> dict[str, str]:
    # A key that stands twice adds to the first in systemd; the last one is enough here.
    unit = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes="#")
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(unit_path(name).read_text())
    return dict(unit["Service"])


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_an_entry_point_with_an_example_of_settings(name: str) -> None:
    command = shlex.split(service(name)["ExecStart"])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert Path(command[0]).name in scripts
    assert command[1] == "--config"
    assert (ROOT / "deploy" / "config" / Path(command[2]).name).is_file()


@pytest.mark.parametrize(("name", "model"), UNITS.items())
def test_a_daemon_has_time_to_drain_before_it_is_killed(
    name: str, model: type[DaemonSettings]
) -> None:
    assert float(service(name)["TimeoutStopSec"]) > model().drain_s


@pytest.mark.parametrize("name", UNITS)
def test_the_service_manager_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    analyze, true = shutil.which("systemd-analyze"), shutil.which("true")
    if analyze is None or true is None:
        pytest.skip("no systemd here")
    started = shlex.split(service(name)["ExecStart"])[0]
    unit = tmp_path / f"{name}.service"
    unit.write_text(unit_path(name).read_text().replace(started, true))  # not installed here
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    # It checks other units of the machine along with this one, which are not ours.
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []
    assert done.returncode == 0
