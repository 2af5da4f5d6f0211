"""A certification authority in a folder of mode 0700.

    root.crt, root.key              the root, which certifies the issuing authority and rests
    issuing.crt, issuing.key        what issues certificates
    attribute.crt, attribute.key    what issues attribute certificates: RFC 5755 section 4.5 wants
                                    it to be no certification authority
    ca.sqlite                       every certificate with its status (module `database`)
    root.crl, issuing.crl, attribute.crl    the last revocation lists

Keys are PKCS#8, encrypted. Serials are 159 random bits.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from ..errors import OutputExistsError, PolicyError, UsageError
from ..keys.keyfile import write_private
from . import files, names
from .database import Database, moment, stamp
from .profiles import SIGNING_KINDS, generate, key_usage, signing_hash, use_extensions, weakness

ISSUERS = ("root", "issuing", "attribute")
REASONS = {
    flag.value: flag
    for flag in x509.ReasonFlags
    if flag not in (x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl)
}
_HOLD = "certificateHold"
_DAY = datetime.timedelta(days=1)
Ask = Callable[[], str | None]


def new_serial() -> int:
    """159 random bits, never 0: positive in 20 bytes (RFC 5280, 4.1.2.2)."""
    return secrets.randbits(159) or 1


def _authority_name(organisation: str, what: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
        x509.NameAttribute(NameOID.COMMON_NAME, f"{organisation} {what}"[:64]),
    ])  # fmt: skip


class Authority:
    """An authority's folder, open."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.database = Database(str(self.folder / "ca.sqlite"))

    def __enter__(self) -> Authority:
        return self

    def __exit__(self, *exc: object) -> None:
        self.database.close()

    def certificate(self, issuer: str) -> x509.Certificate:
        """The certificate of `root`, `issuing` or `attribute`."""
        return files.load_certificate(self.folder / f"{issuer}.crt")

    def chain(self) -> list[x509.Certificate]:
        return [self.certificate("issuing"), self.certificate("root")]

    def unlock(self, issuer: str, passphrase: Ask) -> Any:
        """Return an issuer's private key; NoIdentityError for a wrong passphrase."""
        return files.load_private_key(self.folder / f"{issuer}.key", passphrase)

    # ---- making one ----------------------------------------------------------

    @classmethod
    def create(
        cls, folder: str | os.PathLike[str], *, organisation: str, passphrase: str,
        root_passphrase: str | None = None, kind: str = "p384", root_years: int = 20,
        issuing_years: int = 10, crl_url: str | None = None,
    ) -> Authority:
        """Make an authority, whole or not at all; its three first lists are empty.

        Raises OutputExistsError if something is there, UsageError for what cannot be meant."""
        target = Path(folder)
        if kind not in SIGNING_KINDS:
            known = ", ".join(SIGNING_KINDS)
            raise UsageError(f"{kind!r} signs no certificates; there are {known}")
        if not passphrase or root_passphrase == "":
            raise UsageError("an authority's keys need a passphrase")
        if not 1 <= issuing_years <= root_years <= 50:
            raise UsageError("the root lives 1 to 50 years, and the issuing authority no longer")
        organisation = names.Subject(organisation).name
        if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
            raise OutputExistsError(f"{os.fspath(folder)!r} exists: choose another folder")
        part = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
        part.mkdir(mode=0o700)
        try:
            cls._fill(part, organisation, passphrase, root_passphrase or passphrase, kind,
                      root_years, issuing_years, crl_url)
            os.rename(part, target)
        finally:
            if part.exists():
                shutil.rmtree(part)
        return cls(target)

    @staticmethod
    def _fill(
        folder: Path, organisation: str, passphrase: str, root_passphrase: str, kind: str,
        root_years: int, issuing_years: int, crl_url: str | None,
    ) -> None:
        start = names.now()
        ends = {"root": start + root_years * 365 * _DAY}
        ends["issuing"] = ends["attribute"] = min(
            start + issuing_years * 365 * _DAY, ends["root"]
        )
        keys = {issuer: generate(kind) for issuer in ISSUERS}
        titles = {"root": "Root CA", "issuing": "Issuing CA", "attribute": "Attribute Authority"}
        above = {"root": "root", "issuing": "root", "attribute": "issuing"}
        database = Database(str(folder / "ca.sqlite"), create=True)
        made: dict[str, x509.Certificate] = {}
        with contextlib.closing(database), database.change():
            if crl_url:
                database.set_meta("crl_url", crl_url)
            for issuer in ISSUERS:
                public = keys[issuer].public_key()
                extensions: list[tuple[x509.ExtensionType, bool]]
                if issuer == "attribute":
                    extensions = [(x509.BasicConstraints(False, None), True)]
                    extensions += use_extensions(public, [], attributes=True)
                else:
                    limit = 0 if issuer == "issuing" else 1
                    extensions = [(x509.BasicConstraints(True, limit), True),
                                  (key_usage(key_cert_sign=True, crl_sign=True), True)]
                made[issuer] = one = _certificate(
                    subject=_authority_name(organisation, titles[issuer]), public=public,
                    issuer=made.get(above[issuer]), key=keys[above[issuer]], begin=start,
                    end=ends[issuer], extensions=extensions,
                )
                _record(database, one, above[issuer], "authority", [issuer])
                write_private(folder / f"{issuer}.crt", files.pem([one]))
                words = root_passphrase if issuer == "root" else passphrase
                write_private(folder / f"{issuer}.key", files.private_pem(keys[issuer], words))
            for issuer in ISSUERS:
                _write_list(folder, database, issuer, made[issuer], keys[issuer], 30 * _DAY)

    # ---- certificates --------------------------------------------------------

    def issue(
        self, public: Any, subject: names.Subject, uses: Sequence[str], passphrase: Ask, *,
        begin: datetime.datetime | None = None, end: datetime.datetime | None = None,
        hosts: Sequence[x509.GeneralName] = (), renews: int | None = None,
    ) -> x509.Certificate:
        """Issue a certificate for a public key. What it says is the operator's decision alone.

        hosts: DNS names and addresses, for TLS servers. begin, end: by default now, and two years.
        Raises UsageError, PolicyError for a weak key, NoIdentityError for a wrong passphrase."""
        weak = weakness(public)
        if weak is not None:
            raise PolicyError(f"no certificate is issued for {weak[1]}")
        issuer = self.certificate("issuing")
        begin = names.utc(begin) if begin is not None else names.now()
        end = names.utc(end) if end is not None else begin + 730 * _DAY
        if not begin < end:
            raise UsageError("a certificate's validity must begin before it ends")
        if end > issuer.not_valid_after_utc:
            raise UsageError(
                "the certificate would outlive its issuer, which ends on "
                f"{issuer.not_valid_after_utc:%Y-%m-%d}: give an earlier end"
            )
        if "tls-server" in uses and not hosts:
            raise UsageError("a certificate for a TLS server needs its names: give --dns or --ip")
        alternative = [*([x509.RFC822Name(subject.email)] if subject.email else []), *hosts]
        extensions = [(x509.BasicConstraints(False, None), True), *use_extensions(public, uses)]
        if alternative:
            extensions.append((x509.SubjectAlternativeName(alternative), False))
        if subject.role is not None:
            extensions.append((names.role_extension(subject.role), False))
        if url := self.database.get_meta("crl_url"):
            point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
            extensions.append((x509.CRLDistributionPoints([point]), False))
        key = self.unlock("issuing", passphrase)
        with self.database.change():
            certificate = _certificate(
                subject=subject.x509_name(), public=public, issuer=issuer, key=key,
                begin=begin, end=end, extensions=extensions,
            )
            _record(self.database, certificate, "issuing", "certificate", uses, renews=renews)
        return certificate

    def renew(
        self, serial: int, passphrase: Ask, *, public: Any = None,
        begin: datetime.datetime | None = None, end: datetime.datetime | None = None,
    ) -> x509.Certificate:
        """Issue a certificate again for the same holder and uses, and a new key if one is given.

        Raises PolicyError for one that is revoked, UsageError for one that is none of a holder."""
        row = self.database.find(serial)
        if row["kind"] != "certificate":
            raise UsageError(f"{serial:x} is no holder's certificate: only those are renewed")
        if row["status"] != "valid":
            raise PolicyError(f"certificate {serial:x} is revoked: issue another by a new request")
        old = x509.load_der_x509_certificate(row["der"])
        subject = names.facts(old).as_subject()
        try:
            found = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            hosts = [name for name in found if not isinstance(name, x509.RFC822Name)]
        except x509.ExtensionNotFound:
            hosts = []
        if end is None:
            start = names.utc(begin) if begin is not None else names.now()
            end = start + (old.not_valid_after_utc - old.not_valid_before_utc)
            end = min(end, self.certificate("issuing").not_valid_after_utc)
        return self.issue(
            public if public is not None else old.public_key(), subject, row["uses"].split(),
            passphrase, begin=begin, end=end, hosts=hosts, renews=serial,
        )

    def revoke(self, serial: int, reason: str) -> dict[str, Any]:
        """Note a certificate as revoked; it counts with the next list. Returns its row.

        Raises UsageError for an unknown serial or reason, and if it is revoked already."""
        if reason != "unspecified" and reason not in REASONS:
            raise UsageError(f"{reason!r} is no reason; there are {', '.join(REASONS)}")
        with self.database.change():
            row = self.database.find(serial)
            if row["status"] == "revoked":
                raise UsageError(f"certificate {serial:x} is revoked already")
            if row["kind"] == "authority" and row["issuer"] == "root" and row["uses"] == "root":
                raise UsageError("a root cannot be revoked: take it out of everyone's trust")
            status = "hold" if reason == _HOLD else "revoked"
            self.database.set_status(serial, status, stamp(names.now()), reason)
            return self.database.find(serial)

    def release(self, serial: int) -> dict[str, Any]:
        """Take a certificate from hold; UsageError if it is not on hold."""
        with self.database.change():
            if self.database.find(serial)["status"] != "hold":
                raise UsageError(f"certificate {serial:x} is not on hold")
            self.database.set_status(serial, "valid", None, None)
            return self.database.find(serial)

    def make_crl(
        self, issuer: str, passphrase: Ask, *, days: int = 30
    ) -> x509.CertificateRevocationList:
        """Sign an issuer's next revocation list, complete, and keep it in the folder."""
        if not 1 <= days <= 3650:
            raise UsageError("a revocation list is good for 1 to 3650 days")
        key, certificate = self.unlock(issuer, passphrase), self.certificate(issuer)
        with self.database.change():
            return _write_list(self.folder, self.database, issuer, certificate, key, days * _DAY)

    def listing(
        self, *, status: str | None = None, role: str | None = None, text: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield rows without their DER, `status` being valid, expired, hold or revoked."""
        now = stamp(names.now())
        for row in self.database.rows("SELECT * FROM certificates ORDER BY issued, serial"):
            del row["der"]
            if row["status"] == "valid" and row["end"] < now:
                row["status"] = "expired"
            if status is not None and row["status"] != status:
                continue
            if role is not None and row["role"] != role:
                continue
            if text is not None and text.casefold() not in (
                f"{row['subject']} {row['email']} {row['serial']}".casefold()
            ):
                continue
            yield row


def _certificate(
    *, subject: x509.Name, public: Any, issuer: x509.Certificate | None, key: Any,
    begin: datetime.datetime, end: datetime.datetime,
    extensions: Iterable[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    """Sign a certificate. issuer: None for a root, which signs itself."""
    signer = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(public)
        .serial_number(new_serial())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), False)
        .add_extension(names.constructed_extension(names.now()), False)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(key, signing_hash(key))


def _record(
    database: Database, certificate: x509.Certificate, issuer: str, kind: str,
    uses: Sequence[str], *, renews: int | None = None,
) -> None:
    facts = names.facts(certificate)
    database.add(
        serial=f"{facts.serial:x}", issuer=issuer, kind=kind, subject=facts.subject,
        email=facts.email, role=facts.role and str(facts.role), uses=" ".join(uses),
        begin=stamp(facts.begin), end=stamp(facts.end), issued=stamp(names.now()),
        renews=None if renews is None else f"{renews:x}",
        der=certificate.public_bytes(serialization.Encoding.DER),
    )  # fmt: skip


def _write_list(
    folder: Path, database: Database, issuer: str, certificate: x509.Certificate, key: Any,
    length: datetime.timedelta,
) -> x509.CertificateRevocationList:
    """Sign a list. A transaction is open: the list of the newest number is the one that stays."""
    made = names.now()
    number = database.next_list(issuer, stamp(made), stamp(made + length))
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(certificate.public_key())
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(certificate.subject)
        .last_update(made)
        .next_update(made + length)
        .add_extension(x509.CRLNumber(number), False)
        .add_extension(identifier, False)
    )
    for row in database.rows(
        "SELECT serial, revoked, reason FROM certificates "
        "WHERE issuer = ? AND status <> 'valid' ORDER BY revoked, serial", [issuer],
    ):  # fmt: skip
        entry = x509.RevokedCertificateBuilder().serial_number(int(row["serial"], 16))
        entry = entry.revocation_date(moment(row["revoked"]))
        if row["reason"] in REASONS:
            entry = entry.add_extension(x509.CRLReason(REASONS[row["reason"]]), False)
        builder = builder.add_revoked_certificate(entry.build())
    crl = builder.sign(key, signing_hash(key))
    path = folder / f"{issuer}.crl"
    write_private(path, crl.public_bytes(serialization.Encoding.PEM), force=True)
    return crl
