"""The four ways of the source paper to protect a prescription (docs/prescription.md).

In all of them the doctor signs the document, and the signed document goes under a fresh symmetric
key. That key is wrapped with public keys. The two private-key ways cannot hide anything: each is a
further signature, over the envelope, that authorises it.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from cryptography import x509

from ..errors import DamagedError, PolicyError, UsageError
from ..keys.x509 import addresses
from ..pki import names, rights
from ..pki.checking import Trust, check_certificate
from ..pki.names import Role
from . import envelope, signed
from .document import Prescription
from .holders import Holder

DOCTOR_PRIVATE, PATIENT_PUBLIC = "doctor-private-key", "patient-public-key"
PATIENT_PRIVATE, PHARMACIST_PUBLIC = "patient-private-key", "pharmacist-public-key"
WAYS = (DOCTOR_PRIVATE, PATIENT_PUBLIC, PATIENT_PRIVATE, PHARMACIST_PUBLIC)
#: The ways that authorise by a signature over the envelope.
SIGNING_WAYS = (DOCTOR_PRIVATE, PATIENT_PRIVATE)
PRESCRIPTION, AUTHORISATION = "prescription", "authorisation"

#: Gets the signed document and the envelope, and returns the patient's authorisation.
Authorise = Callable[[bytes, bytes], bytes]


class Protected(NamedTuple):
    """data: what is sent. document: the doctor's signed document, which is for who may read it."""

    data: bytes
    document: bytes


def protect(
    prescription: Prescription, doctor: Holder, way: str, *, trust: Trust,
    pharmacist: x509.Certificate | None = None, patient: x509.Certificate | None = None,
    copies: Iterable[x509.Certificate] = (), authorise: Authorise | None = None,
    crls: Sequence[x509.CertificateRevocationList] = (), certificates: bool = True,
) -> Protected:
    """Sign a prescription as its doctor, and encrypt it in one of the four ways.

    pharmacist, patient: certificates to encrypt to. copies: of who else may read it. authorise:
    for the patient's private key, what asks the patient's card or program; the PIN goes there and
    never here. crls: revocation lists that are kept in the signature. certificates: whether the
    doctor's is inside. Raises CertificateRefusedError for certificates that are not taken,
    PolicyError for another's document and for the patient's private key without `authorise`."""
    if way not in WAYS:
        raise UsageError(f"{way!r} is no way to protect a prescription; there are "
                         f"{', '.join(WAYS)}")
    if way == PATIENT_PRIVATE and authorise is None:
        raise PolicyError(
            "the patient's private key signs in the patient's own program or at a reader with a "
            "PIN pad, so that the PIN never gets here: give --patient-agent, or take another way"
        )
    if way == PATIENT_PUBLIC and patient is None:
        raise UsageError("the patient's certificate is needed: give --patient")
    if way == PHARMACIST_PUBLIC and pharmacist is None:
        raise UsageError("the pharmacist's certificate is needed: give --pharmacist")
    recipients = [c for c in (pharmacist, patient) if c is not None]
    if not recipients:
        raise UsageError("a signature hides nothing: give --pharmacist or --patient to encrypt to")
    rights.require(doctor.certificate, "prescribe", trust=trust, intermediates=doctor.chain)
    if prescription.doctor.email not in doctor.emails:
        raise PolicyError("the prescription names another doctor than the one who signs it")
    for certificate, role, email in (
        (pharmacist, Role.PHARMACIST, prescription.pharmacy.email),
        (patient, Role.PATIENT, prescription.patient.email),
    ):
        if certificate is not None:
            check_certificate(certificate, trust, purpose="encrypt", role=role)
            require_named(certificate, role, email)
    copied = list(copies)
    for certificate in copied:
        check_certificate(certificate, trust, purpose="encrypt")
    if prescription.expired(names.now()):
        raise PolicyError("the prescription has expired: make a new one")
    document = signed.sign(
        prescription.data, doctor, PRESCRIPTION,
        attributes={signed.WAY: way, signed.MEDICATIONS: prescription.medication_hash},
        crls=crls, certificates=certificates,
    )
    sealed = envelope.seal(document, [*recipients, *copied])
    if way == DOCTOR_PRIVATE:
        outer = authorisation(document, sealed, way, doctor, crls=crls, certificates=certificates)
        return Protected(outer, document)
    if way == PATIENT_PRIVATE and authorise is not None:
        outer = authorise(document, sealed)
        require_authorises(signed.parse(outer), document, sealed, way)
        return Protected(outer, document)
    return Protected(sealed, document)


def authorisation(
    document: bytes, sealed: bytes, way: str, holder: Holder, *, certificates: bool = True,
    crls: Sequence[x509.CertificateRevocationList] = (),
) -> bytes:
    """Return an envelope, signed by who authorises it. The signature names the signed document
    inside by its SHA-256, so that no other can be put there; without certificates it names the
    signer by the identifier of the key."""
    return signed.sign(
        sealed, holder, AUTHORISATION, certificates=certificates, named=certificates, crls=crls,
        attributes={signed.WAY: way, signed.DOCUMENT: hashlib.sha256(document).digest()},
    )


def require_authorises(
    outer: signed.SignedMessage, document: bytes, sealed: bytes, way: str
) -> None:
    """Raise DamagedError unless a signature, by whomever, is over this envelope and document."""
    digest = outer.digests.get(signed.DOCUMENT, b"")
    if (outer.kind != AUTHORISATION or outer.way != way or outer.content != sealed
            or not hmac.compare_digest(digest, hashlib.sha256(document).digest())):
        raise DamagedError("the signature that authorises the prescription is of something else")


def require_named(certificate: x509.Certificate, role: Role, email: str) -> None:
    """Raise PolicyError unless a certificate has the address that the prescription names."""
    if email not in addresses(certificate):
        who = "pharmacy" if role is Role.PHARMACIST else str(role)
        raise PolicyError(f"certificate {names.label(certificate)} is not of the {who} that the "
                          "prescription names")


def current_lists(trust: Trust, crls: Iterable[Any], moment: datetime.datetime) -> Trust:
    """Trust with further revocation lists, those that are past their end at a moment left out."""
    fresh = [c for c in crls if c.next_update_utc is not None and c.next_update_utc >= moment]
    return dataclasses.replace(trust, crls=(*trust.crls, *fresh))
