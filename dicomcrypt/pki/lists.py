"""An authority's own revocation lists (RFC 5280, section 5): signed, and kept in its folder."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ..errors import CertificateRefusedError, DamagedError
from ..keys.extensions import extension
from ..keys.keyfile import write_private
from . import files, names, profiles
from .database import Database, moment
from .signatures import issuing_key

REASONS = {
    flag.value: flag
    for flag in x509.ReasonFlags
    if flag not in (x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl)
}


def kept(
    folder: Path, issuer: str, certificate: x509.Certificate
) -> x509.CertificateRevocationList | None:
    """The list in the folder; DamagedError for one that the issuer did not sign."""
    path = folder / f"{issuer}.crl"
    if not os.path.lexists(path):
        return None
    try:
        crl = files.load_crls(path)[0]
        with files.quiet():
            if crl.is_signature_valid(issuing_key(certificate)):
                return crl
    except (CertificateRefusedError, *files.PARSE_ERRORS):
        pass
    raise DamagedError(f"{str(path)!r} is no list of the {issuer} authority: restore it from "
                       "its backup, or take it away")


def reason_of(entry: x509.RevokedCertificate) -> str:
    found = extension(entry.extensions, x509.CRLReason)
    return "unspecified" if found is None else found.reason.value


def sign(
    database: Database, issuer: str, certificate: x509.Certificate, key: Any, number: int,
    length: datetime.timedelta, before: x509.CertificateRevocationList | None = None,
) -> x509.CertificateRevocationList:
    """Sign a list. A transaction is open, so that no list of a higher number has less in it.

    before: a list whose entries are kept if the database does not know their certificates."""
    made = names.now()
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing_key(certificate))
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(made)
        .next_update(made + length)
        .add_extension(x509.CRLNumber(number), False)
        .add_extension(identifier, False)
    )
    known = set()
    for row in database.certificates("issuer = ?", [issuer], "revoked, serial"):
        known.add(row["serial"])
        if row["status"] != "valid":
            builder = builder.add_revoked_certificate(
                _entry(int(row["serial"], 16), moment(row["revoked"]), row["reason"])
            )
    for one in before or ():
        if f"{one.serial_number:x}" not in known:
            builder = builder.add_revoked_certificate(
                _entry(one.serial_number, one.revocation_date_utc, reason_of(one))
            )
    return builder.sign(key, profiles.signing_hash(key))


def _entry(
    serial: int, when: datetime.datetime, reason: str | None
) -> x509.RevokedCertificate:
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
    if reason in REASONS:
        entry = entry.add_extension(x509.CRLReason(REASONS[reason]), False)
    return entry.build()


def keep(folder: Path, issuer: str, crl: x509.CertificateRevocationList) -> None:
    path = folder / f"{issuer}.crl"
    write_private(path, crl.public_bytes(serialization.Encoding.PEM), force=True)
