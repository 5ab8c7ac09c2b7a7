"""``spikebottlenet demo``: both daemons on this machine, four photos through them."""

import asyncio
import contextlib
import importlib.util
import json
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from spikebottlenet.cli.client import Wishes
from spikebottlenet.cli.daemons import Daemon, running_daemon
from spikebottlenet.cli.send import Sent, json_record, send_all
from spikebottlenet.cli.sources import find_images
from spikebottlenet.cli.table import print_table, record_table, totals_line
from spikebottlenet.errors import ConfigError

# Photos that scikit-image ships, and what they show, in CIFAR-100's words.
PHOTOS = {
    "motorcycle_left.png": "motorcycle",
    "coffee.png": "cup",
    "rocket.jpg": "rocket",
    "clock_motion.png": "clock",
}
_DEADLINE_MS = 30_000  # a demo waits for the cloud, however slow the machine


def shipped_photos() -> list[str]:
    """Paths of ``PHOTOS``.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "the demo's photos come with scikit-image: pip install scikit-image, or give paths"
        )
    return [str(Path(spec.origin).parent / "data" / name) for name in PHOTOS]


def _metrics(daemon: Daemon) -> bytes:
    """What a daemon's ``/metrics`` says."""
    with urllib.request.urlopen(f"{daemon.web}/metrics", timeout=10) as reply:  # noqa: S310, ours
        said: bytes = reply.read()
    return said


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, and so the daemons in it."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _until_interrupted() -> None:
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def demo(
    paths: Annotated[
        list[str] | None, typer.Argument(help="images; default: four photos of scikit-image")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the records and the daemons' logs")] = Path(
        "build"
    ),
    bundle: Annotated[str, typer.Option(help="a bundle's folder, or 'default'")] = "default",
    stay: Annotated[bool, typer.Option(help="keep both daemons until Ctrl-C")] = False,
) -> None:
    """Start cloud-node and edge-node, send images, show the answers and what they took."""
    sent = Sent(
        find_images(paths or shipped_photos()), style="table", out=typer.get_text_stream("stdout")
    )
    out.mkdir(parents=True, exist_ok=True)
    wishes = Wishes(deadline_ms=_DEADLINE_MS)
    common = ["--bundle", bundle, "--listen", "127.0.0.1:0", "--web-listen", "127.0.0.1:0"]
    records = out / "demo.jsonl"
    with (
        _ended_by_sigterm(),
        running_daemon("cloud_node", common, out / "cloud-node.log") as cloud,
    ):
        print(cloud.start_line)
        arguments = [*common, "--cloud", cloud.address]
        with running_daemon("edge_node", arguments, out / "edge-node.log") as edge:
            print(edge.start_line)
            print(f"live pages while they run: {edge.web}/ {cloud.web}/")
            print(f"metrics while they run: {edge.web}/metrics {cloud.web}/metrics", flush=True)
            seconds = asyncio.run(send_all(edge.address, sent, wishes))
            for daemon, name in ((edge, "edge-node"), (cloud, "cloud-node")):
                (out / f"{name}.metrics.txt").write_bytes(_metrics(daemon))
            with records.open("w", encoding="utf-8") as file:
                for name, record in sent.rows():
                    file.write(json.dumps(json_record(name, record), ensure_ascii=False) + "\n")
            print_table(record_table(sent.rows(), None if paths else PHOTOS))
            print(totals_line(sent.totals, failed=sent.failed, seconds=seconds))
            print(f"records in {records}, the daemons' logs and metrics beside it", flush=True)
            if stay:
                print(f"both serve on until Ctrl-C: spikebottlenet send --edge {edge.address} FILE")
                _until_interrupted()
    if sent.failed:
        raise typer.Exit(1)
