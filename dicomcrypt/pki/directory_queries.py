"""What is asked of a directory, and whether an answer is what was asked for.

A directory is not believed: what it sends is parsed within bounds, and a certificate of someone
else is refused. That a certificate comes from a directory says nothing about trust: its chain is
checked like that of any other.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ..errors import DamagedError, DicomcryptError, MissingExtraError, UsageError
from ..keys.extensions import extension, is_authority, key_identifier
from . import ldap_client as ldap
from .files import PARSE_ERRORS

CERTIFICATE, CA_CERTIFICATE, CRL = (
    "userCertificate;binary", "cACertificate;binary", "certificateRevocationList;binary",
)
#: Bounds of an answer: entries, values, bytes of a value, bytes in all.
MOST_ENTRIES, MOST_VALUES = 500, 1000
VALUE_BYTES = {"certificate": 1 << 16, "crl": 1 << 24, "attribute certificate": 1 << 16}
ANSWER_BYTES = {"certificate": 1 << 21, "crl": 1 << 25, "attribute certificate": 1 << 21}


@dataclasses.dataclass(frozen=True)
class Query:
    """What is looked for: `what` in words, `kind` of value, the filters to try until one finds
    what fits, and `fits`, which looks at a parsed value (`files.PARSE_ERRORS` mean: malformed);
    `other` says what a value is that does not fit."""

    what: str
    kind: str
    key: str
    filters: tuple[ldap.Filter, ...]
    fits: Callable[[Any], bool]
    attribute: str = CERTIFICATE
    other: str = "not what was asked for"

    @property
    def attributes(self) -> list[str]:
        """What to ask for: some servers leave ";binary" out."""
        return list(dict.fromkeys((self.attribute, plain(self.attribute))))


def plain(attribute: str) -> str:
    """The attribute without options; as a filter it stands for all of them (RFC 4512 2.5)."""
    return attribute.partition(";")[0]


def _text(value: str, what: str) -> str:
    value = value.strip()
    if not value or len(value) > 256 or not value.isprintable():
        raise UsageError(f"{what}: give printable text of at most 256 characters")
    return value


def by_email(address: str) -> Query:
    """The certificates of an e-mail address; raises UsageError for what cannot be one."""
    address = _text(address, "e-mail address")
    name, _, domain = address.rpartition("@")
    if not name or not domain or not address.isascii() or " " in address:
        raise UsageError(f"{address!r} is not an e-mail address (in ASCII)")
    return Query(
        f"certificate of {address}", "certificate", f"email {address.lower()}",
        (ldap.equal("mail", address),),
        lambda certificate: address.lower() in emails(certificate),
        other="of somebody else",
    )


def by_name(name: str) -> Query:
    """The certificates of a person or thing by its common name, or first and last name."""
    name = " ".join(_text(name, "name").split())
    first, _, last = name.rpartition(" ")
    wanted = [ldap.equal("cn", name), ldap.equal("displayName", name)]
    if first:
        wanted.append(ldap.all_of(ldap.equal("givenName", first), ldap.equal("sn", last)))
    return Query(
        f"certificate of {name}", "certificate", f"name {name.lower()}",
        (ldap.any_of(*wanted),), lambda certificate: name.lower() in names(certificate),
        other="of somebody else",
    )


def by_serial(issuer: x509.Name, serial: int) -> Query:
    """The certificate that an issuer gave a serial number (RFC 4523 2.2 where the server knows
    it, all certificates otherwise)."""
    quoted = issuer.rfc4514_string().replace('"', '""')
    exact = f'{{ serialNumber {int(serial)}, issuer rdnSequence:"{quoted}" }}'
    return Query(
        f"certificate {serial:x} of its issuer", "certificate",
        f"serial {serial:x} {issuer.public_bytes().hex()}",
        (ldap.match("userCertificate", "certificateExactMatch", exact),
         ldap.present(plain(CERTIFICATE))),
        lambda c: c.serial_number == serial and c.issuer == issuer,
    )  # fmt: skip


def by_key_identifier(identifier: bytes) -> Query:
    """The certificates with a subject key identifier; all of a directory's are looked at."""
    return Query(
        f"certificate with key identifier {identifier.hex()}", "certificate",
        f"key {identifier.hex()}", (ldap.present(plain(CERTIFICATE)),),
        lambda certificate: key_identifier(certificate.extensions) == identifier,
    )


def authorities() -> Query:
    """The certificates of all authorities."""
    return Query("certificate of an authority", "certificate", "authorities",
                 (ldap.present(plain(CA_CERTIFICATE)),),
                 lambda certificate: is_authority(certificate.extensions), CA_CERTIFICATE,
                 "not of an authority")


def revocation_lists(issuer: x509.Name | None = None) -> Query:
    """The revocation lists of an issuer, or of all."""
    key = issuer.public_bytes().hex() if issuer is not None else ""
    return Query("revocation list", "crl", f"crl {key}", (ldap.present(plain(CRL)),),
                 lambda crl: issuer is None or crl.issuer == issuer, CRL, "of another issuer")


def attribute_certificates(holder: x509.Certificate, attribute: str) -> Query:
    """The attribute certificates (RFC 5755) that name a certificate, by issuer and serial, as
    their holder; they are kept under an attribute of octet string syntax."""
    return Query(
        "attribute certificate", "attribute certificate",
        f"attribute {holder.serial_number:x} {holder.issuer.public_bytes().hex()}",
        (ldap.present(attribute),), lambda value: _holds(value, holder), attribute,
        "of another holder",
    )


# ---- what comes back --------------------------------------------------------


def parse(kind: str, data: bytes) -> Any:
    """Parse a value: x509.Certificate, x509.CertificateRevocationList, or for attribute
    certificates asn1crypto's. Raises DamagedError."""
    if len(data) > VALUE_BYTES[kind]:
        raise DamagedError(f"{kind} from a directory is too large")
    try:
        if kind == "attribute certificate":
            try:
                from asn1crypto.cms import AttributeCertificateV2
            except ImportError:
                raise MissingExtraError(
                    "attribute certificates need asn1crypto: pip install 'dicomcrypt[ldap]'"
                ) from None
            parsed = AttributeCertificateV2.load(data, strict=True)
            parsed["ac_info"]["holder"].native  # noqa: B018  parsed when looked at
            return parsed
        if kind == "crl":
            return x509.load_der_x509_crl(data)
        return x509.load_der_x509_certificate(data)
    except (ValueError, TypeError):
        raise DamagedError(f"{kind} from a directory is malformed") from None


def encode(parsed: Any) -> bytes:
    """Return the DER of what `parse` gave."""
    if hasattr(parsed, "public_bytes"):
        der: bytes = parsed.public_bytes(Encoding.DER)
    else:
        der = parsed.dump()
    return der


def sift(
    query: Query, values: Sequence[bytes], check: Callable[[Any], Any] | None,
    allow_stale: bool = False,
) -> tuple[list[Any], dict[str, int], list[bytes]]:
    """Return what fits and passes `check`, each once; how many were refused for which reason;
    and the values that fit, whatever `check` thinks of them today."""
    found: dict[bytes, Any] = {}
    fitting: dict[bytes, None] = {}
    refused: dict[str, int] = {}

    def refuse(why: str) -> None:
        refused[why] = refused.get(why, 0) + 1

    for data in values:
        try:
            parsed = parse(query.kind, data)
            if not query.fits(parsed):
                refuse(query.other)
                continue
            if query.kind == "crl" and not allow_stale and expired(parsed):
                refuse("expired")
                continue
        except (DamagedError, *PARSE_ERRORS):
            refuse("malformed")
            continue
        fitting[data] = None
        if check is not None and query.kind == "certificate":
            try:
                check(parsed)
            except DicomcryptError as error:
                refuse(str(error))
                continue
        found[data] = parsed
    return list(found.values()), refused, list(fitting)


def expired(crl: x509.CertificateRevocationList) -> bool:
    """Whether a newer list should be there by now."""
    until = crl.next_update_utc
    return until is not None and until <= datetime.datetime.now(datetime.UTC)


def emails(certificate: x509.Certificate) -> set[str]:
    """The e-mail addresses of a certificate in lower case: of its alternative names, or of its
    subject if it has none (RFC 5280 4.2.1.6). Raises one of `files.PARSE_ERRORS`."""
    other = extension(certificate.extensions, x509.SubjectAlternativeName)
    found = other.get_values_for_type(x509.RFC822Name) if other is not None else []
    told: list[Any] = found or [
        a.value for a in certificate.subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS)
    ]
    return {str(address).lower() for address in told}


def names(certificate: x509.Certificate) -> set[str]:
    """The names of a certificate's subject in lower case: common name, first and last name."""
    def values(oid: x509.ObjectIdentifier) -> list[str]:
        return [str(a.value) for a in certificate.subject.get_attributes_for_oid(oid)]

    found = set(values(x509.NameOID.COMMON_NAME))
    found |= {
        f"{first} {last}" for first in values(x509.NameOID.GIVEN_NAME)
        for last in values(x509.NameOID.SURNAME)
    }
    return {" ".join(name.split()).lower() for name in found}


def _holds(value: Any, holder: x509.Certificate) -> bool:
    """Whether an attribute certificate names a certificate as its holder (RFC 5755 4.2.2)."""
    base = value["ac_info"]["holder"]["base_certificate_id"]
    if not base.native or int(base["serial"].native) != holder.serial_number:
        return False
    issuer = holder.issuer.public_bytes()
    return any(
        name.name == "directory_name" and name.chosen.untag().dump() == issuer
        for name in base["issuer"]
    )
