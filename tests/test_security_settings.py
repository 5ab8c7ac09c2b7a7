"""Settings of both ends of a guarded connection: every flag reaches what it names."""

from dataclasses import fields
from pathlib import Path

import pytest

from spikebottlenet.calling import CallingSettings
from spikebottlenet.daemon import DaemonSettings
from spikebottlenet.options import parse_options
from spikebottlenet.rpc.limits import ServerLimits
from spikebottlenet.rpc.security import PLAINTEXT, ServerSecurity


def parse(*flags: str, model=DaemonSettings):
    return parse_options(model, flags, prog="daemon", about="", example="")


def test_without_flags_nothing_is_guarded_and_limits_are_the_usual() -> None:
    settings = parse()
    assert settings.server_security() == ServerSecurity()
    assert settings.server_limits() == ServerLimits()
    assert parse(model=CallingSettings).channel_security() == PLAINTEXT


@pytest.mark.parametrize("field", fields(ServerLimits), ids=lambda field: field.name)
def test_every_limit_is_a_flag(field) -> None:
    value = field.default + 1234
    settings = parse(f"--{field.name.replace('_', '-')}", str(value))
    limits = settings.server_limits()
    assert getattr(limits, field.name) == value
    others = [name.name for name in fields(ServerLimits) if name.name != field.name]
    assert all(getattr(limits, name) == getattr(ServerLimits(), name) for name in others)


def test_files_of_a_server_and_of_a_client_are_flags() -> None:
    given = parse("--tls-cert", "a", "--tls-key", "b", "--tls-client-ca", "c", "--tokens", "d")
    security = given.server_security()
    assert (security.cert, security.key) == (Path("a"), Path("b"))
    assert (security.client_ca, security.tokens) == (Path("c"), Path("d"))
    flags = ("--cloud-ca", "a", "--cloud-cert", "b", "--cloud-key", "c", "--cloud-token-file", "d")
    calling = parse(*flags, model=CallingSettings).channel_security()
    assert (calling.ca, calling.cert, calling.key) == (Path("a"), Path("b"), Path("c"))
    assert calling.token_file == Path("d")


def test_a_switch_needs_no_value_and_can_be_turned_off_again(tmp_path: Path) -> None:
    config = tmp_path / "daemon.yaml"
    config.write_text("insecure: true\n")
    assert parse("--insecure").server_security().insecure
    assert parse("--config", str(config)).server_security().insecure
    assert not parse("--config", str(config), "--no-insecure").server_security().insecure
    assert parse("--cloud-insecure", model=CallingSettings).channel_security().insecure
