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

from ..errors import (
    DamagedError,
    OutputExistsError,
    PolicyError,
    UsageError,
)
from ..keys.extensions import extension
from ..keys.keyfile import write_private
from ..keys.spki import public_der
from ..regular import others_may
from . import files, lists, names, profiles, sealing
from .database import Database, stamp
from .gate import matches
from .lists import REASONS
from .profiles import SIGNING_KINDS, generate, key_usage, use_extensions
from .revocation import number_of

ISSUERS = ("root", "issuing", "attribute")
_HOLD = "certificateHold"
_COMPROMISED = ("keyCompromise", "cACompromise", "aACompromise")
_DAY = datetime.timedelta(days=1)
Ask = Callable[[], str | None]
Deliver = Callable[[x509.Certificate], None]


def new_serial() -> int:
    """159 random bits, never 0: positive in 20 bytes (RFC 5280, 4.1.2.2)."""
    return secrets.randbits(159) or 1


def _authority_name(organisation: str, what: str) -> x509.Name:
    short = organisation.encode()[: 63 - len(what)].decode(errors="ignore").rstrip()
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
        x509.NameAttribute(NameOID.COMMON_NAME, f"{short} {what}"),
    ])  # fmt: skip


def _checked_url(url: str) -> str:
    """Return where a list is; raises UsageError for what nobody could fetch it from."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https", "ldap", "ldaps") and bool(parts.hostname)
        fits = fits and parts.username is None and parts.password is None
    except ValueError:
        fits = False
    if not fits or len(url) > 2000 or not all("!" <= ch <= "~" for ch in url):
        raise UsageError("the address of a revocation list is one of http, https, ldap or ldaps, "
                         "in ASCII, without spaces and log-ins")
    return url


class Authority:
    """An authority's folder, open."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if others_may(self.folder, 0o022):
            raise UsageError(f"authority {str(self.folder)!r} may be written by others: take that "
                             "right away with chmod 700")
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
        """Return an issuer's private key.

        Raises NoIdentityError for a wrong passphrase, PolicyError if the policy does not let it
        sign, DamagedError if it is not that of the issuer's certificate."""
        certificate = self.certificate(issuer)
        profiles.require_signing(certificate.public_key())
        path = self.folder / f"{issuer}.key"
        key = files.load_private_key(path, passphrase)
        if not matches(key, certificate):
            raise DamagedError(f"{str(path)!r} is not the key of {issuer}.crt beside it: restore "
                               "the two that belong together")
        return key

    def standing(self, issuer: str) -> None:
        """Raise PolicyError if an issuer was revoked: what it signs then counts for nobody."""
        self.stands(self.certificate(issuer).serial_number, f"the {issuer} authority")

    def stands(self, serial: int, what: str) -> None:
        """Raise PolicyError if a certificate that was issued here is revoked or on hold."""
        row = self.database.find(serial)
        if row["status"] != "valid":
            raise PolicyError(f"{what} (serial {serial:x}) is "
                              f"{'on hold' if row['status'] == 'hold' else 'revoked'}: nothing is "
                              "issued by it or for it")

    def of_key(self, public: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of all certificates of a public key, whatever their status."""
        wanted = public_der(public)
        for row in self.database.certificates(
            "kind <> 'attributes' AND instr(der, ?) > 0", [wanted]
        ):
            if public_der(self.database.certificate_of(row).public_key()) == wanted:
                yield row

    def require_unbroken(self, public: Any) -> None:
        """Raise PolicyError for a key of which a certificate was revoked because it is no longer
        secret."""
        for row in self.of_key(public):
            if row["status"] == "revoked" and row["reason"] in _COMPROMISED:
                raise PolicyError(f"this key is no longer secret: its certificate {row['serial']} "
                                  f"was revoked ({row['reason']}); ask for a new key")

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
        crl_url = _checked_url(crl_url) if crl_url else None
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
        profiles.require_signing(keys["root"])
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
                extensions.append((names.constructed_extension(names.now()), False))
                made[issuer] = one = _certificate(
                    subject=_authority_name(organisation, titles[issuer]), public=public,
                    issuer=made.get(above[issuer]), key=keys[above[issuer]], begin=start,
                    end=ends[issuer], extensions=extensions,
                )
                _record(database, one, above[issuer], "authority", [issuer])
                write_private(folder / f"{issuer}.crt", files.pem([one]))
                words = root_passphrase if issuer == "root" else passphrase
                write_private(folder / f"{issuer}.key", sealing.private_pem(keys[issuer], words))
            for issuer in ISSUERS:
                database.add_list(issuer, 1, stamp(start), stamp(start + 30 * _DAY))
                crl = lists.sign(database, issuer, made[issuer], keys[issuer], 1, 30 * _DAY)
                lists.keep(folder, issuer, crl)

    # ---- certificates --------------------------------------------------------

    def issue(
        self, public: Any, subject: names.Subject, uses: Sequence[str], passphrase: Ask, *,
        begin: datetime.datetime | None = None, end: datetime.datetime | None = None,
        hosts: Sequence[x509.GeneralName] = (), renews: int | None = None,
        deliver: Deliver | None = None,
    ) -> x509.Certificate:
        """Issue a certificate for a public key. What it says is the operator's decision alone.

        hosts: DNS names and addresses, for TLS servers. begin, end: by default now, and two years.
        deliver: is called with the certificate before it is noted as issued; what it raises undoes
        everything. Raises UsageError, NoIdentityError for a wrong passphrase, PolicyError for a key
        that is weak, no longer secret or not permitted, and if the authority was revoked."""
        weak = profiles.weakness(public)
        if weak is not None:
            raise PolicyError(f"no certificate is issued for {weak[1]}")
        self.standing("issuing")
        self.require_unbroken(public)
        profiles.require_uses(public, uses)
        issuer = self.certificate("issuing")
        begin, end = names.period(begin, end, 730)
        if end > issuer.not_valid_after_utc:
            raise UsageError(
                "the certificate would outlive its issuer, which ends on "
                f"{issuer.not_valid_after_utc:%Y-%m-%d}: give an earlier end"
            )
        if "tls-server" in uses and not hosts:
            raise UsageError("a certificate for a TLS server needs its names: give --dns or --ip")
        alternative = [*([x509.RFC822Name(subject.email)] if subject.email else []), *hosts]
        extensions = [(x509.BasicConstraints(False, None), True), *use_extensions(public, uses)]
        # GnuTLS 3.7 (slapd of Debian 12) loads no certificate that names an object identifier of a
        # UUID, so that of a TLS server, which is no member of the health system, has none.
        if subject.role is not None or list(uses) != ["tls-server"]:
            extensions.append((names.constructed_extension(names.now()), False))
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
            if deliver is not None:
                deliver(certificate)
        return certificate

    def renew(
        self, serial: int, passphrase: Ask, *, public: Any = None,
        begin: datetime.datetime | None = None, end: datetime.datetime | None = None,
        deliver: Deliver | None = None,
    ) -> x509.Certificate:
        """Issue a certificate again for the same holder and uses, and a new key if one is given.

        Raises PolicyError for one that is revoked, UsageError for one that is none of a holder."""
        row = self.database.find(serial)
        if row["kind"] != "certificate":
            raise UsageError(f"{serial:x} is no holder's certificate: only those are renewed")
        if row["status"] != "valid":
            raise PolicyError(f"certificate {serial:x} is revoked: issue another by a new request")
        old = self.database.certificate_of(row)
        subject = names.facts(old).as_subject()
        found = extension(old.extensions, x509.SubjectAlternativeName)
        hosts = [name for name in found or () if not isinstance(name, x509.RFC822Name)]
        if end is None:
            length = (old.not_valid_after_utc - old.not_valid_before_utc).days or 1
            begin, end = names.period(begin, None, length)
            end = min(end, self.certificate("issuing").not_valid_after_utc)
        return self.issue(
            public if public is not None else old.public_key(), subject, row["uses"].split(),
            passphrase, begin=begin, end=end, hosts=hosts, renews=serial, deliver=deliver,
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
            return self.database.set_status(serial, status, stamp(names.now()), reason)

    def others_of_key(self, serial: int) -> list[dict[str, Any]]:
        """Return the rows of other certificates of the same key that are not revoked."""
        row = self.database.find(serial)
        if row["kind"] == "attributes":
            return []
        public = self.database.certificate_of(row).public_key()
        return [other for other in self.of_key(public)
                if other["serial"] != row["serial"] and other["status"] != "revoked"]

    def release(self, serial: int) -> dict[str, Any]:
        """Take a certificate from hold; UsageError if it is not on hold."""
        with self.database.change():
            if self.database.find(serial)["status"] != "hold":
                raise UsageError(f"certificate {serial:x} is not on hold")
            return self.database.set_status(serial, "valid", None, None)

    def make_crl(
        self, issuer: str, passphrase: Ask, *, days: int = 30, force: bool = False
    ) -> x509.CertificateRevocationList:
        """Sign an issuer's next revocation list, complete, and keep it in the folder.

        Raises PolicyError if the list in the folder is newer than the database, as when that was
        restored from an old copy; force: then go on from its number, and keep its entries."""
        if not 1 <= days <= 3650:
            raise UsageError("a revocation list is good for 1 to 3650 days")
        key, certificate = self.unlock(issuer, passphrase), self.certificate(issuer)
        before, made = lists.kept(self.folder, issuer, certificate), names.now()
        with self.database.change():
            last = self.database.last_list(issuer)
            kept = number_of(before) if before is not None else None
            if before is not None and kept is not None and kept > last:
                # Another process may have made it meanwhile; it is the database that tells.
                if not force:
                    raise PolicyError(
                        f"the revocation list {issuer}.crl has number {kept}, and the database "
                        f"knows of {last} only: was it restored from an old copy? restore the "
                        "newest one, or give --force to go on from that list and keep its entries"
                    )
                self._take_over(issuer, before)
            number = max(last, kept or 0) + 1
            self.database.add_list(issuer, number, stamp(made), stamp(made + days * _DAY))
        # The number is spent before the list is in the folder: no list ever has it twice.
        with self.database.change():
            crl = lists.sign(self.database, issuer, certificate, key, number, days * _DAY,
                               before if force else None)
            there = lists.kept(self.folder, issuer, certificate)
            if there is None or (number_of(there) or 0) < number:
                lists.keep(self.folder, issuer, crl)
        return crl

    def _take_over(self, issuer: str, crl: x509.CertificateRevocationList) -> None:
        """Note as revoked what a list names and the database has as valid."""
        named = {f"{entry.serial_number:x}": entry for entry in crl}
        for row in list(self.database.certificates("issuer = ?", [issuer])):
            if row["status"] == "valid" and (entry := named.get(row["serial"])) is not None:
                reason = lists.reason_of(entry)
                self.database.set_status(
                    int(row["serial"], 16), "hold" if reason == _HOLD else "revoked",
                    stamp(entry.revocation_date_utc), reason,
                )  # fmt: skip

    def listing(
        self, *, status: str | None = None, role: str | None = None, text: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield rows without their DER, `status` being valid, expired, hold or revoked."""
        now = stamp(names.now())
        for row in self.database.certificates():
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
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(key, profiles.signing_hash(key))


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
