"""gRPC's poller, as the daemons choose it."""

import os
import subprocess
import sys

import pytest

_STARTS = """
import os
import {package}
import grpc
from concurrent.futures import ThreadPoolExecutor
server = grpc.server(ThreadPoolExecutor(1))
server.add_insecure_port("127.0.0.1:0")
server.start()
server.stop(None).wait()
print(os.environ["GRPC_EXPERIMENTS"])
"""


def started(package: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """A process that imports a package and then starts a server."""
    usual = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    return subprocess.run(
        [sys.executable, "-c", _STARTS.format(package=package)],
        env=usual | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize("package", ["cloud_node", "edge_node"])
def test_a_daemon_runs_without_the_event_engine_and_grpc_knows_that_choice(package: str) -> None:
    process = started(package)
    assert process.stdout.split() == ["-event_engine_client,-event_engine_listener"]
    assert process.stderr == ""  # a choice that gRPC does not know is named there
    unknown = started(package, GRPC_EXPERIMENTS="-no_such_thing")
    assert "no_such_thing" in unknown.stderr


def test_whoever_runs_a_daemon_has_the_choice() -> None:
    assert started("cloud_node", GRPC_EXPERIMENTS="event_engine_client").stdout.split() == [
        "event_engine_client"
    ]
