"""Certificate revocation lists (RFC 5280, sections 5 and 6.3), complete ones of the issuer."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any, NamedTuple

from cryptography import x509

from ..keys.extensions import extension
from ..keys.spki import public_der
from . import names
from .files import PARSE_ERRORS, quiet
from .signatures import is_taken, issuing_key

#: How far a list's date may be ahead of this machine's clock.
SKEW = datetime.timedelta(minutes=5)
_UNDERSTOOD = {
    x509.IssuingDistributionPoint.oid, x509.CRLNumber.oid, x509.AuthorityKeyIdentifier.oid,
}  # fmt: skip
_ENTRY_UNDERSTOOD = {x509.CRLReason.oid, x509.InvalidityDate.oid}
_REASONS = {
    x509.ReasonFlags.key_compromise: "its key is no longer secret",
    x509.ReasonFlags.ca_compromise: "its authority's key is no longer secret",
    x509.ReasonFlags.affiliation_changed: "its holder's affiliation changed",
    x509.ReasonFlags.superseded: "another one replaced it",
    x509.ReasonFlags.cessation_of_operation: "it is no longer in use",
    x509.ReasonFlags.certificate_hold: "it is on hold",
    x509.ReasonFlags.privilege_withdrawn: "its rights were withdrawn",
    x509.ReasonFlags.aa_compromise: "its attribute authority's key is no longer secret",
}


class Problem(NamedTuple):
    """Why something is not taken: a word for programs, a sentence for people."""

    reason: str
    sentence: str


def day(moment: datetime.datetime) -> str:
    """A moment for a message."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


class Lists:
    """Revocation lists by issuer. Each one's signature is verified once for each issuer's key."""

    def __init__(self, crls: tuple[x509.CertificateRevocationList, ...]) -> None:
        self._by_issuer: dict[x509.Name, list[x509.CertificateRevocationList]] = {}
        for crl in crls:
            self._by_issuer.setdefault(crl.issuer, []).append(crl)
        self._verified: dict[tuple[int, bytes], Problem | None] = {}

    def problems(
        self, serial: int, what: str, issuer: x509.Certificate, moment: datetime.datetime, *,
        authority: bool = False, required: bool, points: Any = None, attribute: bool = False,
        remarks: list[str],
    ) -> Iterator[Problem]:
        """Yield why a certificate, `what` in a sentence, may not be used for its revocation.

        authority: it is an authority's; attribute: an attribute certificate. points: its
        extension CRLDistributionPoints. remarks: gets what a reader should know.
        """
        found: list[x509.CertificateRevocationList] = []
        unusable: list[Problem] = []
        name = names.name_text(issuer.subject)
        for crl in self._by_issuer.get(issuer.subject, []):
            problem = self._usable(crl, issuer, name)
            if problem is not None:
                unusable.append(problem)
            elif _covers(crl, authority, attribute, points):
                found.append(crl)
        if not found:
            if unusable:
                yield unusable[0]
            elif required:
                yield Problem(
                    "no-crl",
                    f"{what} cannot be checked for revocation: there is no revocation list of "
                    f"{name}, fetch it first",
                )
            else:
                remarks.append(f"not checked for revocation: no revocation list of {name}")
            return
        newest = []
        for lists in _by_scope(found):
            counting = _newest(lists)
            if counting is None:
                yield Problem(
                    "crl-conflict",
                    f"of the revocation lists of {name} one has the higher number, and another the "
                    "later date: fetch them again, or ask the authority which one counts",
                )
                return
            newest.append(counting)
        for crl in newest:
            revoked = crl.get_revoked_certificate_by_serial_number(serial)
            problem = None if revoked is None else _judge(revoked, what, moment)
            if problem is not None:
                yield problem
                return
        crl = max(newest, key=lambda one: one.last_update_utc)
        now, end = names.now(), crl.next_update_utc
        if crl.last_update_utc - SKEW > max(now, moment):
            yield Problem(
                "crl-not-yet-valid",
                f"the revocation list of {name} is of {day(crl.last_update_utc)}, which is to "
                "come: check this machine's clock",
            )
        elif end is None:
            yield Problem(
                "crl-expired",
                f"the revocation list of {name} does not say when the next one comes: "
                "ask for a complete one",
            )
        elif end < moment:
            yield Problem(
                "crl-expired",
                f"the revocation list of {name} was good until {day(end)}: fetch the new one",
            )
        else:
            remarks.append(f"not revoked by the list of {name} of {day(crl.last_update_utc)}")

    def _usable(
        self, crl: x509.CertificateRevocationList, issuer: x509.Certificate, name: str
    ) -> Problem | None:
        key = id(crl), public_der(issuer.public_key())
        if key not in self._verified:
            self._verified[key] = _examine(crl, issuer, name)
        return self._verified[key]


def _examine(
    crl: x509.CertificateRevocationList, issuer: x509.Certificate, name: str
) -> Problem | None:
    """Return why a list is of no use; its dates aside."""
    forged = Problem(
        "crl-signature",
        f"the revocation list of {name} is not signed by it: it was changed or forged, "
        "fetch it again",
    )
    with quiet():
        usage = extension(issuer.extensions, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        return Problem("crl-signature", f"the revocation list of {name} is signed with a key "
                       "whose usage is another: ask for one that its authority stands for")
    if not is_taken(crl):
        return Problem("crl-signature", f"the revocation list of {name} is signed with an "
                       "algorithm that is not taken: ask for one signed with SHA-256")
    try:
        with quiet():
            if not crl.is_signature_valid(issuing_key(issuer)):
                return forged
            return _unsupported(crl, name)
    except PARSE_ERRORS:
        return forged


def _unsupported(crl: x509.CertificateRevocationList, name: str) -> Problem | None:
    whose, critical = f"the revocation list of {name}", 0
    for found in crl.extensions:
        critical += found.critical
        value = found.value
        if isinstance(value, x509.DeltaCRLIndicator):
            return Problem("crl-unsupported", f"{whose} holds only what changed since another: "
                           "fetch the complete one")
        if isinstance(value, x509.IssuingDistributionPoint) and (
            value.indirect_crl or value.only_some_reasons
        ):
            kind = "speaks for other authorities" if value.indirect_crl else "has some reasons only"
            return Problem("crl-unsupported", f"{whose} {kind}, which is not taken here: "
                           "fetch a complete one of the issuer itself")
        if found.critical and found.oid not in _UNDERSTOOD:
            return Problem("crl-unsupported", f"{whose} has the critical extension "
                           f"{found.oid.dotted_string}, which is not understood here")
    # One look for BOOLEAN TRUE spares the parsing of every entry of a long list.
    if crl.tbs_certlist_bytes.count(b"\x01\x01\xff") > critical:
        for entry in crl:
            for one in entry.extensions:
                if one.critical and one.oid not in _ENTRY_UNDERSTOOD:
                    return Problem("crl-unsupported", f"{whose} has an entry with the critical "
                                   f"extension {one.oid.dotted_string}, which is not "
                                   "understood here")
    return None


def _by_scope(
    lists: list[x509.CertificateRevocationList],
) -> Iterator[list[x509.CertificateRevocationList]]:
    """Yield lists that are for the same certificates: only they are numbered together."""
    found: dict[bytes, list[x509.CertificateRevocationList]] = {}
    for crl in lists:
        point = extension(crl.extensions, x509.IssuingDistributionPoint)
        scope = b"" if point is None else point.public_bytes()
        found.setdefault(scope, []).append(crl)
    yield from found.values()


def number_of(crl: x509.CertificateRevocationList) -> int | None:
    """A list's number; None if it has none."""
    number = extension(crl.extensions, x509.CRLNumber)
    return None if number is None else number.crl_number


def _newest(
    lists: list[x509.CertificateRevocationList],
) -> x509.CertificateRevocationList | None:
    """Return the list that counts: of the highest number, and without numbers of the latest date
    (RFC 5280, 5.2.3); None if numbers and dates contradict each other."""
    latest = max(lists, key=lambda one: (one.last_update_utc, number_of(one) or 0))
    top = number_of(latest)
    if top is not None:
        for crl in lists:
            number = number_of(crl)
            if number is not None and number > top:
                return None
    return latest


def _covers(
    crl: x509.CertificateRevocationList, authority: bool, attribute: bool, points: Any
) -> bool:
    """Whether a list is for certificates such as this one (IssuingDistributionPoint)."""
    scope = extension(crl.extensions, x509.IssuingDistributionPoint)
    if scope is None:
        return True
    if scope.only_contains_attribute_certs != attribute and (
        scope.only_contains_attribute_certs
        or scope.only_contains_user_certs
        or scope.only_contains_ca_certs
    ):
        return False
    if (scope.only_contains_user_certs and authority) or (
        scope.only_contains_ca_certs and not authority
    ):
        return False
    if scope.relative_name is not None:
        return False
    if scope.full_name is None:
        return True
    told = [name for point in points or () for name in point.full_name or ()]
    return any(name in told for name in scope.full_name)


def _judge(
    revoked: x509.RevokedCertificate, what: str, moment: datetime.datetime
) -> Problem | None:
    """Return what an entry means for a certificate, None if nothing (any more, or yet)."""
    reason = x509.ReasonFlags.unspecified
    with contextlib.suppress(*PARSE_ERRORS):
        if (stated := extension(revoked.extensions, x509.CRLReason)) is not None:
            reason = stated.reason
    if reason is x509.ReasonFlags.remove_from_crl:
        return None
    # What was signed before counts, unless someone else may have had the key by then.
    stolen = reason in (x509.ReasonFlags.key_compromise, x509.ReasonFlags.ca_compromise,
                        x509.ReasonFlags.aa_compromise)  # fmt: skip
    # A date that is to come does not wait: whoever put it on the list meant it (as openssl does).
    if not stolen and moment < revoked.revocation_date_utc <= names.now():
        return None
    why = _REASONS.get(reason)
    return Problem(
        "revoked",
        f"{what} was revoked on {day(revoked.revocation_date_utc)}"
        f"{f' ({why})' if why else ''}: do not use it, ask its holder for another",
    )
