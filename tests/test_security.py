"""Who gets in: TLS, mutual TLS and tokens, against a real server on a real socket."""

import asyncio
import datetime
import socket
import ssl
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from spikebottlenet.errors import ConfigError
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.security import (
    ChannelSecurity,
    ServerSecurity,
    call_metadata,
    check_address,
    is_loopback,
)
from spikebottlenet.rpc.tokens import entry_of, new_token
from spikebottlenet.rpc.v1.coinference_pb2 import InferRequest, StreamRequest
from tests.door import DAY, Certificates, ask, asking, echo_server, name_of

OK = grpc.StatusCode.OK
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Tokens:
    """A token file, and what its clients keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "tokens.txt"
        self.lines: dict[str, str] = {}
        self.write()

    def add(self, name: str) -> ChannelSecurity:
        token = new_token()
        self.lines[name] = entry_of(name, token).line
        self.write()
        kept = self.folder / f"{name}.token"
        kept.write_text(token + "\n")
        return ChannelSecurity(token_file=kept)

    def remove(self, name: str) -> None:
        del self.lines[name]
        self.write()

    def write(self) -> None:
        self.file.write_text("# who may call\n" + "".join(f"{x}\n" for x in self.lines.values()))


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Certificates(folder)


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path)


async def test_only_a_known_token_gets_in(tokens: Tokens) -> None:
    known = tokens.add("edge-1")
    stranger = Tokens(tokens.folder / "..").add("stranger")
    async with echo_server(ServerSecurity(tokens=tokens.file)) as serving:
        assert await ask(serving.port, known) == OK
        assert await ask(serving.port) == UNAUTHENTICATED
        assert await ask(serving.port, stranger) == UNAUTHENTICATED
        for header in ("", "Bearer", "Bearer ", "Basic eDp5", "x" * 4000):
            code = await ask(serving.port, metadata=(("authorization", header),))
            assert code == UNAUTHENTICATED, header
        assert await name_of(serving.port, known) == "token edge-1"


async def test_a_refusal_says_what_to_do(tokens: Tokens) -> None:
    security = ServerSecurity(tokens=tokens.file)
    async with echo_server(security) as serving, asking(serving.port) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(stub.Stream()))
    assert refused.value.code() == UNAUTHENTICATED
    assert "spikebottlenet token new" in refused.value.details()


async def test_tokens_are_rotated_while_the_server_runs(tokens: Tokens) -> None:
    old = tokens.add("edge-1")
    async with echo_server(ServerSecurity(tokens=tokens.file)) as serving:
        new = tokens.add("edge-1b")
        assert [await ask(serving.port, one) for one in (old, new)] == [OK, OK]
        tokens.remove("edge-1")
        assert [await ask(serving.port, one) for one in (old, new)] == [UNAUTHENTICATED, OK]


async def test_a_token_that_is_removed_ends_its_open_stream(tokens: Tokens) -> None:
    known = tokens.add("edge-1")
    security = ServerSecurity(tokens=tokens.file)
    async with echo_server(security) as serving, asking(serving.port, known) as stub:
        call = stub.Stream(metadata=call_metadata(known), timeout=10)
        await call.write(StreamRequest(sequence=1))
        assert (await call.read()).prediction.sequence == 1
        tokens.remove("edge-1")
        await call.write(StreamRequest(sequence=2))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
    assert refused.value.code() == UNAUTHENTICATED


async def test_a_bad_edit_of_the_token_file_locks_nobody_out(tokens: Tokens, caplog) -> None:
    known = tokens.add("edge-1")
    async with echo_server(ServerSecurity(tokens=tokens.file)) as serving:
        bare = new_token()
        tokens.file.write_text(f"edge-1 {bare}\n")
        assert await ask(serving.port, known) == OK
        tokens.file.unlink()
        assert await ask(serving.port, known) == OK
    said = [record for record in caplog.records if "kept the old" in record.getMessage()]
    assert len(said) == 2
    assert bare not in caplog.text + str([vars(record) for record in caplog.records])


async def test_health_is_for_everyone_and_reflection_is_not(tokens: Tokens) -> None:
    async with echo_server(ServerSecurity(tokens=tokens.file)) as serving:
        line = make_channel(f"127.0.0.1:{serving.port}", max_message_bytes=1 << 20)
        async with line:
            health = health_pb2_grpc.HealthStub(line)
            reply = await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            stub = reflection_pb2_grpc.ServerReflectionStub(line)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await anext(aiter(stub.ServerReflectionInfo(iter([request]), timeout=10)))

    assert refused.value.code() == UNAUTHENTICATED


async def test_tls_lets_in_those_who_trust_its_ca(certificates: Certificates) -> None:
    async with echo_server(certificates.serving) as serving:
        assert await ask(serving.port, ChannelSecurity(ca=certificates.ca)) == OK
        assert await ask(serving.port) == UNAVAILABLE  # plain text to a TLS port


async def test_tls_to_a_plain_port_fails(certificates: Certificates) -> None:
    async with echo_server() as serving:
        assert await ask(serving.port, ChannelSecurity(ca=certificates.ca)) == UNAVAILABLE


async def test_a_server_that_another_ca_signed_is_not_trusted(
    certificates: Certificates, tmp_path: Path
) -> None:
    other = Certificates(tmp_path)
    async with echo_server(certificates.serving) as serving:
        assert await ask(serving.port, ChannelSecurity(ca=other.ca)) == UNAVAILABLE


async def test_a_server_for_another_host_is_not_trusted(certificates: Certificates) -> None:
    certificates.server(hosts=["elsewhere.example"])
    async with echo_server(certificates.serving) as serving:
        assert await ask(serving.port, ChannelSecurity(ca=certificates.ca)) == UNAVAILABLE


async def test_an_expired_server_is_not_trusted(certificates: Certificates) -> None:
    certificates.server(since=datetime.datetime.now(datetime.UTC) - 3 * DAY)
    async with echo_server(certificates.serving) as serving:
        assert await ask(serving.port, ChannelSecurity(ca=certificates.ca)) == UNAVAILABLE


async def test_mutual_tls_wants_a_valid_certificate_of_its_ca(
    certificates: Certificates, tmp_path: Path
) -> None:
    other = Certificates(tmp_path)
    of_another_ca = ChannelSecurity(
        ca=certificates.ca, cert=other.client_cert, key=other.client_key
    )
    async with echo_server(certificates.mutual) as serving:
        assert await ask(serving.port, certificates.client_security) == OK
        assert await name_of(serving.port, certificates.client_security) == "certificate camera-7"
        assert await ask(serving.port, ChannelSecurity(ca=certificates.ca)) == UNAVAILABLE
        assert await ask(serving.port, of_another_ca) == UNAVAILABLE
        certificates.client("camera-7", since=datetime.datetime.now(datetime.UTC) - 3 * DAY)
        assert await ask(serving.port, certificates.client_security) == UNAVAILABLE


async def test_a_server_certificate_is_no_client_certificate(certificates: Certificates) -> None:
    as_client = ChannelSecurity(ca=certificates.ca, cert=certificates.cert, key=certificates.key)
    async with echo_server(certificates.mutual) as serving:
        assert await ask(serving.port, as_client) == UNAVAILABLE


async def test_tls_and_tokens_together_name_the_token(
    certificates: Certificates, tokens: Tokens
) -> None:
    token_file = tokens.add("edge-1").token_file
    files = certificates
    both = ServerSecurity(cert=files.cert, key=files.key, client_ca=files.ca, tokens=tokens.file)
    known = ChannelSecurity(
        ca=files.ca, cert=files.client_cert, key=files.client_key, token_file=token_file
    )
    async with echo_server(both) as serving:
        assert await name_of(serving.port, known) == "token edge-1"
        assert await ask(serving.port, files.client_security) == UNAUTHENTICATED
        no_certificate = ChannelSecurity(ca=files.ca, token_file=token_file)
        assert await ask(serving.port, no_certificate) == UNAVAILABLE


def served_certificate(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return shown


async def test_a_certificate_is_renewed_without_a_restart(certificates: Certificates) -> None:
    trusting = ChannelSecurity(ca=certificates.ca)
    server = echo_server(certificates.serving)
    async with server as serving, asking(serving.port, trusting) as kept_open:
        await kept_open.Infer(InferRequest(), timeout=10)
        first = await asyncio.to_thread(served_certificate, serving.port)
        assert await asyncio.to_thread(served_certificate, serving.port) == first
        certificates.server()
        for _ in range(3):
            assert await asyncio.to_thread(served_certificate, serving.port) != first
            assert await ask(serving.port, trusting) == OK
        await kept_open.Infer(InferRequest(), timeout=10)


async def test_half_a_renewal_keeps_the_old_certificate(certificates: Certificates, caplog) -> None:
    trusting = ChannelSecurity(ca=certificates.ca)
    async with echo_server(certificates.serving) as serving:
        before = await asyncio.to_thread(served_certificate, serving.port)
        old_key = certificates.key.read_bytes()
        certificates.server()
        new_key = certificates.key.read_bytes()
        certificates.key.write_bytes(old_key)
        assert await ask(serving.port, trusting) == OK
        assert await asyncio.to_thread(served_certificate, serving.port) == before
        certificates.key.write_bytes(new_key)
        assert await ask(serving.port, trusting) == OK
        assert await asyncio.to_thread(served_certificate, serving.port) != before
    said = [record.getMessage() for record in caplog.records]
    assert said.count("kept the old content") == 1
    assert "PRIVATE" not in caplog.text


async def test_a_new_client_ca_counts_without_a_restart(
    certificates: Certificates, tmp_path: Path
) -> None:
    other = Certificates(tmp_path)
    newcomer = ChannelSecurity(ca=certificates.ca, cert=other.client_cert, key=other.client_key)
    trusted = certificates.folder / "trusted.pem"
    trusted.write_bytes(certificates.ca.read_bytes())
    security = ServerSecurity(cert=certificates.cert, key=certificates.key, client_ca=trusted)
    async with echo_server(security) as serving:
        assert await ask(serving.port, newcomer) == UNAVAILABLE
        trusted.write_bytes(certificates.ca.read_bytes() + other.ca.read_bytes())
        assert await ask(serving.port, newcomer) == OK
        assert await ask(serving.port, certificates.client_security) == OK


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1:50061", True),
        ("localhost:0", True),
        ("[::1]:50061", True),
        ("127.8.8.8:1", True),
        ("unix:socket", True),
        ("dns:///localhost:1", True),
        ("0.0.0.0:50061", False),
        ("[::]:50061", False),
        ("[::ffff:0.0.0.0]:1", False),
        ("192.0.2.7:50061", False),
        ("[2001:db8::1]:50061", False),
        (":50061", False),
        ("50061", False),
        ("no-such-name.invalid:1", False),
        ("ipv4:127.0.0.1:1,0.0.0.0:1", False),
    ],
)
def test_an_address_is_this_machines_own_or_not(address: str, own: bool) -> None:
    assert is_loopback(address) == own


def test_other_machines_are_served_with_tls_and_a_name_only(certificates: Certificates) -> None:
    pair = {"cert": certificates.cert, "key": certificates.key}
    anywhere = "0.0.0.0:50061"
    check_address("127.0.0.1:50061", ServerSecurity())
    check_address(anywhere, ServerSecurity(insecure=True))
    check_address(anywhere, ServerSecurity(**pair, tokens=Path("tokens.txt")))
    check_address(anywhere, ServerSecurity(**pair, client_ca=certificates.ca))
    for security in (
        ServerSecurity(),
        ServerSecurity(**pair),
        ServerSecurity(tokens=Path("tokens.txt")),
    ):
        with pytest.raises(ConfigError, match=r"--tls-cert FILE --tls-key FILE, and --tokens"):
            check_address(anywhere, security)


async def test_half_a_setup_is_said_at_the_start(
    certificates: Certificates, tokens: Tokens
) -> None:
    files, other = certificates, certificates.client_key
    for security, words in (
        (ServerSecurity(cert=files.cert), "tls_cert is set and tls_key is not"),
        (ServerSecurity(key=files.key), "tls_key is set and tls_cert is not"),
        (ServerSecurity(client_ca=files.ca), "without TLS"),
        (ServerSecurity(cert=files.cert, key=other), "not a certificate and its key"),
        (ServerSecurity(cert=files.folder / "no.pem", key=files.key), "cannot read"),
        (ServerSecurity(tokens=files.folder / "no.txt"), "cannot read"),
        (ServerSecurity(tokens=files.cert), "line 1 is not"),
        (ServerSecurity(cert=files.cert, key=files.key, client_ca=files.key), "no CA certificates"),
    ):
        with pytest.raises(ConfigError, match=words):
            async with echo_server(security):
                pass


def test_a_token_never_leaves_in_plain_text_unasked(tokens: Tokens, certificates) -> None:
    known = tokens.add("edge-1")
    with pytest.raises(ConfigError, match="plain text"):
        make_channel("192.0.2.7:50061", max_message_bytes=1024, security=known)
    security = ChannelSecurity(cert=certificates.client_cert, key=certificates.client_key)
    with pytest.raises(ConfigError, match="client certificate is set without TLS"):
        make_channel("127.0.0.1:1", max_message_bytes=1024, security=security)
