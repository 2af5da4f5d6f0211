"""`dicomcrypt pki`: its commands are imported when they are used, as those above it."""

from __future__ import annotations

import click

from . import LazyGroup

#: Each command's module of this package, and its variable there if it has another name.
COMMANDS = {
    "init": "pki_authority",
    "request": "pki_files",
    "issue": "pki_authority",
    "renew": "pki_authority",
    "revoke": "pki_authority",
    "crl": "pki_authority",
    "list": "pki_authority:list_command",
    "attribute": "pki_attribute",
    "show": "pki_files",
    "verify": "pki_files",
    "may": "pki_attribute",
    "match": "pki_files",
    "export": "pki_files",
    "publish": "pki_directory",
    "fetch": "pki_directory",
    "find": "pki_directory",
}


@click.group(cls=LazyGroup, modules=COMMANDS, epilog="""\b
Examples:
  dicomcrypt pki init ca/ --organisation "Klinikum Nord"
  dicomcrypt pki request -o anna --name Arzt --first-name Anna --email anna@klinikum.example
  dicomcrypt pki issue anna.csr --ca ca/ --role physician --for both
  dicomcrypt pki verify anna.crt --root ca/root.crt --intermediate ca/issuing.crt
  dicomcrypt pki revoke SERIAL --ca ca/ --reason keyCompromise && dicomcrypt pki crl --ca ca/
""")
def pki() -> None:
    """Certificates: an authority to issue them, and their verification.

    What a certificate carries and every reason to refuse one is in docs/pki.md.
    """
