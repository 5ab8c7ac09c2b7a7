"""``edge-node bundle``, as a person uses it."""

import json
from pathlib import Path

import pytest

from edge_node.bundle_command import bundle_main
from spikebottlenet.bundle import PRIOR, Bundle
from spikebottlenet.bundle_store import BundleStore
from tests.conftest import Start
from tests.test_bundle_store import install, renamed


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert bundle_main(arguments) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


def test_fetch_list_and_rollback(
    start: Start, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = start("cloud_node")
    one = renamed("one")
    install(BundleStore(tmp_path), one)
    store = ("--bundle-store", str(tmp_path))
    fetched = said(capsys, "fetch", *store, "--cloud", cloud.address)
    assert fetched == f"current is {bundle.fingerprint} ({bundle.manifest.name})\n"
    lines = said(capsys, "list", *store).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["current", bundle.fingerprint],
        ["previous", one.fingerprint],
    ]
    assert one.fingerprint in said(capsys, "rollback", *store)
    (tmp_path / "bundles" / bundle.fingerprint / PRIOR).write_bytes(b"")
    latest, earlier = map(json.loads, said(capsys, "list", *store, "--json").splitlines())
    assert (latest["current"], latest["previous"]) == (False, True)
    assert "damaged" in latest["name"]
    assert (earlier["current"], earlier["name"]) == (True, "one")
    asked = ("fetch", *store, "--cloud", cloud.address, "--fingerprint")
    assert bundle.fingerprint in said(capsys, *asked, bundle.fingerprint)
    assert "cloud holds" in said(capsys, *asked, "0" * 64, status=1)


def test_what_cannot_be_done_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ("--bundle-store", str(tmp_path / "none"))
    assert "no bundle in" in said(capsys, "list", *store)
    assert "no earlier bundle" in said(capsys, "rollback", *store, status=1)
    away = said(capsys, "fetch", *store, "--cloud", "127.0.0.1:1", status=1)
    assert away.startswith("edge-node bundle: ")
    assert not (tmp_path / "none" / "current").exists()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "COMMAND"),
        (["fetch"], "--cloud"),
        (["fetch", "--cloud", "nowhere"], "host:port"),
        (["fetch", "--cloud", "x:1", "--fingerprint", "abc"], "64 hexadecimal digits"),
    ],
)
def test_usage_errors_name_what_is_wanted(
    arguments: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bundle_main(arguments)
    assert ended.value.code == 2
    assert wanted in capsys.readouterr().err


def test_the_store_is_the_state_directory(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    one = renamed("one")
    install(BundleStore(tmp_path), one)
    assert one.fingerprint in said(capsys, "list")
