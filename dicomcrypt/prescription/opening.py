"""Opening a prescription: everything that is checked, each with its sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509

from ..errors import DamagedError, DicomcryptError, PolicyError, UnsignedError, UsageError
from ..keys.x509 import addresses
from ..pki import names, rights
from ..pki.checking import Trust, check_certificate
from ..pki.names import Role
from ..pki.revocation import SKEW, day
from . import document, envelope, signed
from .document import Prescription
from .holders import Holder
from .protecting import (
    AUTHORISATION,
    DOCTOR_PRIVATE,
    PRESCRIPTION,
    SIGNING_WAYS,
    WAYS,
    current_lists,
    require_authorises,
    require_named,
)

if TYPE_CHECKING:
    from ..pki.directory import Directories

_LISTS_AGE = 300.0  # seconds that revocation lists are not asked for again


@dataclass
class Opened:
    """A prescription that passed, and what was checked: (word, sentence) each.

    signed: the doctor's signed document, to keep. identity_document: what the pharmacist recorded
    in place of the patient's signature."""

    prescription: Prescription
    way: str
    doctor: x509.Certificate
    signed: bytes = field(repr=False)
    moment: datetime.datetime
    checks: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    identity_document: str = field(default="", repr=False)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the signed document."""
        return hashlib.sha256(self.signed).digest()

    def as_json(self) -> dict[str, Any]:
        return {
            "way": self.way, "signed": self.moment.isoformat(),
            "doctor_serial": f"{self.doctor.serial_number:x}", "digest": self.digest.hex(),
            "checks": [{"check": word, "sentence": text} for word, text in self.checks],
            "remarks": self.remarks, "prescription": self.prescription.as_json(),
        }  # fmt: skip


class Sources:
    """Where certificates and revocation lists come from: the message, files, directories.

    reload: of a process that runs on, what reads the files of its trust again after some minutes;
    if it raises, what was read before still counts."""

    def __init__(
        self, trust: Trust, directories: Directories | None = None,
        reload: Callable[[], Trust] | None = None,
    ) -> None:
        self.trust, self.directories = trust, directories
        self._reload, self._loaded = reload, time.monotonic()
        self._lists: tuple[Any, ...] = ()
        self._asked: float | None = None

    def add_intermediates(self, certificates: Iterable[x509.Certificate]) -> None:
        """Take note of certificates that may lie between a holder and a root."""
        self.trust = dataclasses.replace(
            self.trust, intermediates=(*self.trust.intermediates, *certificates))

    def lists(self) -> tuple[Any, ...]:
        """The revocation lists of all directories, asked again after some minutes."""
        moment = time.monotonic()
        if self.directories is not None and (
            self._asked is None or moment - self._asked > _LISTS_AGE
        ):
            fresh = self.directories.fetch_crls().all
            issuers = {crl.issuer for crl in fresh}
            # Of a directory that does not answer now, what it gave before still counts.
            kept = [crl for crl in self._lists if crl.issuer not in issuers]
            self._lists, self._asked = (*fresh, *kept), moment
        return self._lists

    def now(self) -> Trust:
        """Trust with the lists of the directories that are good now."""
        return self.trust_at((), names.now())

    def judge(self, certificate: x509.Certificate, purpose: str) -> None:
        """Raise CertificateRefusedError unless a certificate is good for a purpose now."""
        check_certificate(certificate, self.now(), purpose=purpose)

    def trust_at(self, crls: Sequence[Any], moment: datetime.datetime) -> Trust:
        """Trust with the lists of a message and of the directories that are good at a moment."""
        if self._reload is not None and time.monotonic() - self._loaded > _LISTS_AGE:
            self._loaded = time.monotonic()
            with contextlib.suppress(DicomcryptError, OSError):
                self.trust = self._reload()
        return current_lists(self.trust, (*crls, *self.lists()), moment)

    def signer(
        self, message: signed.SignedMessage, given: x509.Certificate | None
    ) -> tuple[x509.Certificate, str]:
        """Return a message's certificate and where it was found; raises DirectoryError if it was
        found nowhere, UsageError without directories."""
        if given is not None and message.is_of(given):
            return given, "the file that was given"
        inside = message.certificate
        if inside is not None:
            return inside, "the message"
        if self.directories is None or message.issuer is None:
            raise UsageError("the signer's certificate is not inside: give --signer FILE, or "
                             "[directories.NAME] in the configuration")
        found, where = self.directories.identify_sender(
            message.issuer, message.serial, functools.partial(_must_be_of, message)
        )
        return found, f"directory {where.name}"


def _must_be_of(message: signed.SignedMessage, certificate: x509.Certificate) -> None:
    if not message.is_of(certificate):
        raise DamagedError("another certificate of that number")


def open_prescription(
    data: bytes, holder: Holder, sources: Sources, *, doctor: x509.Certificate | None = None,
    patient: x509.Certificate | None = None, identity_document: str = "",
) -> Opened:
    """Decipher a prescription with a holder's key, and check all of it, now and at its signing.

    doctor, patient: their certificates, if they are at hand. identity_document: what the
    pharmacist saw in place of the patient's certificate; it is recorded, and nothing else is.
    Raises NoIdentityError if it is for others, UnsignedError if a signature was taken away,
    DamagedError, CertificateRefusedError, PolicyError for another pharmacy or patient."""
    outer, sealed = _outer(data)
    inner = envelope.open_envelope(sealed, holder)
    if not signed.is_signed(inner):
        raise UnsignedError("the prescription is not signed by a doctor: its signature was taken "
                            "away")
    told = ("encryption", "it was deciphered with the key of certificate "
            f"{names.label(holder.certificate)}")
    opened = check_document(inner, sources, doctor=doctor, live=True)
    opened.checks.insert(0, told)
    _check_authorisation(opened, outer, sealed, sources, patient, identity_document)
    _check_reader(opened, holder)
    return opened


def is_for(data: bytes, certificate: x509.Certificate) -> bool:
    """Whether a prescription is encrypted to a certificate. Raises DamagedError."""
    return envelope.is_for(_outer(data)[1], certificate)


def _outer(data: bytes) -> tuple[signed.SignedMessage | None, bytes]:
    """The signature around the envelope, if there is one, and the envelope."""
    if not signed.is_signed(data):
        return None, data
    outer = signed.parse(data)
    if outer.kind != AUTHORISATION:
        raise DamagedError(f"this is {_article(outer.kind)}, not an encrypted prescription")
    return outer, outer.content


def _article(kind: str) -> str:
    return f"a signed message of kind {kind[:32]!r}" if kind else "a signed message"


def check_document(
    der: bytes, sources: Sources, *, doctor: x509.Certificate | None = None, live: bool = False,
) -> Opened:
    """Check a doctor's signed document, with what it has inside, as of its signing.

    live: as of now, too; without it, a document of years ago is judged by its own revocation
    lists. Raises as `open_prescription`."""
    message = signed.parse(der)
    if message.kind != PRESCRIPTION or message.way not in WAYS:
        raise DamagedError(f"this is {_article(message.kind)}, not a doctor's prescription")
    certificate, where = sources.signer(message, doctor)
    message.verify(certificate)
    now = names.now()
    if message.moment > now + SKEW:
        raise DamagedError(f"the prescription was signed on {day(message.moment)}, which is to "
                           "come: check this machine's clock")
    prescription = document.parse(message.content)
    opened = Opened(prescription, message.way, certificate, der, message.moment)
    say = opened.checks.append
    say(("sender", f"the sender is {names.label(certificate).removeprefix('of ')}, by the "
         f"certificate that {where} has"))
    say(("signature", f"the doctor's signature of {day(message.moment)} is right, for every byte "
         "of the document"))
    trust = sources.trust_at(message.crls, message.moment)
    given = message.certificates
    if certificate not in given and sources.directories is not None:
        given = (*given, *sources.directories.fetch_authorities().all)
    _check_doctor(opened, trust, message.moment, given, "when it was signed")
    if live:
        _check_doctor(opened, sources.trust_at(message.crls, now), now, given, "now")
    if prescription.doctor.email not in addresses(certificate):
        raise DamagedError("the prescription names another doctor than the one who signed it")
    if not hmac.compare_digest(
        message.digests.get(signed.MEDICATIONS, b""), prescription.medication_hash
    ):
        raise DamagedError("the medication list is not the one that the doctor signed: its hash "
                           "is another")
    say(("medications", "the hash of the medication list, computed anew, is the one that was "
         "signed"))
    if prescription.expired(now):
        opened.remarks.append(f"the prescription was good until {prescription.expires}")
    else:
        say(("expiry", f"the prescription is good until {prescription.expires}"))
    return opened


def _check_doctor(
    opened: Opened, trust: Trust, moment: datetime.datetime,
    given: Sequence[x509.Certificate], when: str,
) -> None:
    """Chain, dates, revocation and role, at a moment."""
    checked = check_certificate(
        opened.doctor, trust, purpose="verify-signature", moment=moment, intermediates=given
    )
    decision = rights.require(
        opened.doctor, "prescribe", trust=trust, moment=moment, intermediates=given
    )
    opened.checks.append(("chain", f"{when}, {checked.sentence}"))
    known = [r for r in checked.remarks if r.startswith("not revoked")]
    if known:
        opened.checks.append(("revocation", f"{when}, it was {known[0]}"))
    opened.remarks += [f"{when}, {r}" for r in checked.remarks if r not in known]
    opened.checks.append(("role", f"{when}, {decision.sentence}"))


def _check_authorisation(
    opened: Opened, outer: signed.SignedMessage | None, sealed: bytes, sources: Sources,
    patient: x509.Certificate | None, identity_document: str,
) -> None:
    if opened.way not in SIGNING_WAYS:
        if outer is not None:
            raise DamagedError("the prescription has a signature around it that its doctor did "
                               "not mean it to have")
        return
    if outer is None:
        raise UnsignedError(f"the signature that authorises it ({opened.way}) was taken away")
    require_authorises(outer, opened.signed, sealed, opened.way)
    say = opened.checks.append
    if opened.way == DOCTOR_PRIVATE:
        outer.verify(opened.doctor)
        say(("authorisation", "the doctor's private key authorised this envelope and document"))
        return
    if patient is None and identity_document:
        opened.identity_document = identity_document
        opened.remarks.append("the patient's signature was not verified: an identity document was "
                              "recorded in its place")
        return
    certificate = patient or outer.certificate or _patient_of(opened, outer, sources)
    require_named(certificate, Role.PATIENT, opened.prescription.patient.email)
    outer.verify(certificate)
    if outer.moment > names.now() + SKEW:
        raise DamagedError("the patient's signature is of a time that is to come")
    if outer.moment < opened.moment - SKEW:
        raise DamagedError("the patient's signature is of a time before the doctor's, which it "
                           "authorises")
    trust = sources.trust_at(outer.crls, outer.moment)
    check_certificate(certificate, trust, purpose="verify-signature", role=Role.PATIENT,
                      moment=outer.moment, intermediates=outer.certificates)
    say(("authorisation", f"the patient's private key authorised this envelope and document on "
         f"{day(outer.moment)}"))


def _patient_of(
    opened: Opened, outer: signed.SignedMessage, sources: Sources
) -> x509.Certificate:
    """Look for the patient's certificate in the directories, by the prescription's address."""
    if sources.directories is None:
        raise UsageError("the patient's certificate is needed to verify the patient's signature: "
                         "give --patient-certificate FILE, or record --identity-document TEXT")
    email = opened.prescription.patient.email
    check = functools.partial(_must_be_of, outer)
    found: x509.Certificate = sources.directories.find_by_email(email, check).require().found[0]
    return found


def _check_reader(opened: Opened, holder: Holder) -> None:
    """Whoever opens it as a pharmacist or a patient must be the one that it names."""
    prescription = opened.prescription
    for role, email in ((Role.PHARMACIST, prescription.pharmacy.email),
                        (Role.PATIENT, prescription.patient.email)):
        if holder.role is role:
            require_named(holder.certificate, role, email)
            opened.checks.append(("recipient", f"the prescription names this {role}"))


def require_dispensable(opened: Opened, pharmacist: Holder, trust: Trust) -> None:
    """Raise unless this pharmacist may dispense this prescription now: role, pharmacy, expiry."""
    decision = rights.require(pharmacist.certificate, "dispense", trust=trust,
                              intermediates=pharmacist.chain)
    require_named(pharmacist.certificate, Role.PHARMACIST, opened.prescription.pharmacy.email)
    if opened.prescription.expired(names.now()):
        raise PolicyError(f"the prescription was good until {opened.prescription.expires}: "
                          "it is not dispensed any more")
    opened.checks.append(("dispensing", decision.sentence))
