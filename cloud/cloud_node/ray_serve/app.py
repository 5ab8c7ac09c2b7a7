"""The application that Ray Serve deploys: an ingress that speaks the contract, before the tails.

serve deploy deploy/ray/serve.yaml      # on a cluster that runs
python -m cloud_node.ray_serve          # on this machine, for a try
"""

from typing import Any

from ray import serve
from ray.serve import Application

from cloud_node.ray_serve.ingress import Ingress
from cloud_node.ray_serve.replica import TailReplica
from cloud_node.ray_serve.settings import RaySettings

APPLICATION = "spikebottlenet"
TAILS = "Tails"
SERVICERS = [
    "spikebottlenet.rpc.v1.coinference_pb2_grpc.add_CoInferenceServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
]
_LOGGING = {"enable_access_log": False}  # a line an image, in every process on its way
_STREAMS = 1024  # open on one ingress at a time
_HEALTH_PERIOD_S = 2.0  # a replica that hangs, not one that dies, is found by this


def build(arguments: dict[str, Any]) -> Application:
    """The application of these settings; Ray Serve calls it with ``args`` of its configuration.

    Raises:
        ConfigError: a setting is unknown, or not one that Ray Serve can keep.
    """
    return application(RaySettings.parse(arguments, source="args").checked())


def application(settings: RaySettings) -> Application:
    """The application of settings that were checked."""
    scale: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.max_replicas > settings.replicas:
        scale = {
            "autoscaling_config": {
                "min_replicas": settings.replicas,
                "max_replicas": settings.max_replicas,
                # A full batch that runs; what comes above waits, and asks for another replica.
                "target_ongoing_requests": settings.max_batch,
            }
        }
    on_gpu = settings.device != "cpu"
    tails = serve.deployment(
        TailReplica,
        name=TAILS,
        ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": int(on_gpu)},
        # One batch runs and the next one waits in the replica: it is never idle between two.
        max_ongoing_requests=2 * settings.max_batch,
        max_queued_requests=settings.max_waiting,
        health_check_period_s=_HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=settings.drain_s,
        logging_config=_LOGGING,
        **scale,
    )
    ingress = serve.deployment(
        Ingress,
        name="CoInference",
        num_replicas=settings.ingresses,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=_STREAMS,
        health_check_period_s=_HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=settings.drain_s,
        logging_config=_LOGGING,
    )
    bound: Application = ingress.bind(tails.bind(settings), settings)
    return bound
