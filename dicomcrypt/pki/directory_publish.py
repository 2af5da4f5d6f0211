"""Certificates and revocation lists put into an LDAP directory.

People get an `inetOrgPerson` named by their e-mail address, authorities an `organizationalRole`
with `pkiCA` named by their common name (RFC 4523), unless the directory has an entry for them
already. Doing it twice does no harm. It needs a log-in, and TLS.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cryptography import x509

from ..errors import DamagedError, UsageError
from ..keys.extensions import is_authority
from . import directory_queries as queries
from . import ldap_client as ldap
from .files import PARSE_ERRORS

if TYPE_CHECKING:
    from .directory import Directory

PUBLISHED, THERE = "published", "there already"


def publish_certificate(directory: Directory, certificate: x509.Certificate) -> tuple[str, str]:
    """Add a certificate to its holder's entry, which is made if it is missing.

    Returns PUBLISHED or THERE, and the entry's name. Certificates that are there stay: what was
    encrypted to an older one is still read with its key. Raises UsageError for a directory
    without a log-in, or a certificate without an e-mail address or name; DirectoryError for what
    the directory refuses.
    """
    try:
        authority = is_authority(certificate.extensions)
        addresses = sorted(queries.emails(certificate))
    except PARSE_ERRORS:
        raise DamagedError("the certificate's extensions are malformed") from None
    value = queries.encode(certificate)
    with _open(directory) as connection:
        if authority:
            name = _authority_entry(connection, directory, certificate.subject)
            return _add(connection, name, queries.CA_CERTIFICATE, value, b"pkiCA"), name
        if not addresses:
            raise UsageError("a certificate without an e-mail address has no place in a directory")
        name = _person_entry(connection, directory, addresses[0], certificate.subject)
        return _add(connection, name, queries.CERTIFICATE, value, b"pkiUser"), name


def publish_crl(
    directory: Directory, crl: x509.CertificateRevocationList
) -> tuple[str, str]:
    """Put a revocation list in the place of its issuer's older one.

    Returns PUBLISHED or THERE, and the entry's name. Raises UsageError if the directory has a
    newer one.
    """
    value = queries.encode(crl)
    with _open(directory) as connection:
        name = _authority_entry(connection, directory, crl.issuer)
        wanted = queries.revocation_lists(crl.issuer)
        for _, attributes in connection.search(
            name, wanted.filters[0], wanted.attributes, scope=ldap.BASE, most=1
        ):
            values = [v for a in wanted.attributes for v in attributes.get(a.lower(), [])]
            if value in values:
                return THERE, name
            for old in queries.sift(wanted, values, None, allow_stale=True)[0]:
                if old.last_update_utc > crl.last_update_utc:
                    raise UsageError(
                        f"directory {directory.name!r} has a newer revocation list of this issuer, "
                        f"of {old.last_update_utc:%Y-%m-%d %H:%M}"
                    )
        change = [(ldap.REPLACE, queries.CRL, [value])]
        if connection.modify(name, change, ldap.NO_CLASS) == ldap.NO_CLASS:
            connection.modify(name, [(ldap.ADD, "objectClass", [b"pkiCA"]), *change])
        return PUBLISHED, name


def _open(directory: Directory) -> ldap.Connection:
    if not directory.bind_dn:
        raise UsageError(
            f"directory {directory.name!r}: to publish takes bind_dn and password_file"
        )
    return directory.connect(
        time.monotonic() + directory.timeout, queries.ANSWER_BYTES["crl"], directory.context()
    )


def _add(
    connection: ldap.Connection, name: str, attribute: str, value: bytes, kind: bytes
) -> str:
    """Add a value to an entry, and the class that allows it where it is missing."""
    change = [(ldap.ADD, attribute, [value])]
    code = connection.modify(name, change, ldap.THERE, ldap.NO_CLASS)
    if code == ldap.NO_CLASS:
        code = connection.modify(
            name, [(ldap.ADD, "objectClass", [kind]), *change], ldap.THERE
        )
    return THERE if code == ldap.THERE else PUBLISHED


def _person_entry(
    connection: ldap.Connection, directory: Directory, address: str, subject: x509.Name
) -> str:
    """Return the name of the entry with an e-mail address; makes it if there is none."""
    found = _entries(connection, directory, ldap.equal("mail", address), address)
    if found:
        return found
    common, last = _first(subject, "COMMON_NAME"), _first(subject, "SURNAME")
    attributes = {
        "objectClass": [b"inetOrgPerson"], "mail": [address.encode()],
        "cn": [(common or address).encode()],
        "sn": [(last or (common or address).split()[-1]).encode()],
    }
    for attribute, kind in (("givenName", "GIVEN_NAME"), ("o", "ORGANIZATION_NAME"),
                            ("ou", "ORGANIZATIONAL_UNIT_NAME")):
        if value := _first(subject, kind):
            attributes[attribute] = [value.encode()]
    return _make(connection, directory, "mail", address, attributes)


def _authority_entry(connection: ldap.Connection, directory: Directory, subject: x509.Name) -> str:
    common = _first(subject, "COMMON_NAME")
    if not common:
        raise UsageError("an authority without a common name has no place in a directory")
    wanted = ldap.all_of(
        ldap.equal("cn", common),
        ldap.any_of(*(ldap.equal("objectClass", kind)
                      for kind in ("pkiCA", "certificationAuthority", "organizationalRole"))),
    )
    found = _entries(connection, directory, wanted, common)
    attributes = {"objectClass": [b"organizationalRole", b"pkiCA"], "cn": [common.encode()]}
    return found or _make(connection, directory, "cn", common, attributes)


def _entries(
    connection: ldap.Connection, directory: Directory, wanted: ldap.Filter, what: str
) -> str | None:
    """Return the name of the one entry that fits, None if there is none."""
    found = [name for name, _ in connection.search(directory.base, wanted, ["1.1"], most=10)]
    if len(found) > 1:
        raise UsageError(
            f"directory {directory.name!r} has {len(found)} entries for {what!r}: it is not clear "
            "which one is meant"
        )
    return found[0] if found else None


def _make(
    connection: ldap.Connection, directory: Directory, attribute: str, value: str,
    attributes: dict[str, list[bytes]],
) -> str:
    name = f"{attribute}={escape_name(value)},{directory.base}"
    connection.add(name, attributes)
    return name


def escape_name(value: str) -> str:
    """Escape a value for the name of an entry (RFC 4514 2.4)."""
    text = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, value).rfc4514_string()
    return text.partition("=")[2]


def _first(subject: x509.Name, kind: str) -> str:
    found: list[Any] = subject.get_attributes_for_oid(getattr(x509.NameOID, kind))
    return str(found[0].value).strip() if found else ""
