"""``python -m cloud_node.ray_serve``: the application on a Ray, until a signal."""

import asyncio
import socket
from collections.abc import Callable, Sequence

import ray
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions

from cloud_node.ray_serve.app import APPLICATION, SERVICERS, application
from cloud_node.ray_serve.settings import RaySettings
from spikebottlenet import __version__
from spikebottlenet.bundle import Half, bundle_folders, open_bundle
from spikebottlenet.daemon import run_daemon, stop_requested

ABOUT = """Cloud half of SpikeBottleNet under Ray Serve: the service of cloud-node before replicas
of the tails, on a Ray that it starts or joins. An edge-node needs no change for it. SIGTERM takes
it down and exits 0."""

EXAMPLE = """examples:
  python -m cloud_node.ray_serve --insecure --replicas 2
  python -m cloud_node.ray_serve --insecure --replicas 2 --max-replicas 8 --address auto
on a cluster: serve deploy deploy/ray/serve.yaml"""


async def run(settings: RaySettings, reread: Callable[[], RaySettings]) -> None:  # noqa: ARG001
    """Deploy, say where, wait for a signal, take it down."""
    bundles = [
        open_bundle(folder, Half.CLOUD) for folder in bundle_folders(settings.checked().bundle)
    ]
    bundle = bundles[0]
    host, _, wanted = settings.listen.rpartition(":")
    port = _free(int(wanted))
    ray.init(address=settings.address or "local", include_dashboard=False, log_to_driver=False)
    try:
        serve.start(
            http_options=HTTPOptions(host="127.0.0.1", port=_free(settings.http_port)),
            grpc_options=gRPCOptions(port=port, grpc_servicer_functions=SERVICERS),
        )
        serve.run(application(settings), name=APPLICATION)
        stop = stop_requested()  # after Ray, which takes the signals too
        print(
            f"cloud-node on Ray {ray.__version__} {__version__} serving on {host}:{port}, "
            f"bundle {bundle.manifest.name}, fingerprint {bundle.fingerprint}",
            flush=True,
        )
        await stop.wait()
    finally:
        await asyncio.to_thread(serve.shutdown)
        ray.shutdown()


def _free(port: int) -> int:
    """This port, or one that is free for 0: Ray has to be told a number."""
    if port:
        return port
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    prog = "python -m cloud_node.ray_serve"
    run_daemon(RaySettings, run, arguments, prog=prog, about=ABOUT, example=EXAMPLE)


if __name__ == "__main__":
    main()
