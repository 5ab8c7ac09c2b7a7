"""The parts by name, run one after another, and where their report goes."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from spikebottlenet.bench.cloud_part import measure_cloud
from spikebottlenet.bench.codec_part import measure_codec
from spikebottlenet.bench.edge_part import measure_edge
from spikebottlenet.bench.figures import Part
from spikebottlenet.bench.growth_part import measure_growth
from spikebottlenet.bench.link_part import measure_link
from spikebottlenet.bench.machine import machine_facts
from spikebottlenet.bench.neuron_part import measure_neuron
from spikebottlenet.bench.overload_part import measure_overload
from spikebottlenet.bench.peers_part import measure_peers
from spikebottlenet.bench.report import as_json, as_markdown, print_report
from spikebottlenet.bench.subject import Subject, prepared
from spikebottlenet.bench.train_part import measure_train
from spikebottlenet.errors import UnavailableError
from spikebottlenet.heap import bound_heaps

log = logging.getLogger(__name__)

PARTS: dict[str, Callable[[Subject], Part]] = {
    "codec": measure_codec,
    "edge": measure_edge,
    "cloud": measure_cloud,
    "link": measure_link,
    "overload": measure_overload,
    "peers": measure_peers,
    "growth": measure_growth,
    "neuron": measure_neuron,
    "train": measure_train,
}
_IMAGES, _QUICK_IMAGES = 1000, 128


class Wanted(NamedTuple):
    """What a run of the bench is asked for."""

    parts: tuple[str, ...]
    bundle: str = "default"
    data: str | None = None
    quick: bool = False
    out: Path = Path("build")


def run_bench(wanted: Wanted, console: Console) -> Sequence[Part]:
    """Measure, print, and write ``bench.json``, ``bench.md`` and plots; the parts found.

    Raises:
        UnavailableError: a part failed; the others are in the report.
    """
    bound_heaps()  # what is measured in this process finds memory as a daemon does
    machine, began = machine_facts(), time.monotonic()
    wanted.out.mkdir(parents=True, exist_ok=True)
    count = _QUICK_IMAGES if wanted.quick else _IMAGES
    found: list[Part] = []
    name_of = "bench" if len(wanted.parts) > 1 else f"bench-{wanted.parts[0]}"
    json_path = wanted.out / f"{name_of}.json"
    with prepared(wanted.bundle, wanted.data, count=count, quick=wanted.quick) as subject:
        for name in wanted.parts:
            console.print(f"{name} ...", highlight=False)
            started = time.monotonic()
            part = _measured(name, subject)
            found.append(replace(part, seconds=time.monotonic() - started))
            plain = as_json(found, subject, machine, seconds=time.monotonic() - began)
            # After every part, so that one which fails loses nothing of those before it.
            json_path.write_text(
                json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8"
            )
            markdown = as_markdown(found, subject, machine)
            (wanted.out / f"{name_of}.md").write_text(markdown, encoding="utf-8")
    print_report(found, console)
    written = [json_path, *_plots(found, wanted.out, name_of)]
    console.print(f"written: {', '.join(str(path) for path in written)}", highlight=False)
    failed = [part.name for part in found if part.failed]
    if failed:
        raise UnavailableError(f"not measured: {', '.join(failed)}; the report says why")
    return found


def _plots(found: Sequence[Part], folder: Path, name_of: str) -> list[Path]:
    """Plots of the report; one that cannot be drawn costs nothing that was measured."""
    from spikebottlenet.bench.plots import draw_plots

    try:
        return draw_plots(found, folder, name_of)
    except Exception:
        log.exception("no plots")
        return []


def _measured(name: str, subject: Subject) -> Part:
    """One part; one that fails costs the report no other."""
    try:
        return PARTS[name](subject)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        log.exception("%s failed", name)
        return Part(name, notes=(f"{name} failed: {said}",), failed=True)
