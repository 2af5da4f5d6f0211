"""An authority for tests: certificates of people and servers, revocation lists."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOUR = datetime.timedelta(hours=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def der(value) -> bytes:
    return value.public_bytes(serialization.Encoding.DER)


def pem(value) -> bytes:
    return value.public_bytes(serialization.Encoding.PEM)


class Authority:
    """A self-signed authority on P-256."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
                               x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "encipher_only", "decipher_only"), False,
        )
        self.certificate = (
            self._builder(self.name, self.key.public_key(), -HOUR, 1000 * HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def _builder(self, subject, key, start, end, serial=None):
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
            .public_key(key).serial_number(serial or x509.random_serial_number())
            .not_valid_before(now() + start).not_valid_after(now() + end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )

    def issue(
        self, name: str, *, email: str | None = None, first: str = "", last: str = "",
        address: str | None = None, serial: int | None = None, end=1000 * HOUR, start=-HOUR,
        with_key: bool = False,
    ):
        """A certificate of a person (email) or a server (IP address); with its key on demand."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if first:
            parts += [x509.NameAttribute(NameOID.GIVEN_NAME, first),
                      x509.NameAttribute(NameOID.SURNAME, last)]
        builder = self._builder(x509.Name(parts), key.public_key(), start, end, serial)
        others = []
        if email:
            others.append(x509.RFC822Name(email))
        if address:
            others.append(x509.IPAddress(ipaddress.ip_address(address)))
        if others:
            builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return (certificate, key) if with_key else certificate

    def server(self, address: str, **more) -> bytes:
        """Certificate and key of a TLS server, PEM."""
        certificate, key = self.issue("directory", address=address, with_key=True, **more)
        return pem(certificate) + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def crl(self, *revoked: int, start=-HOUR, end=24 * HOUR):
        """A revocation list."""
        builder = (
            x509.CertificateRevocationListBuilder().issuer_name(self.name)
            .last_update(now() + start).next_update(now() + end)
        )
        for serial in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(serial)
                .revocation_date(now() - HOUR).build()
            )
        return builder.sign(self.key, hashes.SHA256())
