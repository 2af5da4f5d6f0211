"""`dicomcrypt prescription`: its commands are imported when they are used."""

from __future__ import annotations

import click

from . import LazyGroup

#: Each command's module of this package, and its variable there if it has another name.
COMMANDS = {
    "new": "prescription_write",
    "show": "prescription_write",
    "sign": "prescription_write",
    "send": "prescription_mail",
    "fetch": "prescription_mail",
    "open": "prescription_read:open_command",
    "verify": "prescription_read",
    "dispense": "prescription_dispense",
    "cancel": "prescription_dispense",
    "history": "prescription_read",
    "register": "prescription_serve",
    "patient-agent": "prescription_serve",
}


@click.group(cls=LazyGroup, modules=COMMANDS, epilog="""\b
Examples:
  dicomcrypt prescription new --template rx.toml -o rx.json
  dicomcrypt prescription sign rx.json -k anna.p12 --way pharmacist-public-key \\
      --pharmacist paul.crt -o rx.p7m
  dicomcrypt prescription send rx.p7m -k anna.p12 --to loewe@pharmacy.example \\
      --smtp smtp.clinic.example:587
  dicomcrypt prescription fetch Maildir -o inbox/
  dicomcrypt prescription open inbox/7f3a.p7m -k paul.p12
  dicomcrypt prescription dispense inbox/7f3a.p7m -k paul.p12 --register 127.0.0.1:8443 \\
      --tls-identity shop.pem --receipt receipt.p7m

\b
Four ways: patient-public-key and pharmacist-public-key encrypt. doctor-private-key and
patient-private-key hide NOTHING: whoever has the public key can undo what a private key did. They
are signatures that authorise, around an envelope that is encrypted to the pharmacist or patient.
""")
def prescription() -> None:
    """Electronic prescriptions, from the doctor's key to the pharmacist's.

    What each check says, the four ways and the formats are in docs/prescription.md.
    """
