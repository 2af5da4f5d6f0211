"""The receipt: a pharmacist's signed word that a prescription was dispensed, encrypted to those
who may know."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from ..errors import CertificateRefusedError, DamagedError
from ..keys.x509 import addresses
from ..pki import names, rights
from ..pki.checking import check_certificate
from ..pki.names import Role
from ..pki.profiles import usage_problem
from ..pki.revocation import SKEW
from . import envelope, signed
from .document import is_serial
from .holders import Holder
from .opening import Opened, Sources
from .protecting import WAYS, require_named
from .register import Entry

RECEIPT = "receipt"


@dataclass(frozen=True)
class Receipt:
    """What a receipt says. digest: SHA-256 of the doctor's signed document, in hexadecimal."""

    serial: str
    digest: str
    medication_hash: str
    way: str
    register_number: int
    dispensed: str
    identity_document: str = field(default="", repr=False)

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class OpenedReceipt:
    receipt: Receipt
    pharmacist: x509.Certificate
    moment: datetime.datetime
    checks: list[tuple[str, str]]


def make(
    opened: Opened, entry: Entry, pharmacist: Holder, *,
    readers: Iterable[x509.Certificate] = (), crls: Iterable[Any] = (),
) -> bytes:
    """Return the receipt of a prescription that the register noted, encrypted to its doctor, the
    pharmacist and the readers, by those of their certificates that are for that."""
    prescription = opened.prescription
    receipt = Receipt(
        prescription.serial, opened.digest.hex(), prescription.medication_hash.hex(), opened.way,
        entry.number, entry.moment.isoformat() if entry.moment else "", opened.identity_document,
    )
    said = signed.sign(json.dumps(receipt.as_json()).encode(), pharmacist, RECEIPT, crls=crls)
    wanted = [opened.doctor, pharmacist.certificate, *readers]
    return envelope.seal(said, [c for c in wanted if usage_problem(c, "encrypt") is None])


def doctor_reader(opened: Opened, sources: Sources) -> x509.Certificate | None:
    """Return the certificate to encrypt to a prescription's doctor: the signer's, if it is for that
    (a card has one for each use); another of this doctor's that lies in the signed document; or
    from the directories. None if there is none."""
    trust, inside = sources.now(), signed.parse(opened.signed).certificates
    email = opened.prescription.doctor.email

    def check(certificate: x509.Certificate) -> None:
        check_certificate(certificate, trust, purpose="encrypt", role=Role.PHYSICIAN,
                          intermediates=inside)
        if email not in addresses(certificate):
            raise DamagedError("another doctor's certificate")

    for certificate in (opened.doctor, *inside):
        if email in addresses(certificate) and usage_problem(certificate, "encrypt") is None:
            with contextlib.suppress(CertificateRefusedError, DamagedError):
                check(certificate)
                return certificate
    if sources.directories is None:
        return None
    return next(iter(sources.directories.find_by_email(email, check).all), None)


def open_receipt(
    data: bytes, holder: Holder, sources: Sources, opened: Opened | None = None
) -> OpenedReceipt:
    """Decipher and verify a receipt. opened: the prescription that it must be of.

    Raises as `opening.open_prescription`; DamagedError if it is of another prescription."""
    return verify_receipt(envelope.open_envelope(data, holder), sources, opened)


def verify_receipt(
    der: bytes, sources: Sources, opened: Opened | None = None
) -> OpenedReceipt:
    """Verify a receipt that is deciphered."""
    message = signed.parse(der)
    if message.kind != RECEIPT:
        raise DamagedError("this is no receipt")
    certificate, where = sources.signer(message, None)
    message.verify(certificate)
    try:
        said = json.loads(message.content)
        receipt = Receipt(**said)
        _check(receipt)
    except (ValueError, TypeError, RecursionError):
        raise DamagedError("the receipt is not as it must be") from None
    if message.moment > names.now() + SKEW:
        raise DamagedError("the receipt was signed at a time that is to come: check this machine's "
                           "clock")
    trust = sources.trust_at(message.crls, message.moment)
    decision = rights.require(certificate, "dispense", trust=trust, moment=message.moment,
                              intermediates=message.certificates)
    checks = [
        ("sender", f"the receipt is of {names.label(certificate).removeprefix('of ')}, by the "
         f"certificate that {where} has"),
        ("signature", "the pharmacist's signature is right"),
        ("role", f"when it was signed, {decision.sentence}"),
    ]
    told = OpenedReceipt(receipt, certificate, message.moment, checks)
    if opened is not None:
        require_of(told, opened)
        checks.append(("prescription", "the receipt is of this prescription and its medications"))
    return told


def _check(receipt: Receipt) -> None:
    """Raise TypeError or ValueError for values that are none of a receipt's."""
    for name, value in vars(receipt).items():
        if type(value) is not (int if name == "register_number" else str):
            raise TypeError(name)
    bytes.fromhex(receipt.digest + receipt.medication_hash)
    if not is_serial(receipt.serial) or receipt.way not in WAYS:
        raise ValueError
    if not receipt.dispensed.isprintable():  # fromisoformat takes any separator
        raise ValueError
    if receipt.dispensed:
        datetime.datetime.fromisoformat(receipt.dispensed)


def require_of(told: OpenedReceipt, opened: Opened) -> None:
    """Raise DamagedError unless a receipt is of this prescription, PolicyError unless it is of the
    pharmacy that the prescription names."""
    receipt, prescription = told.receipt, opened.prescription
    if (receipt.digest, receipt.serial, receipt.medication_hash, receipt.way) != (
        opened.digest.hex(), prescription.serial, prescription.medication_hash.hex(), opened.way
    ):
        raise DamagedError("the receipt is of another prescription")
    require_named(told.pharmacist, Role.PHARMACIST, opened.prescription.pharmacy.email)
