"""A cloud under Ray Serve or a plain one, behind an edge that knows no difference."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from spikebottlenet.accounting.record import InferenceRecord
from spikebottlenet.cli.client import Outcome, Wishes, classify_images, edge_client
from spikebottlenet.cli.daemons import Daemon, running_daemon
from spikebottlenet.cli.sources import ImageSource

RAY = "cloud_node.ray_serve"
DEADLINE_MS = 30_000  # of every image, tries on other replicas included
_REPLICA = "ServeReplica:spikebottlenet:Tails"  # in the process's title, by Ray


@dataclass(frozen=True)
class Run:
    """What became of some images."""

    images: int
    cloud: int  # answered by the cloud within the deadline
    edge_exit: int  # answered by the edge alone: not lost to the client, but to the cloud
    failed: int
    seconds: float  # from the first image sent to the last answered
    total_ms: tuple[float, ...]  # of each answered image, in the edge

    @property
    def lost(self) -> int:
        """Images without the cloud's answer."""
        return self.images - self.cloud

    @property
    def images_s(self) -> float:
        """Answered images a second."""
        return self.cloud / self.seconds

    def quantile_ms(self, percent: int) -> float:
        """A percentile of latency."""
        return statistics.quantiles(self.total_ms, n=100, method="inclusive")[percent - 1]


def replicas(cloud: Daemon) -> list[psutil.Process]:
    """Processes of the tails' replicas."""
    found = []
    for process in psutil.Process(cloud.process.pid).children(recursive=True):
        try:
            if any(_REPLICA in word for word in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:  # ended meanwhile
            continue
    return found


@contextmanager
def edge_of_ray(folder: Path, *options: str) -> Iterator[tuple[Daemon, Daemon]]:
    """A Ray of this machine's own with the cloud in it, and an edge before it."""
    ray = ("--insecure", "--listen", "0.0.0.0:0", "--http-port", "0", *options)
    with edge_before(RAY, ray, folder) as pair:
        yield pair


@contextmanager
def edge_before(
    module: str, options: tuple[str, ...], folder: Path
) -> Iterator[tuple[Daemon, Daemon]]:
    """A cloud and an edge-node before it: (edge, cloud)."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        cloud = running.enter_context(running_daemon(module, options, folder / "cloud.log"))
        edge_options = ["--listen", "127.0.0.1:0", "--web-listen", "", "--cloud", cloud.address]
        edge_options += ["--deadline-ms", str(DEADLINE_MS)]
        edge = running.enter_context(running_daemon("edge_node", edge_options, folder / "edge.log"))
        yield edge, cloud


def send(edge: Daemon, images: list[Path], *, after: int = 0, then: Callable[[], None]) -> Run:
    """Send images by the client's own way; ``then`` is called once ``after`` are answered."""
    return asyncio.run(_send(edge, images, after, then))


def nothing() -> None:
    """What happens in the middle of an ordinary run."""


async def _send(edge: Daemon, images: list[Path], after: int, then: Callable[[], None]) -> Run:
    outcomes: list[Outcome] = []
    sources = [ImageSource(str(path)) for path in images]
    began = time.monotonic()
    async with edge_client(edge.address) as client:
        async for outcome in classify_images(client, sources, Wishes(retry_s=DEADLINE_MS / 1e3)):
            outcomes.append(outcome)
            if len(outcomes) == after:
                then()
    seconds = time.monotonic() - began
    records: list[InferenceRecord] = [o.record for o in outcomes if o.record is not None]
    by_cloud = [record for record in records if record.source == "cloud"]
    return Run(
        images=len(images),
        cloud=len(by_cloud),
        edge_exit=len(records) - len(by_cloud),
        failed=len(images) - len(records),
        seconds=seconds,
        total_ms=tuple(record.latency_ms.total for record in by_cloud),
    )
