"""`standard`: what the DICOM standard itself defines for security (PS3.15)."""

from __future__ import annotations

import click

from . import LazyGroup

COMMANDS = {
    "protect": "standard_protect",
    "reveal": "standard_protect",
    "wrap": "standard_file",
    "unwrap": "standard_file",
    "sign": "standard_sign",
    "verify": "standard_sign",
    "audit": "standard_audit",
}


@click.group(cls=LazyGroup, modules=COMMANDS, epilog="""\b
Examples:
  dicomcrypt standard protect study/ -r doctor.pem -o shared/
  dicomcrypt standard reveal shared/ -i doctor-key.pem -o back/
""")
def standard() -> None:
    """The DICOM standard's own security, readable by other tools.

    docs/standard.md says what each command makes, docs/conformance.md what conforms.
    """
