"""``edge-node``: the whole life of the process at a glance."""

from collections.abc import Sequence

from edge_node.cloud_link import CloudLink
from edge_node.head_worker import HeadWorker
from edge_node.service import EdgeService
from edge_node.settings import EdgeSettings
from spikebottlenet.accounting.wire import KernelCounters, Side, WireLedger
from spikebottlenet.bundle import Half, bundle_folder, open_bundle
from spikebottlenet.daemon import run_daemon, serve_until, start_line, stop_requested
from spikebottlenet.errors import ConfigError
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.server import ServiceCollector, running_server
from spikebottlenet.rpc.v1.edge_pb2_grpc import add_EdgeInferenceServicer_to_server

_MESSAGE_ROOM_BYTES = 1024  # of a message beside its image
_CLOUD_MESSAGE_BYTES = 64 * 1024  # more than any answer needs

ABOUT = """Edge half of SpikeBottleNet: takes image files from clients, runs the spiking head, sends
the spikes to a cloud-node and answers with its prediction, or with its own (source: edge_exit) when
the cloud does not answer in time. Logs one JSON line a request on standard error; SIGTERM finishes
what was accepted and exits 0."""

EXAMPLE = """examples:
  edge-node                                  the shipped model, a cloud-node on this machine
  edge-node --cloud 192.0.2.7:50061          a cloud-node on another machine
  edge-node --config edge.yaml --radio lte   settings from a file, one of them changed
then: spikebottlenet send photo.jpg"""


def _port(address: str) -> int:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"cloud is {address!r}, wanted host:port, such as 192.0.2.7:50061")
    return int(port)


async def serve(settings: EdgeSettings) -> None:
    """Load, serve until a signal, drain."""
    stop = stop_requested()
    ledger = WireLedger(KernelCounters(port=_port(settings.cloud), side=Side.REMOTE))
    bundle = open_bundle(bundle_folder(settings.bundle), Half.EDGE)
    collector = ServiceCollector()
    channel = make_channel(settings.cloud, max_message_bytes=_CLOUD_MESSAGE_BYTES)
    cloud = CloudLink(
        channel,
        ledger,
        fingerprint=bundle.fingerprint,
        deadline_ms=settings.deadline_ms,
        max_in_flight=settings.max_in_flight,
    )
    async with channel:
        with HeadWorker(bundle, settings).running() as head:
            async with cloud.running() as link:
                service = EdgeService(bundle, settings, head, link)
                add_EdgeInferenceServicer_to_server(service, collector)
                largest = settings.max_image_bytes + _MESSAGE_ROOM_BYTES
                async with running_server(
                    settings.listen, collector, max_message_bytes=largest
                ) as serving:
                    line = start_line("edge-node", settings.listen, serving, bundle)
                    print(f"{line}, cloud {settings.cloud}", flush=True)
                    await serve_until(stop, serving, service.drain, drain_s=settings.drain_s)
            service.log_totals(ledger)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    run_daemon(EdgeSettings, serve, arguments, prog="edge-node", about=ABOUT, example=EXAMPLE)


if __name__ == "__main__":
    main()
