"""`dicomcrypt card cert`: the certificates in a card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import DamagedError, DirectoryError, UsageError
from . import auditing, outputs, trust
from . import options as opt

if TYPE_CHECKING:
    from cryptography import x509

#: The files by the short names of the command line.
FILES = {name.rpartition(".")[2]: name for name in (
    "EF.CERT.SIG", "EF.CERT.DEC", "EF.CERT.AUT", "EF.CERT.AUTHORISATION", "EF.CERT.CA",
    "EF.PUBLIC.CERT.INSU", "EF.PUBLIC.CERT.PHAR", "EF.PUBLIC.CERT.DOC", "EF.PUBLIC.CERT.HOSP",
)}  # fmt: skip
_PURPOSES = {"SIG": "sign", "DEC": "encrypt", "AUT": "tls-client", "AUTHORISATION": "any"}
_PARTNERS = ["insurance", "pharmacist", "physician", "hospital"]


@click.group(epilog="""\b
Examples:
  dicomcrypt card cert list
  dicomcrypt card cert export DEC -o anna.crt
  dicomcrypt card cert import apotheke.crt --file PHAR
  dicomcrypt card cert fetch --role pharmacist --email post@apotheke.example
""")
def cert() -> None:
    """The certificates in a card: its own, its authority's, and its partners'."""


@cert.command("list", epilog="""\b
Examples:
  dicomcrypt card cert list
  dicomcrypt card cert list --json
""")
@opt.card_place
@opt.as_json
def list_command(as_json: bool) -> None:
    """List them."""
    from ..pki import names
    from .card_options import open_card
    from .console import print_json, print_table

    session = open_card()
    told: dict[str, dict[str, Any] | None] = {}
    rows = []
    for short, name in FILES.items():
        if name not in session.certificate_files():
            continue
        try:
            found = session.certificate(name)
        except DamagedError:
            told[short] = {"damaged": True}
            rows.append((short, "damaged", "-"))
            continue
        told[short] = None if found is None else names.facts(found).as_json()
        rows.append((short, "-", "-") if found is None else
                    (short, names.label(found), f"{found.not_valid_after_utc:%Y-%m-%d}"))
    if as_json:
        print_json(told)
    else:
        print_table(rows, ("file", "certificate", "until"))


@cert.command(epilog="""\b
Examples:
  dicomcrypt card cert export DEC -o anna.crt
  dicomcrypt encrypt ct.dcm -r anna.crt
""")
@click.argument("file", type=click.Choice(list(FILES), case_sensitive=False))
@opt.card_place
@click.option("-o", "--output", required=True, metavar="FILE", help="Where it goes, in PEM.")
@opt.force
@opt.hushed
def export(file: str, output: str, force: bool) -> None:
    """Write a certificate of the card to a file."""
    from ..pki import files
    from .card_options import open_card
    from .console import say

    outputs.not_there(output, force)
    session = open_card()
    found = session.certificate(FILES[file])
    if found is None:
        raise UsageError(f"card {session.name}: there is no certificate in {FILES[file]}")
    outputs.write_public(output, files.pem([found]), force=force)
    say(f"certificate: {output}")


@cert.command("import", epilog="""\b
Examples:
  dicomcrypt card cert import anna.crt --file DEC
  dicomcrypt card cert import apotheke.crt --file PHAR --trust-root ca/root.crt
""")
@click.argument("path", metavar="CERTIFICATE")
@click.option("--file", required=True, help="Which file of the card.",
              type=click.Choice([name for name in FILES if name != "CA"], case_sensitive=False))
@opt.card_place
@opt.pin
@trust.option
@opt.hushed
def import_command(path: str, file: str) -> None:
    """Put a certificate into the card, once it was judged: it must be valid, for what the file is
    for, and of the card's key or the partner's role. Needs the PIN."""
    from ..pki import files

    found, *between = files.load_certificates(path)
    _put(file, found, between)


def _put(file: str, certificate: x509.Certificate, between: Sequence[x509.Certificate]) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    from ..card.profile import PARTNER_FILES, Slot
    from ..pki import names
    from ..pki.checking import Trust, check_certificate
    from ..pki.gate import matches
    from .card_options import give_pin, open_card
    from .console import say

    session = open_card()
    roles = {name: role for role, name in PARTNER_FILES.items()}
    if file in tuple(Slot) and not matches(session.public_key(Slot(file)), certificate):
        raise UsageError(f"the certificate is not of the card's key {file}")
    authority = session.certificate("EF.CERT.CA")
    if authority is None and file not in tuple(Slot) and trust.trusted() is None:
        raise UsageError("nobody vouches for this certificate: the card has no EF.CERT.CA; give "
                         "--trust-root FILE, or name a root under [trust] in the configuration")
    check_certificate(
        certificate, trust.trusted() or Trust((authority or certificate,)),
        purpose=_PURPOSES.get(file, "encrypt"), role=roles.get(FILES[file]), intermediates=between,
    )  # fmt: skip
    give_pin(session)
    with auditing.job("card.certificate"):
        session.update(FILES[file], certificate.public_bytes(Encoding.DER))
    say(f"card {session.name}: {names.label(certificate)} is in {FILES[file]}")


@cert.command(epilog="""\b
Examples:
  dicomcrypt card cert fetch --role pharmacist --email post@apotheke.example
  dicomcrypt card cert fetch --role hospital --name "Klinikum Nord"
""")
@click.option("--role", required=True, type=click.Choice(_PARTNERS), help="What the partner is.")
@click.option("--email", metavar="ADDRESS", help="By e-mail address.")
@click.option("--name", metavar="NAME", help="By name.")
@opt.card_place
@opt.pin
@trust.option
@opt.hushed
def fetch(role: str, email: str | None, name: str | None) -> None:
    """Put a partner's certificate into the card, out of the configured directories.

    It is judged as by `cert import`: a directory is not trusted.
    """
    from ..card.profile import PARTNER_FILES
    from ..pki import names
    from ..pki.directory import configured

    if (email is None) == (name is None):
        raise UsageError("give one of --email and --name")
    directories, check = configured(), trust.directory_check()
    scan = (directories.find_by_email(email, check) if email is not None
            else directories.find_by_name(name or "", check)).require()
    fitting = [c for c in scan.found if names.facts(c).role == role]
    if not fitting:
        raise DirectoryError(f"the directories have no certificate of {email or name!r} that "
                             f"states the role {role}")
    newest = max(fitting, key=lambda c: c.not_valid_before_utc)
    _put(PARTNER_FILES[names.Role(role)].rpartition(".")[2], newest, [])
