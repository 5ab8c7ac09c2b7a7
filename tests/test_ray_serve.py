"""The cloud under Ray Serve: an unchanged edge, two replicas, one of them killed; nothing lost."""

import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from cloud_node.ray_serve.settings import RaySettings
from spikebottlenet.bundle import TAIL_WEIGHTS, Bundle
from spikebottlenet.errors import ConfigError
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.v1.coinference_pb2 import GetModelRequest, InferRequest
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub
from spikebottlenet.runtime.torch_tail import TorchTail
from tests.crops import write_crops
from tests.trials.ray_cloud import edge_of_ray, replicas, send

DEPLOY = Path(__file__).parent.parent / "deploy"
IMAGES = 200

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the extra ray is not installed"
)


@pytest.fixture
def asked_for(request: pytest.FixtureRequest) -> None:
    """It takes as long as a Ray to start, so the whole suite goes without."""
    if not any("test_ray_serve" in name for name in request.config.args):
        pytest.skip("takes 40 s: name this file, or run `make scale`")


async def ask_without_an_edge(address: str, bundle: Bundle, spikes: np.ndarray) -> None:
    """The contract's other methods, by Ray's proxy as by cloud-node."""
    codec = bundle.codec()
    frame, fingerprint = codec.encode_spikes(spikes), bytes.fromhex(bundle.fingerprint)
    tail = TorchTail(bundle.path(TAIL_WEIGHTS), bundle.manifest.architecture, device="cpu")
    (expected,) = tail.classify(spikes[:, None])
    async with make_channel(address, max_message_bytes=1 << 21) as channel:
        stub = CoInferenceStub(channel)
        answer = await stub.Infer(InferRequest(fingerprint=fingerprint, frames=[frame]))
        assert list(answer.classes) == list(np.argsort(-expected)[:5])
        parts = [part async for part in stub.GetModel(GetModelRequest())]
        assert [part.manifest_json for part in parts] == [bundle.manifest.canonical_json()]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Infer(InferRequest(fingerprint=bytes(32), frames=[frame]))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert bundle.fingerprint in refused.value.details()
        health = await HealthStub(channel).Check(HealthCheckRequest())
        assert health.status == HealthCheckResponse.SERVING


def test_a_replica_that_is_killed_loses_nothing(
    asked_for, tmp_path: Path, crops, bundle: Bundle, spikes: np.ndarray
) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    images = write_crops(crops[:IMAGES], folder)
    killed: list[int] = []
    with edge_of_ray(tmp_path / "ray", "--replicas", "2", "--threads", "1") as (edge, cloud):
        before = {process.pid for process in replicas(cloud)}
        assert len(before) == 2

        def kill_one() -> None:
            victim = replicas(cloud)[0]
            killed.append(victim.pid)
            victim.kill()

        run = send(edge, images, after=IMAGES // 4, then=kill_one)
        assert killed
        assert killed[0] in before
        assert (run.lost, run.edge_exit, run.failed) == (0, 0, 0)
        assert killed[0] not in {process.pid for process in replicas(cloud)}
        asyncio.run(ask_without_an_edge(cloud.address, bundle, spikes))
        assert edge.stop() == 0
        assert cloud.stop() == 0
    lines = [json.loads(line) for line in (tmp_path / "ray" / "edge.log").read_text().splitlines()]
    answered = [line for line in lines if line["event"] == "answered"]
    assert len({line["request_id"] for line in answered}) == IMAGES  # each once
    # Images of one batch have its time in the tail: 32 are in flight, so batches hold several.
    assert len({line["latency_ms"]["tail"] for line in answered}) <= IMAGES / 2


def test_the_cluster_configuration_is_one_that_ray_reads_and_builds() -> None:
    # In a process of its own: Ray warns as it is imported, and this one takes warnings for errors.
    code = """
import sys, yaml
from ray.serve.schema import ServeDeploySchema
from cloud_node.ray_serve.app import SERVICERS, build
found = ServeDeploySchema.model_validate(yaml.safe_load(open(sys.argv[1])))
assert found.grpc_options.grpc_servicer_functions == SERVICERS
(application,) = found.applications
build(application.args)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(DEPLOY / "ray" / "serve.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "say --insecure"),
        ({"insecure": True, "tls_cert": "server.pem"}, "tls_cert: Ray's gRPC proxy"),
        ({"insecure": True, "rate": 5}, "rate: Ray's gRPC proxy"),
        ({"insecure": True, "replicas": 4, "max_replicas": 2}, "max_replicas is 2, wanted 4"),
    ],
)
def test_what_ray_cannot_keep_is_refused_not_ignored(settings: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RaySettings.parse(settings, source="test").checked()
