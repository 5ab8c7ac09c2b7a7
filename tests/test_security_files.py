"""Certificates and tokens on disk: the two commands, and daemons that use what they make."""

import asyncio
import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from typer.testing import CliRunner

from spikebottlenet.bundle import Bundle
from spikebottlenet.cli.__main__ import app
from spikebottlenet.errors import ConfigError
from spikebottlenet.rpc.security import ChannelSecurity, call_metadata
from spikebottlenet.rpc.tokens import TokenFile, parse_tokens, read_client_token, token_digest
from spikebottlenet.rpc.v1.coinference_pb2 import GetModelRequest, ModelPart
from tests.conftest import Start
from tests.door import ask, asking

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def run(*words: str | Path) -> str:
    """What a command prints; its own errors are raised."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def extension(path: Path, kind):
    return certificate(path).extensions.get_extension_for_class(kind).value


def test_certs_makes_a_ca_a_server_and_a_client(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    run("certs", folder, "--host", "cloud.example", "--host", "192.0.2.7", "--days", "5")
    names = extension(folder / "server.pem", x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["cloud.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    usages = x509.oid.ExtendedKeyUsageOID
    assert list(extension(folder / "server.pem", x509.ExtendedKeyUsage)) == [usages.SERVER_AUTH]
    assert list(extension(folder / "client.pem", x509.ExtendedKeyUsage)) == [usages.CLIENT_AUTH]
    assert extension(folder / "ca.pem", x509.BasicConstraints).ca
    for name in ("server", "client"):
        certificate(folder / f"{name}.pem").verify_directly_issued_by(
            certificate(folder / "ca.pem")
        )
        assert not extension(folder / f"{name}.pem", x509.BasicConstraints).ca
        made = certificate(folder / f"{name}.pem")
        assert 5 <= (made.not_valid_after_utc - made.not_valid_before_utc).days <= 6
    for key in folder.glob("*.key"):
        assert not stat.S_IMODE(key.stat().st_mode) & OTHERS, key.name
    assert len(list(folder.iterdir())) == 6


def test_certs_replaces_nothing_unless_told_to(tmp_path: Path) -> None:
    run("certs", tmp_path, "--host", "cloud.example", "--client", "camera-7")
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match="--renew"):
        run("certs", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == made
    said = run("certs", tmp_path, "--renew")
    assert "cloud.example" in said  # of the one before
    assert "camera-7" in said
    renewed = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    changed = {name for name in made if renewed[name] != made[name]}
    assert changed == {"server.pem", "server.key", "client.pem", "client.key"}
    run("certs", tmp_path, "--force")
    assert (tmp_path / "ca.pem").read_bytes() != made["ca.pem"]


def test_certs_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no CA to renew from"):
        run("certs", tmp_path, "--renew")
    with pytest.raises(ConfigError, match="wanted a name or an IP address"):
        run("certs", tmp_path / "tls", "--host", "a" * 300)
    run("certs", tmp_path / "one")
    run("certs", tmp_path / "two")
    (tmp_path / "one" / "ca.key").write_bytes((tmp_path / "two" / "ca.key").read_bytes())
    with pytest.raises(ConfigError, match="not the key of"):
        run("certs", tmp_path / "one", "--renew")


def test_a_token_is_printed_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    file = tmp_path / "tokens.txt"
    token = run("token", "new", "edge-1", "--file", file).strip()
    assert len(token) == 43  # 32 bytes in base64 without padding
    assert not stat.S_IMODE(file.stat().st_mode) & OTHERS
    assert file.read_text() == f"edge-1 sha256:{token_digest(token)}\n"
    other = run("token", "new", "edge-2", "--file", file).strip()
    assert other != token
    listed = run("token", "list", "--file", file)
    assert re.findall(r"^edge-\d", listed, re.MULTILINE) == ["edge-1", "edge-2"]
    assert not [secret for secret in (token, other) if secret in listed + file.read_text()]


def test_a_token_sent_to_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spikebottlenet.cli", "token", "new", "edge-1"]
    with (tmp_path / "edge-1.token").open("w") as file:
        file_of = ("--file", str(tmp_path / "tokens.txt"))
        subprocess.run([*command, *file_of], stdout=file, check=True, timeout=120)
    assert stat.S_IMODE((tmp_path / "edge-1.token").stat().st_mode) == 0o600


def test_tokens_are_added_and_removed_beside_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "tokens.txt"
    file.write_text("# cameras\n")
    old = run("token", "new", "edge-1", "--file", file).strip()
    known = TokenFile(file)
    assert known.name_of(old) == "edge-1"
    new = run("token", "new", "edge-1b", "--file", file).strip()
    assert (known.name_of(old), known.name_of(new)) == ("edge-1", "edge-1b")
    run("token", "remove", "edge-1", "--file", file)
    assert (known.name_of(old), known.name_of(new)) == (None, "edge-1b")
    assert file.read_text().startswith("# cameras\n")
    with pytest.raises(ConfigError, match="already"):
        run("token", "new", "edge-1b", "--file", file)
    with pytest.raises(ConfigError, match="has no token of"):
        run("token", "remove", "edge-9", "--file", file)
    with pytest.raises(ConfigError, match="wanted up to 63 letters"):
        run("token", "new", "two words", "--file", file)


@pytest.mark.parametrize(
    "line",
    [
        "edge-1",
        "edge-1 sha256:" + "0" * 63,
        "edge-1 sha256:" + "G" * 64,
        "edge-1 md5:" + "0" * 32,
        "edge-1 sha256:" + "0" * 64 + " more",
        "sha256:" + "0" * 64,
        "an-actual-secret-put-there-bare",
    ],
)
def test_a_bad_line_is_named_and_never_quoted(line: str) -> None:
    good = "edge-0 sha256:" + "0" * 64
    with pytest.raises(ConfigError, match=r"tokens\.txt: line 3") as refused:
        parse_tokens(f"# a comment\n{good}  # and another\n{line}\n", source="tokens.txt")
    assert line not in str(refused.value)


def test_a_clients_file_holds_one_token_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" abc-123 \n")
    assert read_client_token(file) == "abc-123"
    for bad in ("", "\n", "two words", "two\nlines", "umläut"):
        file.write_text(bad, encoding="utf-8")
        with pytest.raises(ConfigError, match="wanted it alone"):
            read_client_token(file)


@pytest.mark.parametrize("module", ["cloud_node", "edge_node"])
def test_a_daemon_on_a_public_address_without_a_guard_does_not_start(
    module: str, tmp_path: Path
) -> None:
    run("token", "new", "edge-1", "--file", tmp_path / "tokens.txt")
    run("certs", tmp_path / "tls")
    pair = ["--tls-cert", f"{tmp_path}/tls/server.pem", "--tls-key", f"{tmp_path}/tls/server.key"]
    for half in ([], pair, ["--tokens", f"{tmp_path}/tokens.txt"]):
        command = [sys.executable, "-m", module, "--listen", "0.0.0.0:0", *half]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2
        assert "--insecure" in done.stderr
        assert "--tls-cert" in done.stderr
        assert "serving on" not in done.stdout


async def test_a_guarded_daemon_serves_who_belongs_and_tells_no_secret(
    start: Start, bundle: Bundle, tmp_path: Path
) -> None:
    tls, file = tmp_path / "tls", tmp_path / "tokens.txt"
    run("certs", tls)
    token = run("token", "new", "edge-1", "--file", file).strip()
    kept = tmp_path / "token"
    kept.write_text(token)
    cloud = start(
        "cloud_node",
        *("--tls-cert", f"{tls}/server.pem", "--tls-key", f"{tls}/server.key"),
        *("--tls-client-ca", f"{tls}/ca.pem", "--tokens", f"{file}"),
        listen="0.0.0.0:0",
    )
    port = int(cloud.address.rpartition(":")[2])
    belongs = ChannelSecurity(
        ca=tls / "ca.pem", cert=tls / "client.pem", key=tls / "client.key", token_file=kept
    )
    async with asking(port, belongs) as stub:
        call = stub.GetModel(GetModelRequest(), metadata=call_metadata(belongs), timeout=30)
        parts: list[ModelPart] = [part async for part in call]
    assert json.loads(parts[0].manifest_json)["name"] == bundle.manifest.name
    wrong = (("authorization", "Bearer a-wrong-token-that-nobody-knows"),)
    assert await ask(port, belongs, metadata=wrong) == grpc.StatusCode.UNAUTHENTICATED
    assert await ask(port, ChannelSecurity(ca=tls / "ca.pem")) == grpc.StatusCode.UNAVAILABLE
    assert await ask(port) == grpc.StatusCode.UNAVAILABLE
    title = Path(f"/proc/{cloud.process.pid}/cmdline").read_bytes().decode()
    assert await asyncio.to_thread(cloud.stop) == 0
    said = cloud.log.read_text() + cloud.start_line + title
    assert "refused a call" in said
    assert "Traceback" not in said
    assert all(json.loads(line) for line in cloud.log.read_text().splitlines())
    private = [path.read_text().split("\n")[1] for path in tls.glob("*.key")]
    for secret in (token, token_digest(token), "a-wrong-token", *private):
        assert secret not in said
