"""What every CMS of ours is made of (RFC 5652, RFC 5035): ASN.1, read and written as DER alone."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes


def oid(text: str) -> x509.ObjectIdentifier:
    return x509.ObjectIdentifier(text)


DATA, SIGNED_DATA = oid("1.2.840.113549.1.7.1"), oid("1.2.840.113549.1.7.2")
CONTENT_TYPE, MESSAGE_DIGEST = oid("1.2.840.113549.1.9.3"), oid("1.2.840.113549.1.9.4")
SIGNING_TIME = oid("1.2.840.113549.1.9.5")
SIGNING_CERTIFICATE = oid("1.2.840.113549.1.9.16.2.47")


@asn1.sequence
class Plain:
    """An AlgorithmIdentifier without parameters."""

    algorithm: x509.ObjectIdentifier


@asn1.sequence
class WithNull:
    algorithm: x509.ObjectIdentifier
    parameters: asn1.Null


@asn1.sequence
class Attribute:
    type: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class EssCertificate:
    digest: bytes  # the default is SHA-256


@asn1.sequence
class SigningCertificate:
    certificates: list[EssCertificate]


@asn1.sequence
class IssuerAndSerial:
    issuer: asn1.TLV
    serial: int


def issuer_and_serial(certificate: x509.Certificate) -> IssuerAndSerial:
    """How a message names a certificate."""
    return IssuerAndSerial(issuer=tlv(certificate.issuer.public_bytes()),
                           serial=certificate.serial_number)


@asn1.sequence
class Attributes:
    """What stands for a SET OF that is no field: X.690 encodes both alike but for the tag."""

    attributes: asn1.SetOf[Attribute]


def encoded(value: Any) -> bytes:
    return asn1.encode_der(value)


def tlv(der: bytes) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, der)


def length(size: int) -> bytes:
    """A DER length."""
    if size < 0x80:
        return bytes((size,))
    data = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(data),)) + data


def moment_of(value: asn1.TLV) -> datetime.datetime:
    kind = asn1.UTCTime if value.tag_bytes == b"\x17" else asn1.GeneralizedTime
    found: asn1.UTCTime | asn1.GeneralizedTime = value.parse(kind)
    return found.as_datetime().astimezone(datetime.UTC)


def time_now() -> asn1.UTCTime | asn1.GeneralizedTime:
    """The moment now, as RFC 5652 section 11.3 wants it written."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return asn1.UTCTime(now) if now.year < 2050 else asn1.GeneralizedTime(now)


def signing_certificate(certificate: x509.Certificate) -> SigningCertificate:
    """The attribute that names the signer's certificate by its SHA-256 (RFC 5035)."""
    digest = certificate.fingerprint(hashes.SHA256())
    return SigningCertificate(certificates=[EssCertificate(digest=digest)])


def encode_attributes(values: Mapping[x509.ObjectIdentifier, Any]) -> bytes:
    """Return signed attributes, each with one value, as the SET OF that is signed."""
    return asn1.encode_der(asn1.SetOf([
        Attribute(type=kind, values=asn1.SetOf([tlv(asn1.encode_der(value))]))
        for kind, value in values.items()
    ]))  # fmt: skip


def parse_attributes(
    der: bytes, wrong: Callable[[str], Exception]
) -> dict[x509.ObjectIdentifier, asn1.TLV]:
    """Return the attributes of a field [0] IMPLICIT, each with its one value.

    wrong: makes what is raised; ValueError for bad ASN.1."""
    if der[:1] != b"\xa0":
        raise wrong("it has no signed attributes")
    inner = b"\x31" + der[1:]
    if len(inner) >= 1 << 16:
        raise wrong("its attributes are too long")
    found = {}
    wrapped = b"\x30" + length(len(inner)) + inner
    for attribute in asn1.decode_der(Attributes, wrapped).attributes.as_list():
        (found_value,) = attribute.values.as_list()
        if attribute.type in found:
            raise wrong("an attribute stands twice")
        found[attribute.type] = found_value
    return found
