"""`dicomcrypt card init` and `emulate`: cards are made, and software cards put into readers."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import UsageError
from . import auditing, outputs
from . import options as opt
from . import pki_options as pko
from .card_pin import new_secret

if TYPE_CHECKING:
    from cryptography import x509

    from ..card.personal import Deliver
    from ..card.profile import Slot
    from ..pki.names import Subject


@click.command(epilog="""\b
Examples:
  dicomcrypt card init --ca ca/ --role physician --name Arzt --first-name Anna
  dicomcrypt card init --ca ca/ --role patient --name Muster --first-name Max --reader "00 01"
  dicomcrypt card init --requests out/ --authority ca.pem --role pharmacist --name Apotheke
  dicomcrypt card init --card-file doctor.hpjc --ca ca/ --role physician --name Arzt \\
      --first-name Anna                                 makes the software card, too

\b
With --requests another authority issues: give it out/SIG.csr, DEC.csr and AUT.csr, for signing,
encryption and tls-client, and put what it returns into the card with `card cert import`.
""")
@click.option("--ca", "folder", metavar="FOLDER", help="The authority's folder, which issues the "
              "three certificates.")
@click.option("--requests", metavar="FOLDER", help="Write requests for certificates there instead.")
@click.option("--authority", metavar="FILE", help="With --requests: the certificate of the "
              "authority whose certificates the card takes as those of its partners.")
@click.option("--role", type=click.Choice([r for r in pko.ROLES if r != "application"]),
              required=True, help="What the holder is.")
@pko.holder
@pko.dates
@click.option("--iccsn", metavar="DIGITS", help="The card's number, 20 digits; by default random.")
@click.option("--type", "kind", type=click.Choice(["rsa-3072", "p256"]), default="p256",
              show_default=True, help="Kind of the keys.")
@opt.card_place
@click.option("--pin-file", metavar="FILE", help="Take the new PIN from a file's first line.")
@click.option("--puk-file", metavar="FILE", help="Take the new PUK from a file's first line.")
@opt.passphrase
@opt.force
@opt.hushed
def init(
    folder: str | None, requests: str | None, authority: str | None, role: str, name: str | None,
    first_name: str | None, organisation: str | None, department: str | None, email: str | None,
    begin: datetime | None, end: datetime | None, days: int | None, iccsn: str | None, kind: str,
    pin_file: str | None, puk_file: str | None, ask: bool, passphrase_file: str | None, force: bool,
) -> None:
    """Personalise an empty card: it makes its keys, and gets PIN, PUK and certificates.

    The PIN has 6 to 12 digits, the PUK 8 to 12. The passphrase is the authority's. What was
    interrupted is begun anew by the same command, until the card is in operation.
    """
    from ..card.personal import new_iccsn, personalise
    from ..card.profile import CardRole, KeyKind
    from ..pki import files, names
    from .card_options import open_card
    from .console import say

    if (folder is None) == (requests is None):
        raise UsageError("give one of --ca and --requests")
    if authority is not None and folder is not None:
        raise UsageError("--authority goes with --requests: with --ca it is known")
    subject = names.Subject(name or "", first_name or "", organisation or "", department or "",
                            email or "", names.Role(role))
    begin, end = pko.span(begin, end, days)
    session = open_card(role=CardRole.PATIENT if role == "patient" else CardRole.PROFESSIONAL)
    run = functools.partial(
        personalise, session, subject, iccsn=iccsn or new_iccsn(),
        kind=KeyKind.P256 if kind == "p256" else KeyKind.RSA_3072,
        pin=new_secret(pin_file, "PIN", "--pin-file"),
        puk=new_secret(puk_file, "PUK", "--puk-file"),
        told=say,
    )  # fmt: skip
    with auditing.job("card.init"):
        if folder is not None:
            _by_authority(run, folder, subject, pko.asker(ask, passphrase_file), begin, end)
        else:
            known = files.load_certificate(authority) if authority is not None else None
            run(certify=functools.partial(_keep, Path(requests or ""), force), authority=known)
    say(f"card {session.name}: in operation, for {subject.common_name} ({role})")


def _by_authority(
    run: Callable[..., None], folder: str, subject: Subject, passphrase: Callable[[], str],
    begin: datetime | None, end: datetime | None,
) -> None:
    from ..card.personal import USES
    from ..pki.authority import Authority

    once = functools.cache(passphrase)  # asked for once, for three certificates
    with Authority(folder) as authority:

        def certify(slot: Slot, request: x509.CertificateSigningRequest, deliver: Deliver) -> None:
            authority.issue(request.public_key(), subject, [USES[slot]], once, begin=begin,
                            end=end, deliver=deliver)

        run(certify=certify, authority=authority.certificate("issuing"))


def _keep(
    folder: Path, force: bool, slot: Slot, request: x509.CertificateSigningRequest, deliver: Deliver
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    os.makedirs(folder, exist_ok=True)
    outputs.write_public(folder / f"{slot}.csr", request.public_bytes(Encoding.PEM), force=force)


@click.command(epilog="""\b
Examples:
  dicomcrypt card emulate doctor.hpjc patient.hpjc
  dicomcrypt card emulate new.hpjc --new professional        an empty card, for `card init`
  kill -USR1 PID                                             pulls the first card, or puts it in

\b
This needs pcscd and its driver vpcd (Debian: pcscd, vsmartcard-vpcd). It ends with ctrl-C.
""")
@click.argument("paths", nargs=-1, required=True, metavar="FILE [FILE2]")
@click.option("--port", type=click.IntRange(1, 65534), default=35963, show_default=True,
              help="Of the first virtual reader; the second has the next.")
@click.option("--new", "roles", multiple=True, type=click.Choice(["professional", "patient"]),
              help="Make the file, an empty card of this kind; repeatable, for each file.")
@click.option("--passphrase-file", metavar="FILE", help="Take the passphrase of the files, which "
              "is not the PIN, from a file's first line.")
@opt.quiet
def emulate(
    paths: tuple[str, ...], port: int, roles: tuple[str, ...], passphrase_file: str | None,
    quiet: bool,
) -> None:
    """Put software cards into the virtual readers of pcscd.

    The state of a card is in a file under a passphrase of its own. An older copy of the file is an
    older card: it has its tries again.
    """
    from ..card.profile import CardRole
    from ..card.software import SoftwareCard
    from ..card.vpcd import Slot as Reader
    from ..card.vpcd import emulate as serve
    from .card_options import state_passphrase
    from .console import say

    if len(paths) > 2:
        raise UsageError("there are two virtual readers: give one or two files")
    if roles and len(roles) != len(paths):
        raise UsageError("give --new once for each file, in their order")
    cards: list[SoftwareCard] = []
    try:
        for path, role in zip(paths, roles or (None,) * len(paths), strict=True):
            words = state_passphrase(path, passphrase_file, confirm=role is not None,
                                     option="--passphrase-file")
            cards.append(SoftwareCard.open(path, words) if role is None
                         else SoftwareCard.create(path, words, CardRole(role)))

        def told(path: str, event: str) -> None:
            if not quiet:  # in a thread, where `say` does not know
                say(f"{path}: {event}")

        serve([Reader(card, port + number, told=functools.partial(told, path))
               for number, (card, path) in enumerate(zip(cards, paths, strict=True))])
    finally:
        for card in cards:
            card.close()
