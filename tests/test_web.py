"""The daemons' web server: who gets in, by real sockets."""

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from spikebottlenet.errors import ConfigError, UnavailableError
from spikebottlenet.listening import ListeningSettings
from spikebottlenet.rpc.tokens import entry_of
from spikebottlenet.web.door import CLIENT
from spikebottlenet.web.routes import health_route
from spikebottlenet.web.server import Refused, running_web
from tests.conftest import Start, log_lines

EDGE_START = ("edge_node", "--cloud", "127.0.0.1:9")


class Answer(NamedTuple):
    status: int
    body: str


def routes(_: Refused) -> Sequence[Route]:
    async def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.scope[CLIENT])

    return [health_route(lambda: False), Route("/who", who, methods=["GET", "POST"])]


def fetch(
    url: str, context: ssl.SSLContext | None = None, method: str = "GET", **headers: str
) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, headers=named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as reply:
            return Answer(reply.status, reply.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode())


@contextlib.asynccontextmanager
async def web(listen: str = "127.0.0.1:0", **settings: object) -> AsyncIterator[str]:
    values = {"web_listen": listen, **settings}
    async with running_web(ListeningSettings.model_validate(values), routes) as served:
        yield served.url


async def test_this_machine_gets_in_and_other_sites_pages_do_not() -> None:
    async with web() as url:
        port = url.rpartition(":")[2]
        get = asyncio.to_thread
        assert await get(fetch, f"{url}/who") == (200, "address 127.0.0.1")
        assert await get(fetch, f"{url}/healthz") == (503, "NOT_SERVING\n")
        assert (await get(fetch, f"{url}/none")).status == 404
        for name in (f"localhost:{port}", "[::1]:80"):
            assert (await get(fetch, f"{url}/who", Host=name)).status == 200
        refused = [
            {"Host": f"rebound.example:{port}"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "method": "POST"},
        ]
        for headers in refused:
            assert (await get(fetch, f"{url}/who", **headers)).status == 403, headers
        own = {"Origin": url, "Sec_Fetch_Site": "same-origin", "method": "POST"}
        assert (await get(fetch, f"{url}/who", **own)).status == 200
        link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
        assert (await get(fetch, f"{url}/healthz", **link)).status == 503
        assert (await get(fetch, f"{url}/who", **link)).status == 403  # data: for no one's frame


async def test_where_tokens_are_set_all_but_empty_pages_needs_one(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    tokens.write_text(entry_of("camera", "secret-1").line + "\n")
    async with web(tokens=str(tokens)) as url:
        get = asyncio.to_thread
        good = {"Authorization": "Bearer secret-1"}
        assert await get(fetch, f"{url}/who", **good) == (200, "token camera")
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret-1"}):
            answer = await get(fetch, f"{url}/who", **headers)
            assert answer.status == 401
            assert "token" in json.loads(answer.body)["error"]
        assert (await get(fetch, f"{url}/metrics")).status == 401
        assert (await get(fetch, f"{url}/assets/none.css")).status == 404
        assert (await get(fetch, f"{url}/healthz")).status == 503
        assert (await get(fetch, f"{url}/", method="POST")).status == 401
        tokens.write_text(entry_of("camera", "secret-2").line + "\n\n")
        assert (await get(fetch, f"{url}/who", **good)).status == 401


async def test_tls_is_that_of_grpc_and_renewed_without_a_restart(tmp_path: Path) -> None:
    certs = [sys.executable, "-m", "spikebottlenet.cli", "certs", str(tmp_path / "tls")]
    await asyncio.to_thread(subprocess.run, certs, check=True, capture_output=True)
    tls = {"tls_cert": f"{tmp_path}/tls/server.pem", "tls_key": f"{tmp_path}/tls/server.key"}
    trusting = ssl.create_default_context(cafile=tmp_path / "tls" / "ca.pem")
    async with web(**tls) as url:
        assert url.startswith("https://")
        get = asyncio.to_thread
        assert (await get(fetch, f"{url}/who", trusting)).status == 200

        def shown() -> str:
            port = int(url.rpartition(":")[2])
            return ssl.get_server_certificate(("127.0.0.1", port))

        before = await get(shown)
        assert before.strip() in (tmp_path / "tls" / "server.pem").read_text()
        await get(subprocess.run, [*certs, "--renew"], check=True, capture_output=True)
        after = await get(shown)
        assert after != before
        assert after.strip() in (tmp_path / "tls" / "server.pem").read_text()
    with pytest.raises(ConfigError, match="no tokens"):
        async with web("0.0.0.0:0", **tls):
            pass
    client_ca = {"tls_client_ca": f"{tmp_path}/tls/ca.pem"}
    async with web("0.0.0.0:0", **tls, **client_ca) as url:
        here = url.replace("//0.0.0.0:", "//127.0.0.1:")
        with pytest.raises((ssl.SSLError, OSError)):
            await get(fetch, f"{here}/who", trusting)


async def test_an_address_in_use_is_an_error_only_where_it_was_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="--web-listen"):
            async with web(address):
                pass

        class UsuallyHere(ListeningSettings):
            web_listen: str = address

        async with running_web(UsuallyHere(), routes) as served:
            assert served.url == ""
    for wrong in ("8080", "127.0.0.1:", "127.0.0.1:99999", ":80"):
        with pytest.raises(ConfigError, match="web_listen"):
            async with web(wrong, insecure=True):
                pass


async def test_who_connects_and_says_nothing_is_ended() -> None:
    async with web(silent_s=0.2) as url:
        port = int(url.rpartition(":")[2])
        for said in (b"", b"GET /who HT", b"POST /who HTTP/1.1\r\nHost: [::1]\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()


def test_a_daemon_says_where_and_keeps_its_own_signals(start: Start) -> None:
    edge = start(*EDGE_START)
    assert edge.web.startswith("http://127.0.0.1:")
    assert fetch(f"{edge.web}/healthz") == (200, "SERVING\n")
    assert edge.stop() == 0
    lines = log_lines(edge)
    assert lines[-1]["event"] == "totals"
    assert not [line for line in lines if line["logger"].startswith("uvicorn")]
