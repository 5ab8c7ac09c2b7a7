"""Every server that is compared, started the same way."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spikebottlenet.bench.peers.plain_server import address_in
from spikebottlenet.bench.processes import Server, Tree, running_server
from spikebottlenet.cli.daemons import running_daemon

_PEERS = "spikebottlenet.bench.peers"


@contextmanager
def running_cloud(bundle: str, folder: Path, *options: str) -> Iterator[Server]:
    """A cloud-node as it is by default."""
    arguments = ["--listen", "127.0.0.1:0", "--bundle", bundle, *options]
    log = folder / "cloud-node.log"
    with running_daemon("cloud_node", arguments, log) as daemon:
        yield Server(Tree(daemon.process.pid), daemon.address, log)


@contextmanager
def running_edge(bundle: str, folder: Path, cloud: str, *options: str) -> Iterator[Server]:
    """An edge-node as it is by default, before this cloud-node."""
    arguments = ["--listen", "127.0.0.1:0", "--bundle", bundle, "--cloud", cloud, *options]
    log = folder / "edge-node.log"
    with running_daemon("edge_node", arguments, log) as daemon:
        yield Server(Tree(daemon.process.pid), daemon.address, log)


@contextmanager
def running_litserve(bundle: str, folder: Path, *, batch: int, threads: int) -> Iterator[Server]:
    """LitServe with the un-cut network."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"

    # No proxy that is set for web browsing.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ready() -> str | None:
        try:
            with opener.open(f"http://{address}/health", timeout=5) as reply:
                return address if reply.status == 200 else None
        except (urllib.error.URLError, OSError):
            return None

    options = ["--bundle", bundle, "--port", str(port)]
    options += ["--batch", str(batch), "--threads", str(threads)]
    log = folder / "litserve.log"
    with running_server(f"{_PEERS}.litserve_server", options, log, ready) as server:
        yield server


@contextmanager
def running_plain_grpc(bundle: str, folder: Path, *, batch: int, threads: int) -> Iterator[Server]:
    """A plain gRPC unary server with the un-cut network."""
    log = folder / "grpc.log"
    options = ["--bundle", bundle, "--batch", str(batch), "--threads", str(threads)]
    with running_server(f"{_PEERS}.grpc_server", options, log, lambda: address_in(log)) as server:
        yield server


@contextmanager
def running_echo(folder: Path) -> Iterator[Server]:
    """A gRPC server that sends back what it gets."""
    log = folder / "echo.log"
    with running_server(f"{_PEERS}.plain_server", [], log, lambda: address_in(log)) as server:
        yield server


@contextmanager
def running_relay(folder: Path, echo: str, *, sent_on: int) -> Iterator[Server]:
    """A gRPC server that sends so many bytes of each request on to an echo, and its answer back."""
    log = folder / "relay.log"
    options = ["--relay", echo, "--sent-on", str(sent_on)]
    with running_server(f"{_PEERS}.plain_server", options, log, lambda: address_in(log)) as server:
        yield server
