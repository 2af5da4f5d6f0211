"""`dicomcrypt prescription open`, `verify` and `history`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from . import auditing
from . import options as opt
from . import pki_options as pki
from . import prescription_options as rx

if TYPE_CHECKING:
    from ..prescription.holders import Holder
    from ..prescription.opening import Opened, Sources


@click.command("open", epilog="""\b
Examples:
  dicomcrypt prescription open rx.p7m -k paul.p12
  dicomcrypt prescription open rx.p7m -k max.p12 --html rx.html
  dicomcrypt prescription open rx.p7m -k paul.p12 --document rx.p7s --json
  dicomcrypt prescription open rx.p7m --card --reader "HPJC 00 00" --patient-reader "HPJC 00 01"

\b
With the patient's card beside, what is for the patient alone is deciphered by it, after the
patient's PIN. Otherwise it is read without a PIN, for the certificate that verifies the patient's
signature.
""")
@click.argument("file", metavar="FILE.p7m")
@rx.key
@rx.reading
@click.option("--html", metavar="FILE", help="Write it as a page of HTML.")
@click.option("--bundle", metavar="FILE", help="Write the FHIR bundle.")
@click.option("--document", metavar="FILE.p7s", help="Keep the doctor's signed document, with "
              "certificates and revocation lists: `verify` checks it years later.")
@pki.sources
@opt.force
@rx.style
def open_command(
    file: str, key: str | None, passphrase_file: str | None, signer: str | None,
    patient_certificate: str | None, identity_document: str, html: str | None, bundle: str | None,
    document: str | None, roots: tuple[str, ...], intermediates: tuple[str, ...],
    crls: tuple[str, ...], require_crl: bool, force: bool, as_json: bool, quiet: bool,
) -> None:
    """Decipher a prescription and check everything: sender, chain, dates, revocation, role,
    signature, medication list, authorisation. A sentence says what was checked."""
    from ..prescription.rendering import as_html

    rx.each_its_own(html, bundle, document, file)
    sources = rx.load_sources(roots, intermediates, crls, require_crl)
    holder = rx.load_holder(key, passphrase_file, purpose="decrypt")
    with auditing.job("prescription.open"):
        opened = load_opened(file, holder, sources, signer, patient_certificate,
                             identity_document, rx.load_patient_card())
        for path, content in (
            (html, as_html(opened.prescription).encode() if html is not None else b""),
            (bundle, opened.prescription.data), (document, opened.signed),
        ):
            if path is not None:
                rx.write(path, content, force=force)
    rx.show(opened, as_json=as_json, quiet=quiet)


def load_opened(
    file: str, holder: Holder, sources: Sources, signer: str | None,
    patient_certificate: str | None, identity_document: str, card: Sequence[Holder] = (),
) -> Opened:
    """Open a prescription's file. card: the patient's, as `rx.load_patient_card` gives it."""
    from ..prescription.opening import is_for, open_prescription

    doctors = rx.load_certificates(signer)
    patients = rx.load_certificates(patient_certificate)
    if bool(patients) + bool(identity_document) + bool(card) > 1:
        raise UsageError("the patient's card, --patient-certificate and --identity-document: give "
                         "one of them")
    data = rx.read_message(file)
    if card:
        patients = [card[0].certificate]
        holder = holder if is_for(data, holder.certificate) else card[1]
    return open_prescription(
        data, holder, sources, doctor=doctors[0] if doctors else None,
        patient=patients[0] if patients else None, identity_document=identity_document,
    )


@click.command(epilog="""\b
Examples:
  dicomcrypt prescription verify rx.p7s
  dicomcrypt prescription verify receipt.p7m -k anna.p12 --of rx.p7s
  dicomcrypt prescription verify receipt.p7m --card --of rx.p7s
""")
@click.argument("file", metavar="FILE")
@rx.key
@click.option("--signer", metavar="FILE", help="The doctor's certificate, if it is not inside.")
@click.option("--of", "document", metavar="FILE.p7s",
              help="The signed document that a receipt must be of.")
@pki.sources
@rx.style
def verify(
    file: str, key: str | None, passphrase_file: str | None, signer: str | None,
    document: str | None, roots: tuple[str, ...], intermediates: tuple[str, ...],
    crls: tuple[str, ...], require_crl: bool, as_json: bool, quiet: bool,
) -> None:
    """Verify a doctor's signed document, or a receipt.

    A document is judged as of its signing, by the certificates and revocation lists inside: so it
    can be checked years later.
    """
    from ..prescription import envelope, receipts
    from ..prescription.opening import check_document
    from .console import print_json

    sources = rx.load_sources(roots, intermediates, crls, require_crl)
    certificates = rx.load_certificates(signer)
    doctor = certificates[0] if certificates else None
    data = rx.read_message(file)
    if not envelope.is_envelope(data):
        rx.show(check_document(data, sources, doctor=doctor), as_json=as_json, quiet=quiet)
        return
    if key is None and not opt.card_wanted():
        raise UsageError(f"{file!r} is encrypted: give --key or --card, or open a "
                         "prescription with `prescription open`")
    opened: Opened | None = None
    if document is not None:
        opened = check_document(rx.read_message(document), sources, doctor=doctor)
    told = receipts.open_receipt(
        data, rx.load_holder(key, passphrase_file, purpose="decrypt"), sources, opened
    )
    if as_json:
        print_json({"checks": [{"check": w, "sentence": s} for w, s in told.checks],
                    "receipt": told.receipt.as_json()})
        return
    if not quiet:
        rx.say_checks(told.checks)
    click.echo(f"dispensed {told.receipt.dispensed}: {told.receipt.serial}, number "
               f"{told.receipt.register_number} of the register")


@click.command(epilog="""\b
Examples:
  dicomcrypt prescription history inbox/ -k max.p12
  dicomcrypt prescription history inbox/ --card
  dicomcrypt prescription history inbox/ -k max.p12 --register 127.0.0.1:8443 \\
      --tls-identity max-tls.pem --json
""")
@click.argument("folder", metavar="FOLDER")
@rx.key
@rx.register
@pki.sources
@rx.style
def history(
    folder: str, key: str | None, passphrase_file: str | None, register: str | None,
    tls_identity: str | None, tls_passphrase_file: str | None, roots: tuple[str, ...],
    intermediates: tuple[str, ...], crls: tuple[str, ...], require_crl: bool, as_json: bool,
    quiet: bool,
) -> None:
    """List the earlier prescriptions of a folder that a key opens, with their receipts.

    With --register its word on each of them stands beside.
    """
    from ..prescription import history as past
    from .console import print_json, print_table, say

    sources = rx.load_sources(roots, intermediates, crls, require_crl)
    holder = rx.load_holder(key, passphrase_file, purpose="decrypt")
    found = past.read(folder, holder, sources)
    rows = [one.as_json() for one in found.found]
    if register is not None:
        client = rx.load_register(register, tls_identity, tls_passphrase_file, sources)
        for row, one in zip(rows, found.found, strict=True):
            row["status"] = client.status(row["serial"], one.opened.doctor).status
    if as_json:
        print_json({"prescriptions": rows, "for_others": found.others,
                    "refused": [{"file": f, "message": m} for f, m in found.refused]})
        return
    if rows:
        print_table(
            [(r["signed"][:10], r["doctor"], ", ".join(r["medications"]), r["expires"],
              r.get("status") or ("dispensed" if r["dispensed"] else ""),
              (r["dispensed"] or "")[:10]) for r in rows],
            ("signed", "doctor", "medications", "good until", "status", "receipt"),
        )
    for name, message in found.refused:
        say(f"refused: {name}: {message}")
    if not quiet:
        say(f"{len(rows)} prescriptions, {found.others} files for others")
