"""Limits and the end of the daemons' web server: by real sockets, and peers that mean ill."""

import asyncio
import contextlib
import errno
import select
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from spikebottlenet.errors import ConfigError
from spikebottlenet.listening import ListeningSettings
from spikebottlenet.metrics.exposition import metrics_route
from spikebottlenet.rpc.limits import ServerLimits
from spikebottlenet.rpc.tokens import entry_of
from spikebottlenet.web.door import CLIENT
from spikebottlenet.web.ending import Ending
from spikebottlenet.web.guard import Guard
from spikebottlenet.web.pages.feed import Feed
from spikebottlenet.web.server import Refused, Routes, Web, running_web
from spikebottlenet.web.site import open_site

WITHIN_S = 20.0
LARGE = 16 << 20  # bytes; more than the kernel keeps of one connection


class Pages:
    """Routes that are slow, large, or never end."""

    def __init__(self) -> None:
        self.feed = Feed(lambda: {"n": 1})
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.refused: Refused = {}

    def __call__(self, refused: Refused) -> Sequence[Route]:
        self.refused = refused
        return [
            Route("/who", self.who, methods=["GET", "POST"]),
            Route("/large", self.large),
            Route("/slow", self.slow, methods=["POST"]),
            Route("/api/live", self.feed.endpoint),
            metrics_route([]),
        ]

    async def who(self, request: Request) -> Response:
        return PlainTextResponse(request.scope[CLIENT])

    async def large(self, _: Request) -> Response:
        return Response(bytes(LARGE))

    async def slow(self, _: Request) -> Response:
        self.asked.set()
        await self.go.wait()
        return PlainTextResponse("answered")


@contextlib.asynccontextmanager
async def web(routes: Routes, listen: str = "127.0.0.1:0", **more: object) -> AsyncIterator[Web]:
    settings = ListeningSettings.model_validate({"web_listen": listen, **more})
    async with running_web(settings, routes) as served:
        yield served


def port_of(served: Web) -> int:
    return int(served.url.rpartition(":")[2])


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), WITHIN_S, source_address=(source, 0))


def ask(port: int, path: str, *more: str, method: str = "GET", source: str = "127.0.0.1") -> bytes:
    """Status line and headers of an answer; b'' if there is none."""
    with connect(port, source) as peer, contextlib.suppress(ConnectionError):
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *more]
        peer.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"\r\n\r\n" not in answer and (part := peer.recv(65536)):
            answer += part
        return answer.partition(b"\r\n\r\n")[0]
    return b""


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer else 0


def ended(peer: socket.socket) -> bool:
    """Whether a connection ends though nothing of it is read."""
    poll = select.poll()
    poll.register(peer, 0)  # errors and hang-ups only
    return bool(poll.poll(1e3 * WITHIN_S))


@contextlib.contextmanager
def crowd(port: int, count: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connect(port)) for _ in range(count)]
        for peer in peers:
            peer.sendall(said)
        yield peers


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = [sys.executable, "-m", "spikebottlenet.cli", "certs", str(folder), "--client", "cam"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def tls_settings(folder: Path) -> dict[str, object]:
    return {"tls_cert": f"{folder}/server.pem", "tls_key": f"{folder}/server.key"}


@pytest.mark.parametrize("more_to_say", [True, False], ids=["open", "half-closed"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_who_reads_no_answer_is_ended(tls: Path, secure: bool, more_to_say: bool) -> None:
    def greedy(port: int) -> bool:
        peer: socket.socket = connect(port)
        if secure:
            context = ssl.create_default_context(cafile=tls / "ca.pem")
            peer = context.wrap_socket(peer, server_hostname="127.0.0.1")
        with peer:
            peer.sendall(2 * b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            if not more_to_say:
                select.select([peer], [], [], WITHIN_S)  # the answer has begun
                peer.shutdown(socket.SHUT_WR)
            return ended(peer)

    more = tls_settings(tls) if secure else {}
    async with web(Pages(), silent_s=0.3, **more) as served:
        assert await asyncio.to_thread(greedy, port_of(served))


async def test_who_reads_slowly_has_all_of_it(tls: Path) -> None:
    def slow(port: int) -> int:
        context = ssl.create_default_context(cafile=tls / "ca.pem")
        with context.wrap_socket(connect(port), server_hostname="127.0.0.1") as peer:
            peer.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            count = 0
            while part := peer.recv(1 << 20):
                count += len(part)
                time.sleep(0.001)
            return count

    async with web(Pages(), **tls_settings(tls), handshake_s=0.5) as served:
        assert await asyncio.to_thread(slow, port_of(served)) > LARGE


async def test_one_address_leaves_places_to_others() -> None:
    def crowded(port: int) -> tuple[int, bytes]:
        with crowd(port, 200) as peers:
            readable, *_ = select.select(peers, [], [], 0)
            while len(readable) < 200 - 64:  # refused ones are closed
                readable, *_ = select.select(peers, [], [], WITHIN_S)
            return len(readable), ask(port, "/who", source="127.0.0.2")

    async with web(Pages()) as served:
        count, answer = await asyncio.to_thread(crowded, port_of(served))
        assert (count, status(answer)) == (136, 200)


async def test_a_handshake_that_does_not_end_holds_a_place_and_then_none(tls: Path) -> None:
    def crowded(port: int) -> int:
        with crowd(port, 100, said=b"\x16") as peers:
            closed: list[socket.socket] = []
            while len(closed) < 100:  # 36 at once, the others after handshake_s
                closed, *_ = select.select(peers, [], [], WITHIN_S)
            return len(closed)

    async with web(Pages(), **tls_settings(tls), handshake_s=0.5) as served:
        assert await asyncio.to_thread(crowded, port_of(served)) == 100
        context = ssl.create_default_context(cafile=tls / "ca.pem")

        def again() -> int:
            with urllib.request.urlopen(f"{served.url}/who", context=context) as reply:
                return reply.status

        assert await asyncio.to_thread(again) == 200


async def test_a_client_has_one_name_both_ways(tls: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = ssl.create_default_context(cafile=tls / "ca.pem")
    context.load_cert_chain(tls / "client.pem", tls / "client.key")

    def named(url: str) -> str:
        with urllib.request.urlopen(f"{url}/who", context=context) as reply:
            return reply.read().decode()

    async with web(Pages(), **tls_settings(tls), tls_client_ca=f"{tls}/ca.pem") as served:
        assert await asyncio.to_thread(named, served.url) == "certificate cam"
    assert caplog.records == []


class Exhausted(socket.socket):
    """A listener whose process has no descriptor left for the first visitor."""

    tries = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.tries += 1
        if self.tries == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_a_visitor_that_cannot_be_taken_now_is_taken_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("spikebottlenet.web.visitor._AGAIN_S", 0.0)
    with Exhausted() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        guard = Guard(tokens=None, context=None, only_here=True)
        site = await open_site(listener, Pages()({}), guard, ServerLimits(), Ending())
        port = listener.getsockname()[1]
        assert status(await asyncio.to_thread(ask, port, "/who")) == 200
        await site.close()
    assert [record.message for record in caplog.records] == ["visitors wait"]


async def test_headers_have_a_limit_however_they_come() -> None:
    async with web(Pages(), max_metadata_bytes=2048) as served:
        port = port_of(served)
        assert status(await asyncio.to_thread(ask, port, "/who", "X: " + 1500 * "a")) == 200
        assert status(await asyncio.to_thread(ask, port, "/who", "X: " + 2500 * "a")) == 431


async def test_no_answer_may_be_framed_and_refusals_are_counted(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text(entry_of("me", "secret").line)
    pages = Pages()
    async with web(pages, tokens=str(tmp_path / "tokens.txt")) as served:
        port = port_of(served)
        known = "Authorization: Bearer secret"
        for more in ((), (known,), (known, "Origin: http://other.example")):
            answer = await asyncio.to_thread(ask, port, "/who", *more)
            assert b"x-frame-options: DENY" in answer
            assert b"frame-ancestors 'none'" in answer
        assert pages.refused == {401: 1, 403: 1, 413: 0, 429: 0}


async def test_asking_for_the_head_of_a_feed_takes_no_place() -> None:
    pages = Pages()
    async with web(pages) as served:
        answer = await asyncio.to_thread(ask, port_of(served), "/api/live", method="HEAD")
        assert status(answer) == 200
        assert b"text/event-stream" in answer
        assert pages.feed.viewers == 0


@pytest.mark.parametrize("version", ["abc", "1.x", "1..0"])
async def test_a_scraper_that_asks_for_nonsense_gets_plain_text(version: str) -> None:
    async with web(Pages()) as served:
        accept = f"Accept: application/openmetrics-text; version={version}"
        answer = await asyncio.to_thread(ask, port_of(served), "/metrics", accept)
        assert status(answer) == 200
        assert b"content-type: text/plain" in answer


async def test_files_that_do_not_work_are_an_error_at_the_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("half a li")
    for files in ({"tokens": str(broken)}, {"tls_cert": str(broken), "tls_key": str(broken)}):
        with pytest.raises(ConfigError, match="broken"):
            async with web(Pages(), **files):
                pass


async def test_a_first_visit_that_fails_costs_the_later_ones_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spikebottlenet.web.server._AGAIN_S", 0.0)
    pages, visits = Pages(), 0

    def routes(refused: Refused) -> Sequence[Route]:
        nonlocal visits
        visits += 1
        if visits == 1:
            raise OSError("no memory just now")
        return pages(refused)

    async with web(routes) as served:
        assert await asyncio.to_thread(ask, port_of(served), "/who") == b""
        assert status(await asyncio.to_thread(ask, port_of(served), "/who")) == 200


async def test_what_was_taken_is_answered_before_the_end_and_watchers_go_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pages = Pages()
    async with web(pages) as served:
        port = port_of(served)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"data: ")
        taken = asyncio.create_task(asyncio.to_thread(ask, port, "/slow", method="POST"))
        await pages.asked.wait()
        draining = asyncio.create_task(served.drain(WITHIN_S))
        await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), WITHIN_S)  # the stream's end
        assert not draining.done()
        assert status(await asyncio.to_thread(ask, port, "/api/live")) == 503
        pages.go.set()
        await draining
        assert status(await taken) == 200
    assert await reader.read() == b""
    writer.close()
    assert caplog.records == []


async def test_a_page_that_stays_open_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ending = asyncio.timeout(WITHIN_S)
    async with ending, web(Pages()) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(served))
        writer.write(b"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"data: ")
    writer.close()
    assert caplog.records == []
