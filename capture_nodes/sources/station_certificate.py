"""The station's own TLS certificate: made on its own machine, for its own names and addresses, never shared.

Browsers give headset and microphone only to pages they hold for secure; a certificate that nobody signed is
accepted once by hand on the headset.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from capture_nodes.sources.pairing import write_private
from capture_nodes.sources.source import SourceError

# What browsers accept at most.
_VALID = datetime.timedelta(days=397)
_RENEW_BEFORE = datetime.timedelta(days=30)
_MARGIN = datetime.timedelta(days=1)


def station_certificate(
    folder: Path, names: Sequence[str], addresses: Sequence[object], now: datetime.datetime | None = None
) -> tuple[Path, Path]:
    """Files of certificate and key (PEM) in `folder`, made anew where they are missing, do not name all of
    `names` and `addresses`, or end within a month. Raises `SourceError` where that cannot be done.
    """
    now = now or datetime.datetime.now(datetime.timezone.utc)
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    try:
        if not _is_good(certificate_file, key_file, names, addresses, now):
            certificate, key = _made(names, addresses, now)
            write_private(key_file, key)
            write_private(certificate_file, certificate)
    except OSError as error:
        raise SourceError(f"no certificate can be kept in {folder}: {error}") from None
    return certificate_file, key_file


def server_context(certificate_file: Path, key_file: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise SourceError(f"certificate {certificate_file} cannot be used: {error}; delete it") from None
    return context


def fingerprint(certificate_file: Path) -> str:
    """SHA-256 as browsers show it, to compare by eye."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _made(names: Sequence[str], addresses: Sequence[object], now: datetime.datetime) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"teleop_capture {names[-1]}"[:64])])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(str(address))) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _MARGIN)
        .not_valid_after(now + _VALID - _MARGIN)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def _is_good(
    certificate_file: Path,
    key_file: Path,
    names: Sequence[str],
    addresses: Sequence[object],
    now: datetime.datetime,
) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    if not certificate_file.is_file() or not key_file.is_file():
        return False
    try:
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        there = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return False
    named = set(there.get_values_for_type(x509.DNSName))
    reached = {str(address) for address in there.get_values_for_type(x509.IPAddress)}
    der, spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return (
        certificate.public_key().public_bytes(der, spki) == key.public_key().public_bytes(der, spki)
        and _end_of(certificate) - now > _RENEW_BEFORE
        and set(names) <= named
        and {str(address) for address in addresses} <= reached
    )


def _end_of(certificate: Any) -> datetime.datetime:
    # Before cryptography 42 there is only the one without a time zone.
    end = getattr(certificate, "not_valid_after_utc", None)
    if end is None:
        end = certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)
    return cast(datetime.datetime, end)
