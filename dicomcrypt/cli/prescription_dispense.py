"""`dicomcrypt prescription dispense` and `cancel`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from . import auditing, outputs
from . import options as opt
from . import pki_options as pki
from . import prescription_options as rx
from .prescription_read import load_opened

if TYPE_CHECKING:
    from cryptography import x509

    from ..prescription.holders import Holder
    from ..prescription.opening import Opened, Sources
    from ..prescription.register import Client, Entry


@click.command(epilog="""\b
Examples:
  dicomcrypt prescription dispense rx.p7m -k paul.p12 --register 127.0.0.1:8443 \\
      --tls-identity shop.pem --receipt receipt.p7m
  dicomcrypt prescription dispense rx.p7m -k paul.p12 -i max.p12 --register 127.0.0.1:8443 \\
      --tls-identity shop.pem --receipt receipt.p7m
  dicomcrypt prescription dispense rx.p7m --card --reader "HPJC 00 00" \\
      --patient-reader "HPJC 00 01" --register 127.0.0.1:8443 --tls-identity shop.pem \\
      --receipt receipt.p7m

\b
If the register's answer is lost, the same command with the same --receipt goes on: the statement
that was sent is kept beside it (RECEIPT.statement) until the receipt is there.
""")
@click.argument("file", metavar="FILE.p7m")
@rx.key
@rx.identity
@rx.reading
@rx.register
@click.option("--receipt", required=True, metavar="FILE.p7m",
              help="The receipt, signed, encrypted to the doctor and the patient.")
@click.option("--patient", metavar=rx.CERTIFICATE, help="Encrypt the receipt to the patient, too; "
              "--patient-certificate, the patient's card and -i do so as well.")
@pki.sources
@opt.force
@rx.style
def dispense(
    file: str, key: str | None, passphrase_file: str | None, identity: str | None,
    identity_passphrase_file: str | None, signer: str | None, patient_certificate: str | None,
    identity_document: str, register: str | None, tls_identity: str | None,
    tls_passphrase_file: str | None, receipt: str, patient: str | None, roots: tuple[str, ...],
    intermediates: tuple[str, ...], crls: tuple[str, ...], require_crl: bool, force: bool,
    as_json: bool, quiet: bool,
) -> None:
    """Dispense a prescription, once: check it, have the register note it, make the receipt.

    A second try, here or elsewhere, is refused by the register.
    """
    from ..prescription import receipts
    from ..prescription.opening import require_dispensable

    if register is None:
        raise UsageError("dispensing needs the register: give --register HOST:PORT")
    rx.each_its_own(receipt, f"{receipt}.statement", file)
    outputs.not_there(receipt, force)
    sources = rx.load_sources(roots, intermediates, crls, require_crl)
    pharmacist, own = rx.load_holders(key, passphrase_file, "sign", "decrypt")
    card = rx.load_patient_card()
    reader, beside = own, card[1:]
    if identity is not None:
        reader = rx.load_key(identity, identity_passphrase_file, "decrypt")[0]
        beside = [reader]
    with auditing.job("prescription.dispense"):
        opened = load_opened(file, reader, sources, signer, patient_certificate,
                             identity_document, card)
        require_dispensable(opened, pharmacist, sources.now())
        told = _patient(opened, sources,
                        rx.load_recipients(patient or patient_certificate, sources), beside)
        doctor = receipts.doctor_reader(opened, sources)
        if doctor is None:
            opened.remarks.append("the doctor cannot read the receipt: no certificate of the "
                                  "doctor's to encrypt to was found")
        client = rx.load_register(register, tls_identity, tls_passphrase_file, sources)
        entry = _note(client, opened, pharmacist, f"{receipt}.statement")
        readers = [c for c in (own.certificate, doctor, told) if c is not None]
        made = receipts.make(opened, entry, pharmacist, readers=readers)
        rx.write(receipt, made, force=force)
        os.unlink(f"{receipt}.statement")
    opened.checks.append(("register", f"the register noted it as number {entry.number}: it is "
                          "dispensed, and never again"))
    rx.show(opened, as_json=as_json, quiet=quiet, receipt=receipt, register=entry.as_json())


def _patient(
    opened: Opened, sources: Sources, given: Sequence[x509.Certificate], beside: Iterable[Holder]
) -> x509.Certificate | None:
    """Return the certificate to encrypt the receipt to for the patient, None if there is none.
    beside: who deciphers beside the pharmacist."""
    from ..pki.checking import check_certificate
    from ..pki.names import Role
    from ..prescription.protecting import require_named

    certificate: x509.Certificate | None = None
    between: Sequence[x509.Certificate] = ()
    if given:
        certificate, between = given[0], given[1:]
    for holder in beside:
        if certificate is None and holder.role is Role.PATIENT:
            certificate, between = holder.certificate, holder.chain
    if certificate is not None:
        check_certificate(certificate, sources.now(), purpose="any", role=Role.PATIENT,
                          intermediates=between)
        require_named(certificate, Role.PATIENT, opened.prescription.patient.email)
    return certificate


def _note(client: Client, opened: Opened, pharmacist: Holder, path: str) -> Entry:
    """Have the register note a dispensing; a statement that was left by a try before is the one
    that is sent, so that an answer that was lost is given again."""
    from ..errors import PolicyError
    from ..prescription import register, signed

    statement = register.dispensing(opened.prescription.serial, opened.doctor, pharmacist)
    if os.path.exists(path):
        kept = rx.read_message(path)
        if (_about(kept), signed.parse(kept).certificate) != (
            _about(statement), pharmacist.certificate
        ):
            raise UsageError(f"{path!r} is of another prescription, which was not finished: do "
                             "that first, or choose another --receipt")
        statement = kept
    rx.write(path, statement, force=True)
    try:
        return client.state(statement)
    except PolicyError:
        os.unlink(path)
        raise


def _about(statement: bytes) -> tuple[str, str]:
    """What a statement is about, without its nonce."""
    import json

    from ..prescription import signed

    said = json.loads(signed.parse(statement).content)
    return said["serial"], said["doctor"]


@click.command(epilog="""\b
Examples:
  dicomcrypt prescription cancel urn:uuid:2f0c... -k anna.p12 --register 127.0.0.1:8443 \\
      --tls-identity clinic.pem
  dicomcrypt prescription cancel urn:uuid:2f0c... --card --register 127.0.0.1:8443 \\
      --tls-identity clinic.pem --of rx.p7s

\b
The key must be the one that signed the prescription: the register knows no names, and notes what
another key cancels as another prescription. With --of this is checked before.
""")
@click.argument("serial", metavar="SERIAL")
@rx.key
@click.option("--of", "document", metavar="FILE.p7s",
              help="The signed document, which must be of this serial number and key.")
@rx.register
@pki.sources
@rx.style
def cancel(
    serial: str, key: str | None, passphrase_file: str | None, document: str | None,
    register: str | None, tls_identity: str | None, tls_passphrase_file: str | None,
    roots: tuple[str, ...], intermediates: tuple[str, ...], crls: tuple[str, ...],
    require_crl: bool, as_json: bool, quiet: bool,
) -> None:
    """Cancel a prescription, as the doctor who made it, before it is dispensed."""
    from ..prescription.document import is_serial
    from ..prescription.register import cancellation
    from .console import print_json, say

    if register is None:
        raise UsageError("cancelling needs the register: give --register HOST:PORT")
    if not is_serial(serial):
        raise UsageError("a serial number is urn:uuid: and 36 digits and dashes")
    sources = rx.load_sources(roots, intermediates, crls, require_crl)
    doctor = rx.load_holder(key, passphrase_file)
    if document is not None:
        _require_of(rx.read_message(document), sources, serial, doctor)
    client = rx.load_register(register, tls_identity, tls_passphrase_file, sources)
    with auditing.job("prescription.cancel"):
        entry = client.state(cancellation(serial, doctor))
    if as_json:
        print_json({"serial": serial, **entry.as_json()})
    elif not quiet:
        say(f"cancelled: {serial}")


def _require_of(document: bytes, sources: Sources, serial: str, doctor: Holder) -> None:
    """Raise PolicyError unless a signed document is of a serial number and of a doctor's key."""
    from ..errors import PolicyError
    from ..prescription.opening import check_document
    from ..prescription.register import key_hash

    opened = check_document(document, sources, doctor=doctor.certificate)
    if opened.prescription.serial != serial:
        raise PolicyError("the signed document is of another serial number: nothing is cancelled")
    if key_hash(opened.doctor) != key_hash(doctor.certificate):
        raise PolicyError("the prescription was signed with another key, which alone cancels it: "
                          "nothing is cancelled")
