"""A quick run against real daemons, and that its report is whole."""

import io
import json
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from spikebottlenet.bench.figures import CLAIMS, Part
from spikebottlenet.bench.peers.servers import running_echo
from spikebottlenet.bench.processes import Server, in_fresh_process, running_server
from spikebottlenet.bench.run import PARTS, Wanted, run_bench
from spikebottlenet.bench.subject import Subject
from spikebottlenet.bundle import Bundle
from spikebottlenet.cli.bench import app
from spikebottlenet.errors import DataError, UnavailableError

_KEYS = {
    *("name", "says", "unit", "value", "reference", "reference_is", "ratio", "spread"),
    *("bound", "wanted", "holds"),
}


def test_a_quick_run_writes_a_whole_report(tmp_path: Path, bundle: Bundle) -> None:
    shown = io.StringIO()
    wanted = Wanted(("codec", "link"), quick=True, out=tmp_path)
    parts = run_bench(wanted, Console(file=shown, width=140))
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["bundle"]["fingerprint"] == bundle.fingerprint
    assert report["quick"] is True
    assert report["images"]["count"] > 0
    assert report["images"]["held_out"] is False
    assert {"cpu", "cores", "python", "libraries", "date"} <= set(report["machine"])
    names = [claim["name"] for claim in report["claims"]]
    assert names == [name for name in CLAIMS if name.split(".")[0] in ("codec", "link")]
    assert report["not_measured"] == [name for name in CLAIMS if name not in names]
    for claim in report["claims"]:
        assert set(claim) == _KEYS
        better = (
            claim["ratio"] <= claim["wanted"]
            if claim["bound"] == "at most"
            else claim["ratio"] >= claim["wanted"]
        )
        assert claim["holds"] is better
        assert claim["spread"]["first_quartile"] <= claim["ratio"]
        assert claim["ratio"] <= claim["spread"]["third_quartile"]
    missed = [claim["name"] for claim in report["claims"] if not claim["holds"]]
    assert all(f"missed: {', '.join(missed)}" in shown.getvalue() for _ in missed[:1])
    markdown = (tmp_path / "bench.md").read_text()
    assert all(table.title in markdown for part in parts for table in part.tables)
    assert (tmp_path / "bench-claims.svg").stat().st_size > 0


def parts_about_training(folder: Path) -> list[tuple[str, bool, int]]:
    """Name, failure and number of tables of each, from a quick run."""
    wanted = Wanted(("neuron", "train"), quick=True, out=folder)
    parts = run_bench(wanted, Console(file=io.StringIO()))
    return [(part.name, part.failed, len(part.tables)) for part in parts]


def test_the_parts_about_training_measure_something(tmp_path: Path) -> None:
    # In a process of its own: it keeps more freed memory than other tests may find in theirs.
    assert in_fresh_process(parts_about_training, tmp_path) == [
        ("neuron", False, 1),
        ("train", False, 1),
    ]


def test_every_part_is_a_command_and_part_of_all() -> None:
    commands = {command.callback.__name__ for command in app.registered_commands}
    assert set(PARTS) <= commands
    assert {name.split(".")[0] for name in CLAIMS} <= set(PARTS)


def test_a_server_is_stopped_when_the_block_fails(tmp_path: Path) -> None:
    def fail(echo: Server) -> None:
        started.append(psutil.Process(echo.tree.pids[0]))
        assert echo.tree.resident_mb() > 0
        raise RuntimeError("on purpose")

    started: list[psutil.Process] = []
    with pytest.raises(RuntimeError, match="on purpose"), running_echo(tmp_path) as echo:
        fail(echo)
    (process,) = started
    assert not process.is_running()


def test_a_server_that_ends_early_is_quoted(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match="No module named"),
        running_server("spikebottlenet.nothing", [], tmp_path / "log", lambda: None),
    ):
        pass


def test_a_fresh_process_has_its_own_interpreter() -> None:
    assert in_fresh_process(abs, -3) == 3


@pytest.mark.parametrize("error", [DataError("on purpose"), ZeroDivisionError("on purpose")])
def test_a_part_that_fails_costs_no_other(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Subject) -> Part:
        raise error

    monkeypatch.setitem(PARTS, "cloud", fails)
    monkeypatch.setitem(PARTS, "edge", lambda _: Part("edge", notes=("measured",)))
    with pytest.raises(UnavailableError, match="not measured: cloud"):
        run_bench(Wanted(("cloud", "edge"), quick=True, out=tmp_path), Console(file=io.StringIO()))
    parts = json.loads((tmp_path / "bench.json").read_text())["parts"]
    assert parts["cloud"]["notes"] == [f"cloud failed: {type(error).__name__}: on purpose"]
    assert parts["edge"]["notes"] == ["measured"]
    assert (parts["cloud"]["failed"], parts["edge"]["failed"]) == (True, False)
