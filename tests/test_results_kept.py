"""The trainings whose results are kept in ``docs/results``: page, logs and points agree."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from spikebottlenet.lab.compose import read_config
from spikebottlenet.lab.report.write import write_report
from spikebottlenet.lab.results import Method, Point, read_results

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"
KEPT = ROOT / "docs" / "results"
RUNS = sorted(path.parent for path in KEPT.glob("*/results.json"))
REPEATED = sorted(path.parent for path in (ROOT / "docs" / "results-again").glob("*/results.json"))
AGREE = 0.5  # points of accuracy, of two trainings of one config on unlike machines
HEADER = "| run | spike bits | fewer | top-1 | total drop | bytes | edge uJ | ordinary |\n"


def own_point(run: Path) -> Point:
    """The cut network's point as it was trained."""
    config = yaml.safe_load((run / "bundle" / "training.yaml").read_text())
    points = [p for p in read_results(run).points if p.method is Method.SPIKES]
    (found,) = [p for p in points if p.head_bits == config.get("head_bits", 32)]
    return found


def row(run: Path) -> str:
    """A run's line of the page's table."""
    point = own_point(run)
    (energy,) = point.energy
    assert point.uncut_top1 is not None
    assert point.bit_compression is not None
    assert energy.ordinary_head_uj is not None
    cells = (
        f"`{run.name}`",
        f"{point.bits_before_coding:,}",
        f"{point.bit_compression:.0f}x",
        f"{point.top1:.2f} %",
        f"{point.uncut_top1 - point.top1:.2f}",
        f"{point.payload_bytes_mean:.0f}",
        f"{energy.edge_uj:.1f}",
        f"{energy.ordinary_head_uj / energy.edge_uj:.1f}x",
    )
    return f"| {' | '.join(cells)} |"


def test_the_pages_table_is_what_the_runs_measured() -> None:
    assert RUNS
    table = PAGE.read_text().partition(HEADER)[2].partition("\n\n")[0].splitlines()[1:]
    assert table == [row(run) for run in RUNS]


@pytest.mark.parametrize("again", REPEATED, ids=lambda run: run.name)
def test_a_second_training_of_the_same_config_agrees(again: Path) -> None:
    first = KEPT / again.name
    configs = [read_config(run / "bundle" / "training.yaml", ()).config for run in (first, again)]
    assert configs[0] == configs[1]
    before, after = own_point(first), own_point(again)
    assert before.subject == after.subject  # the same images too
    assert after != before
    assert abs(after.top1 - before.top1) <= AGREE
    assert after.uncut_top1 == pytest.approx(before.uncut_top1, abs=AGREE)
    assert f"`{again.name}` again | {after.top1:.2f} % | {before.top1:.2f} %" in PAGE.read_text()


@pytest.mark.parametrize("run", [*RUNS, *REPEATED], ids=lambda run: run.name)
def test_every_point_has_its_config_its_log_and_a_command_for_anyone(run: Path) -> None:
    digest = hashlib.sha256((run / "bundle" / "training.yaml").read_bytes()).hexdigest()
    for point in read_results(run).points:
        assert point.subject.config_sha256 == digest
        assert (point.subject.split, point.subject.images) == ("test", 10_000)
        assert (run / point.log).is_file()
        words = point.command.split()
        assert words[0] == "spikebottlenet"
        assert not any(Path(word).is_absolute() for word in words)
    for name in ("uncut", "cut"):
        log = run / "bundle" / f"training-{name}.jsonl"
        epochs = [json.loads(line)["epoch"] for line in log.read_text().splitlines()]
        assert epochs == list(range(1, len(epochs) + 1))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_shipped_config_of_that_name_is_the_one_that_was_run(run: Path) -> None:
    shipped = ROOT / "shared/spikebottlenet/lab/configs" / f"{run.name}.yaml"
    kept = run / "bundle" / "training.yaml"
    assert read_config(shipped, ()).config == read_config(kept, ()).config


def test_they_make_one_report(tmp_path: Path) -> None:
    """By the page's own line: every folder there is a run."""
    assert "spikebottlenet report docs/results/* --out report" in PAGE.read_text()
    assert sorted(KEPT.iterdir()) == RUNS
    written = write_report(RUNS, tmp_path)
    assert written.sections == 1
    assert written.points == sum(len(read_results(run).points) for run in RUNS)
