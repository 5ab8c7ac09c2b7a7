"""A development CA: it signs certificates of servers and clients."""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spikebottlenet.errors import ConfigError

_CA_DAYS = 3650
_CLOCK_SKEW = datetime.timedelta(hours=1)  # a device whose clock is a little behind
_MAX_NAME = 64  # letters of a common name (X.520)


class Signed(NamedTuple):
    """A certificate and its key; with a CA's, others are signed."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class PemFiles(NamedTuple):
    """What goes into two files."""

    certificate: bytes
    key: bytes


class Names(NamedTuple):
    """Whom a certificate is for."""

    name: str
    hosts: list[str]


def new_authority(name: str = "SpikeBottleNet development CA") -> Signed:
    """A self-signed CA for ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = (
        _builder(subject, subject, key.public_key(), datetime.timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return Signed(builder.sign(key, hashes.SHA256()), key)


def read_authority(folder: Path) -> Signed:
    """The CA in a folder.

    Raises:
        ConfigError: there is none, or its files do not belong together.
    """
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{folder} holds no CA to renew from ({error}): leave --renew out to make one"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise ConfigError(f"{folder / 'ca.key'} is not the key of ca.pem: restore the right one")
    return Signed(certificate, key)


def issue(
    authority: Signed,
    name: str,
    *,
    hosts: Sequence[str],
    lasts: datetime.timedelta,
    since: datetime.datetime | None = None,
) -> Signed:
    """A certificate for a server (with ``hosts``) or a client (without).

    Raises:
        ConfigError: a name that cannot stand in a certificate.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    role = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    alternatives = [_alternative(host) for host in hosts]
    builder = (
        _builder(
            _subject(name), authority.certificate.subject, key.public_key(), lasts, since=since
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([role]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Signed(builder.sign(authority.key, hashes.SHA256()), key)


def names_in(path: Path) -> Names:
    """Whom a certificate on disk is for; nobody if there is none."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return Names("", [])
    name = str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names(name, [])
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return Names(name, found.get_values_for_type(x509.DNSName) + addresses)


def _subject(name: str) -> x509.Name:
    if not 0 < len(name) <= _MAX_NAME:
        raise ConfigError(f"name has {len(name)} letters, wanted 1 to {_MAX_NAME}")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        pass
    try:
        return x509.DNSName(host.encode("idna").decode())
    except (UnicodeError, ValueError) as error:
        raise ConfigError(f"host is {host!r}, wanted a name or an IP address, no port") from error


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    lasts: datetime.timedelta,
    *,
    since: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    now = since or datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def pem_files(signed: Signed) -> PemFiles:
    """Both as they stand in files, the key without a password."""
    pem = serialization.Encoding.PEM
    key = signed.key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return PemFiles(signed.certificate.public_bytes(pem), key)
