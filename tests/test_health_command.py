"""`spikebottlenet health`: what a container's health check hears from a real server."""

import asyncio
import os
from pathlib import Path

import click.testing
import pytest
from typer.testing import CliRunner

from spikebottlenet.cli.__main__ import app
from tests.door import Certificates, echo_server
from tests.free_port import free_port

SERVICE = "spikebottlenet.rpc.v1.CoInference"


async def health(*words: str | Path) -> click.testing.Result:
    command = ["health", *map(str, words)]
    return await asyncio.to_thread(CliRunner().invoke, app, command)


async def test_a_daemon_says_when_it_takes_requests() -> None:
    async with echo_server() as serving:
        address = f"127.0.0.1:{serving.port}"
        for more in ((), ("--service", SERVICE)):
            done = await health(address, *more)
            assert (done.exit_code, done.stdout) == (0, "SERVING\n")
        await serving.set_healthy(False)
        done = await health(address)
        assert (done.exit_code, done.stdout) == (1, "NOT_SERVING\n")


async def test_an_unknown_service_and_nobody_there_are_said() -> None:
    async with echo_server() as serving:
        done = await health(f"127.0.0.1:{serving.port}", "--service", "no.such")
        assert done.exit_code == 1
        assert "no such service here" in done.stderr
    nobody = free_port()
    done = await health(nobody)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"spikebottlenet: {nobody}: ")


async def test_mutual_tls_is_asked_with_certificates_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Certificates(tmp_path)
    async with echo_server(made.mutual) as serving:
        address = f"localhost:{serving.port}"
        assert (await health(address)).exit_code == 1
        monkeypatch.setitem(os.environ, "SPIKEBOTTLENET_CA", str(made.ca))
        assert (await health(address)).exit_code == 1
        monkeypatch.setitem(os.environ, "SPIKEBOTTLENET_CERT", str(made.client_cert))
        monkeypatch.setitem(os.environ, "SPIKEBOTTLENET_KEY", str(made.client_key))
        done = await health(address)
        assert (done.exit_code, done.stdout) == (0, "SERVING\n")
