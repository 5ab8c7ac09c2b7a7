"""A sweep: one training for each point of a grid, un-cut networks shared, all of it resumable.

`OUT/uncut-HASH/` holds an un-cut network for all runs whose un-cut part is the same; `OUT/RUN/` is
a training as `spikebottlenet train` makes it, by a process of its own, so that one which fails, or
is killed for memory, does not end the others. What has a measured bundle is not run again, but with
another `--data` than then its training is asked again, which refuses other images.
"""

import hashlib
import itertools
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from spikebottlenet.bundle import Half, Measured, open_bundle
from spikebottlenet.errors import ConfigError, SpikeBottleNetError
from spikebottlenet.lab.checkpoint import replace_file
from spikebottlenet.lab.claim import CONFIG, uncut_part
from spikebottlenet.lab.compose import read_config
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.stopping import TrainingStoppedError, stop_flag

log = logging.getLogger(__name__)

_STOPPED = frozenset({130, 143, -2, -15})  # exit statuses of a training that a signal ended
_LOG = "train.log"
_DATA = "data.name"  # what --data said when a run was done
_COLUMNS = (  # of what was measured, in the table
    "uncut_top1",
    "edge_exit_top1",
    "payload_bytes_mean",
    "payload_bytes_p99",
    "firing_rate",
    "edge_compute_uj",
    "ann_head_uj",
    "images",
)
_POLL_S = 0.5


class Axis(NamedTuple):
    """One setting, and the values it takes."""

    key: str
    values: tuple[str, ...]  # each as YAML


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str
    sets: tuple[str, ...]
    config: TrainingConfig


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    point: Point
    measured: Measured | None
    reason: str = ""  # of a failure
    held_out_top1: float | None = None  # of the weights that were kept


def parse_axis(text: str) -> Axis:
    """``KEY=V1,V2``; a value that holds commas goes in brackets, as YAML.

    Raises:
        ConfigError: it is no such thing.
    """
    key, equals, written = text.partition("=")
    try:
        values = yaml.safe_load(f"[{written}]") if equals else None
    except yaml.YAMLError:
        values = None
    if not key.strip() or not values:
        raise ConfigError(f"found --grid {text}, wanted KEY=V1,V2, as loss.lambda_bits=0,0.5,1")
    return Axis(key.strip(), tuple(json.dumps(value) for value in values))


def grid(config: Path, axes: Sequence[Axis], sets: Sequence[str]) -> list[Point]:
    """Every point, each config read and checked before anything runs.

    Raises:
        ConfigError: a value or a key that no config takes, or one setting in two axes.
    """
    keys = [axis.key for axis in axes]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigError(f"found --grid {twice[0]} twice, wanted all its values in one")
    points = []
    for values in itertools.product(*(axis.values for axis in axes)):
        own = tuple(f"{key}={value}" for key, value in zip(keys, values, strict=True))
        short = [f"{key.rpartition('.')[2]}={v}" for key, v in zip(keys, values, strict=True)]
        name = re.sub(r"[^\w.=-]+", "_", ",".join(short).replace(",", "_")) or "only"
        every = (*sets, *own)
        points.append(Point(name, every, read_config(config, every).config))
    names = [point.name for point in points]
    if len(set(names)) < len(names):
        raise ConfigError("two points of the grid have the same name: give each value once")
    return points


def measured_of(run: Path) -> Measured | None:
    """What a finished run's bundle says of itself."""
    try:
        return open_bundle(run / "bundle", Half.LAB).manifest.measured
    except SpikeBottleNetError:
        return None


def run_sweep(
    config: Path, points: Sequence[Point], out: Path, *, data: str | None
) -> Iterator[Outcome]:
    """Run what is not done, in the grid's order; each outcome as it is known.

    Raises:
        TrainingStoppedError: a signal came; done runs are kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    failed_uncut: dict[str, str] = {}
    for point in points:
        run = out / point.name
        done = _finished(run, point) if _same_data(run, data) else None
        if done is not None:
            yield Outcome(point, done, held_out_top1=_held_out(run, point.config))
            continue
        key = _uncut_key(point.config)
        shared = out / f"uncut-{key}"
        if key not in failed_uncut and not (shared / "done").exists():
            reason = _train(config, point, shared, data, "--only-uncut")
            if reason:
                failed_uncut[key] = reason
            else:
                replace_file(shared / "done", b"")
        reason = failed_uncut.get(key) or _train(config, point, run, data, "--uncut", str(shared))
        found = None if reason else measured_of(run)
        why = reason or ("" if found else "it left no measured bundle")
        if not why:
            replace_file(run / _DATA, (data or "").encode())
        yield Outcome(point, found, why, _held_out(run, point.config))


def _same_data(run: Path, data: str | None) -> bool:
    """Whether a run was made from what ``--data`` names now; one of an older version may be."""
    kept = run / _DATA
    return not kept.exists() or kept.read_text(encoding="utf-8") == (data or "")


def _held_out(run: Path, config: TrainingConfig) -> float | None:
    """Accuracy on the held-out images, every timestep received, by the training's log."""
    name = f"held_out_top1_t{config.bottleneck.timesteps}"
    log_path = run / "cut.jsonl"
    if not config.data.held_out or not log_path.exists():
        return None
    lines = [json.loads(text) for text in log_path.read_text(encoding="utf-8").splitlines()]
    found = [float(line[name]) for line in lines if name in line]
    if not found:
        return None
    return max(found) if config.cut.patience else found[-1]


def _uncut_key(config: TrainingConfig) -> str:
    text = json.dumps(uncut_part(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _finished(run: Path, point: Point) -> Measured | None:
    """Of a run by this very config; another one's folder is for the training to refuse."""
    if not (run / CONFIG).exists():
        return None
    try:
        same = read_config(run / CONFIG).config == point.config
    except ConfigError:
        return None
    return measured_of(run) if same else None


def _train(config: Path, point: Point, out: Path, data: str | None, *options: str) -> str:
    """Train in a process of its own; why it failed, or nothing."""
    out.mkdir(parents=True, exist_ok=True)
    # An un-cut network's folder is for every cut: it keeps the config of the first that wanted it.
    kept = out / CONFIG
    start = [sys.executable, "-m", "spikebottlenet.cli", "train"]
    if "--only-uncut" in options and kept.exists():
        words = [*start, str(kept), "--out", str(out), *options]
    else:
        words = [*start, str(config), "--out", str(out), "--name", point.name, *options]
        words += [word for text in point.sets for word in ("--set", text)]
    if data is not None:
        words += ["--data", data]
    log.info("%s: %s", out.name, " ".join(words[1:]))
    with (out / _LOG).open("ab") as said, stop_flag() as stop:
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)  # noqa: S603
        while True:
            try:
                status = process.wait(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                if stop.signal_number:
                    process.send_signal(stop.signal_number)
                    status = process.wait()
                    break
    if stop.signal_number or status in _STOPPED:
        number = stop.signal_number or (status - 128 if status > 0 else -status)
        raise TrainingStoppedError(f"stopped in {out}: the same command goes on from there", number)
    return "" if status == 0 else f"exit status {status}: {_last_words(out / _LOG)}"


def _last_words(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else f"see {path}"


def table(axes: Sequence[Axis], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row a run: its settings, how it ended, and what was measured."""
    rows = []
    for outcome in outcomes:
        count = len(axes)
        own = outcome.point.sets[len(outcome.point.sets) - count :] if count else ()
        row: dict[str, Any] = {"run": outcome.point.name}
        row |= {text.partition("=")[0]: text.partition("=")[2] for text in own}
        row["state"] = "failed" if outcome.measured is None else "done"
        if outcome.measured is not None:
            plain = outcome.measured.model_dump()
            row["held_out_top1"] = outcome.held_out_top1  # choose by this one, not by the next
            row["test_top1"] = plain["top1"]
            row |= {name: plain[name] for name in _COLUMNS}
        else:
            row["reason"] = outcome.reason
        rows.append(row)
    return rows


def write_table(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """``sweep.json`` and ``sweep.md``."""
    text = json.dumps(rows, indent=1) + "\n"
    replace_file(out / "sweep.json", text.encode())
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(_cell(row.get(name)) for name in columns)} |" for row in rows]
    replace_file(out / "sweep.md", ("\n".join(lines) + "\n").encode())


def _cell(value: object) -> str:
    return "-" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
