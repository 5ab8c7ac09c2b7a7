"""``edge-node``: the whole life of the process at a glance."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edge_node.answering import Answering
from edge_node.bundle_command import bundle_main
from edge_node.class_names import ClassNames
from edge_node.cloud_link import CloudLink
from edge_node.cloud_stream import Connect, Connection
from edge_node.delivery import Delivery
from edge_node.fetch import MAX_PART_BYTES, bundle_for_start
from edge_node.head_worker import Head, HeadWorker, Turns
from edge_node.metrics import EdgeMetrics
from edge_node.models import ServedModel, ServedModels
from edge_node.queue import DurableQueue
from edge_node.queue_command import queue_main
from edge_node.service import EdgeService
from edge_node.settings import EdgeSettings
from edge_node.standing import QueueStanding, edge_families
from edge_node.store import Store
from edge_node.web import live_routes, web_routes
from spikebottlenet.accounting.energy import RADIO_PROFILES
from spikebottlenet.accounting.wire import KernelCounters, Side, WireLedger
from spikebottlenet.bundle import Bundle, Half, bundle_folders, open_bundle
from spikebottlenet.bundle_store import BundleStore
from spikebottlenet.daemon import (
    run_daemon,
    serve_until,
    start_line,
    stop_requested,
    unless_stopped,
)
from spikebottlenet.errors import ConfigError, UnavailableError
from spikebottlenet.listening import file_or_none
from spikebottlenet.metrics.standing import daemon_families
from spikebottlenet.reload import reloading
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.security import call_metadata, channel_credentials
from spikebottlenet.rpc.server import ServiceCollector, Serving, running_server
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub
from spikebottlenet.rpc.v1.edge_pb2_grpc import add_EdgeInferenceServicer_to_server
from spikebottlenet.state_dir import state_dir
from spikebottlenet.tracing import running_tracer
from spikebottlenet.web.server import Refused, running_web

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

_MESSAGE_ROOM_BYTES = 1024  # of a message beside its image

ABOUT = """Edge half of SpikeBottleNet: takes image files from clients, runs the spiking head, sends
the spikes to a cloud-node and answers with its prediction, or with its own (source: edge_exit) when
the cloud does not answer in time. Logs one JSON line a request on standard error; SIGHUP reads the
settings again and changes the bundles served; SIGTERM finishes what was accepted and exits 0."""

EXAMPLE = """examples:
  edge-node                                  the shipped model, a cloud-node on this machine
  edge-node --cloud 192.0.2.7:50061          a cloud-node on another machine
  edge-node --config edge.yaml --radio lte   settings from a file, one of them changed
then: spikebottlenet send photo.jpg
see also: edge-node queue --help             what is stored for the cloud
          edge-node bundle --help            bundles fetched from the cloud"""


def _port(address: str) -> int:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"cloud is {address!r}, wanted host:port, such as 192.0.2.7:50061")
    return int(port)


async def serve(settings: EdgeSettings, reread: Callable[[], EdgeSettings]) -> None:
    """Load, serve until a signal, drain."""
    stop = stop_requested()
    ledger = WireLedger(KernelCounters(port=_port(settings.cloud), side=Side.REMOTE))
    connect = _connector(settings)
    turns, metrics = Turns(), EdgeMetrics()

    def build(bundle: Bundle) -> ServedModel:
        link = CloudLink(
            connect,
            ledger,
            fingerprint=bundle.fingerprint,
            deadline_ms=settings.deadline_ms,
            max_in_flight=settings.max_in_flight,
            reconnected=metrics.reconnected,
        )
        return ServedModel(bundle, Head(bundle, settings, turns), link)

    def deliver(queue: DurableQueue) -> Delivery:
        return Delivery(
            queue,
            connect,
            ledger,
            ClassNames(models, connect),
            RADIO_PROFILES[settings.radio],
            window=settings.store_window,
            stall_s=settings.stall_s,
            count=metrics.delivered,
        )

    async def change(fresh: EdgeSettings) -> None:
        await models.change(await _folders(fresh, connect))

    models = ServedModels(build)
    folders = await unless_stopped(stop, _folders(settings, connect))
    if folders is None:
        return
    bundles = [open_bundle(folder, Half.EDGE) for folder in folders]
    collector = ServiceCollector()
    head_worker = HeadWorker(
        max_waiting=settings.max_waiting, max_waiting_bytes=settings.max_waiting_bytes
    )
    with head_worker.running() as worker:
        async with (
            running_tracer(settings.trace_to, "edge-node") as tracer,
            models.running(bundles),
            Store(settings, deliver).running() as store,
        ):
            answering = Answering(models, settings, worker, store)
            service = EdgeService(answering, settings, store, metrics, tracer)
            add_EdgeInferenceServicer_to_server(service, collector)

            queue = QueueStanding(store)

            def routes(
                serving: Serving, web_refused: Refused, worker: HeadWorker = worker
            ) -> "Sequence[BaseRoute]":
                families = [
                    *metrics.families,
                    *edge_families(models, worker, answering, queue),
                    *daemon_families("spikebottlenet_edge", ledger, serving, web_refused),
                ]
                pages = live_routes(service, models, settings, serving.clients)
                return [*web_routes(serving, families, queue.refresh), *pages]

            async def alive(worker: HeadWorker = worker, store: Store = store) -> None:
                await worker.alive()
                await store.alive()

            largest = settings.max_image_bytes + _MESSAGE_ROOM_BYTES
            async with (
                running_server(
                    settings.listen,
                    collector,
                    max_message_bytes=largest,
                    security=settings.server_security(),
                    limits=settings.server_limits(),
                ) as serving,
                running_web(settings, partial(routes, serving)) as web,
            ):
                line = start_line("edge-node", settings.listen, serving, web, models.first.bundle)
                print(f"{line}, cloud {settings.cloud}", flush=True)
                async with reloading(settings, reread, change):
                    await serve_until(
                        stop, serving, web, service.drain, drain_s=settings.drain_s, alive=alive
                    )
    service.log_totals(ledger, expired=worker.expired)


async def _folders(settings: EdgeSettings, connect: Connect) -> list[Path]:
    if not settings.bundle_from_cloud:
        return bundle_folders(settings.bundle)
    store = BundleStore(file_or_none(settings.bundle_store) or state_dir())
    connection = connect()
    async with connection.channel as channel:
        stub = CoInferenceStub(channel)
        try:
            return [await bundle_for_start(stub, store, metadata=connection.metadata)]
        except UnavailableError as error:
            raise UnavailableError(
                f"no bundle yet, and none from the cloud-node at {settings.cloud}: {error}; start "
                "that first, or give a bundle with --bundle"
            ) from error


def _connector(settings: EdgeSettings) -> Connect:
    security = settings.channel_security()
    channel_credentials(security, settings.cloud)  # files that do not work are said now
    call_metadata(security)

    def connect() -> Connection:
        channel = make_channel(settings.cloud, max_message_bytes=MAX_PART_BYTES, security=security)
        return Connection(channel, call_metadata(security))

    return connect


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    commands = {"queue": queue_main, "bundle": bundle_main}
    if given and given[0] in commands:
        sys.exit(commands[given[0]](given[1:]))
    run_daemon(EdgeSettings, serve, given, prog="edge-node", about=ABOUT, example=EXAMPLE)


if __name__ == "__main__":
    main()
