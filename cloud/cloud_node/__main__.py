"""``cloud-node``: the whole life of the process at a glance."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from cloud_node.inference import CloudInference
from cloud_node.metrics import cloud_families
from cloud_node.models import ServedModels, load_model
from cloud_node.received import decode_each
from cloud_node.service import CloudService
from cloud_node.settings import CloudSettings
from cloud_node.tail_worker import TailWorker
from cloud_node.web import live_routes, web_routes
from spikebottlenet.accounting.wire import KernelCounters, Side, WireLedger
from spikebottlenet.bundle import bundle_folders
from spikebottlenet.daemon import run_daemon, serve_until, start_line, stop_requested
from spikebottlenet.logs import fields
from spikebottlenet.metrics.standing import daemon_families
from spikebottlenet.reload import reloading
from spikebottlenet.rpc.server import ServiceCollector, Serving, running_server
from spikebottlenet.rpc.v1.coinference_pb2_grpc import add_CoInferenceServicer_to_server
from spikebottlenet.tracing import running_tracer
from spikebottlenet.web.server import Refused, running_web

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

log = logging.getLogger(__name__)

ABOUT = """Cloud half of SpikeBottleNet: receives spikes from edge-node daemons over gRPC, runs the
tail of the network and answers with predictions. Logs one JSON line a request on standard error;
SIGHUP reads the settings again and changes the bundles served; SIGTERM finishes what was accepted
and exits 0."""

EXAMPLE = """examples:
  cloud-node                                   serve this machine with the shipped model
  cloud-node --listen 0.0.0.0:50061 --tls-cert server.pem --tls-key server.key --tokens tokens.txt
                                               serve other machines too
  cloud-node --config cloud.yaml --threads 4   settings from a file, one of them changed"""


async def serve(settings: CloudSettings, reread: Callable[[], CloudSettings]) -> None:
    """Load, serve until a signal, drain."""
    stop = stop_requested()
    folders = bundle_folders(settings.bundle)
    models = ServedModels([load_model(folder, settings.tail_options()) for folder in folders])
    queue = TailWorker(settings.batch_limits(), threads=settings.tail_threads, decode=decode_each)
    collector = ServiceCollector()
    ledger = WireLedger(KernelCounters(port=0, side=Side.LOCAL))
    async with (
        running_tracer(settings.trace_to, "cloud-node") as tracer,
        queue.running() as worker,
    ):
        inference = CloudInference(models, settings, worker, tracer)
        service = CloudService(inference, ledger)
        add_CoInferenceServicer_to_server(service, collector)

        def routes(
            serving: Serving, web_refused: Refused, worker: TailWorker = worker
        ) -> "Sequence[BaseRoute]":
            families = [
                *inference.metrics.families,
                *cloud_families(models, worker),
                *daemon_families("spikebottlenet_cloud", ledger, serving, web_refused),
            ]
            return [*web_routes(serving, families), *live_routes(service, inference)]

        async def change(fresh: CloudSettings) -> None:
            await models.change(bundle_folders(fresh.bundle), fresh.tail_options())
            service.drain_unserved()
            log.info("serving", extra=fields(models=[m.bundle.model for m in models]))

        async with (
            running_server(
                settings.listen,
                collector,
                max_message_bytes=settings.max_message_bytes,
                security=settings.server_security(),
                limits=settings.server_limits(),
            ) as serving,
            running_web(settings, partial(routes, serving)) as web,
        ):
            ledger.counters.port = serving.port
            line = start_line("cloud-node", settings.listen, serving, web, models.first.bundle)
            print(line, flush=True)
            async with reloading(settings, reread, change):
                await serve_until(
                    stop, serving, web, service.drain, drain_s=settings.drain_s, alive=worker.alive
                )
            inference.log_totals(ledger)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    run_daemon(CloudSettings, serve, arguments, prog="cloud-node", about=ABOUT, example=EXAMPLE)


if __name__ == "__main__":
    main()
