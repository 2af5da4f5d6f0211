"""`dicomcrypt card patient`, `note` and `authenticate`: what a patient's card keeps, and who may
change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..errors import CardStatusError, DamagedError, NoIdentityError, UsageError
from . import auditing, outputs, trust
from . import options as opt

if TYPE_CHECKING:
    from ..card.patient import PatientReferences
    from ..card.session import CardSession


@click.group(epilog="""\b
Examples:
  dicomcrypt card patient set --record https://records.example/4711 --add urn:rx:160.123.456
  dicomcrypt card patient show
  dicomcrypt card patient set --remove urn:rx:160.123.456
""")
def patient() -> None:
    """The patient's references in a patient card: where the record is, which medication.

    They are encrypted for the card's deciphering key before they are written, and read after the
    PIN alone.
    """


@patient.command(epilog="""\b
Examples:
  dicomcrypt card patient show
  dicomcrypt card patient show --json
""")
@opt.card_place
@opt.pin
@opt.as_json
def show(as_json: bool) -> None:
    """Show them. Needs the PIN."""
    from dataclasses import asdict

    from .card_options import give_pin, open_card
    from .console import print_json, printable

    session = open_card()
    _has_patient_file(session)
    give_pin(session)
    found = _read(session)
    if as_json:
        print_json(asdict(found))
        return
    click.echo(f"record      {printable(found.record) or '-'}")
    for reference in found.medication:
        click.echo(f"medication  {printable(reference)}")


@patient.command("set", epilog="""\b
Examples:
  dicomcrypt card patient set --record https://records.example/4711
  dicomcrypt card patient set --add urn:rx:160.123.456 --add urn:rx:160.123.457
  dicomcrypt card patient set --force --record https://records.example/4711    begins anew
""")
@click.option("--record", metavar="ADDRESS", help="The address of the patient's record.")
@click.option("--add", multiple=True, metavar="REFERENCE", help="Of a medication; repeatable.")
@click.option("--remove", multiple=True, metavar="REFERENCE", help="Of a medication; repeatable.")
@opt.card_place
@opt.pin
@click.option("-f", "--force", is_flag=True, help="Forget what is there, readable or not.")
@opt.hushed
def set_command(
    record: str | None, add: tuple[str, ...], remove: tuple[str, ...], force: bool,
) -> None:
    """Change them: what is not named stays. Needs the PIN."""
    from .. import api
    from ..card.identity import card_recipient
    from ..card.patient import PatientReferences, sealed_content
    from .card_options import give_pin, open_card
    from .console import say

    if record is None and not add and not remove and not force:
        raise UsageError("give --record, --add or --remove")
    session = open_card()
    _has_patient_file(session)
    give_pin(session)
    with auditing.job("card.patient"):
        found = PatientReferences() if force else _read(session)
        missing = [one for one in remove if one not in found.medication]
        if missing:
            raise UsageError(f"card {session.name}: it has no reference {missing[0]!r}")
        kept = [one for one in found.medication if one not in remove]
        made = PatientReferences(found.record if record is None else record,
                                 tuple(dict.fromkeys([*kept, *add])))
        sealed = api.encrypt(made.encode(), [card_recipient(session, certified=False)])
        session.update("EF.PATIENT", sealed_content(sealed))
    say(f"card {session.name}: {'a' if made.record else 'no'} record, "
        f"{len(made.medication)} of medication")


def _has_patient_file(session: CardSession) -> None:
    from ..card.profile import CardRole

    if session.role is not CardRole.PATIENT:
        raise UsageError(f"card {session.name}: it is no patient card")


def _read(session: CardSession) -> PatientReferences:
    """The card's references; the PIN was given."""
    from .. import api
    from ..card.identity import card_identity
    from ..card.patient import PatientReferences, parse_sealed

    content = session.read("EF.PATIENT")
    if not content:
        return PatientReferences()
    try:
        opened = api.decrypt(parse_sealed(content), [card_identity(session)])
        return PatientReferences.decode(opened)
    except (DamagedError, NoIdentityError):
        raise DamagedError(f"card {session.name}: what is in EF.PATIENT is damaged, or not for "
                           "this card: dicomcrypt card patient set --force begins anew") from None


@click.group(epilog="""\b
Examples:
  dicomcrypt card note show
  dicomcrypt card note set emergency.txt
  dicomcrypt card note set emergency.txt --reader "00 01" --other-reader "00 00"
""")
def note() -> None:
    """The emergency note in a card, which everybody can read."""


@note.command("show", epilog="""\b
Examples:
  dicomcrypt card note show
  dicomcrypt card note show -o note.txt
""")
@opt.card_place
@click.option("-o", "--output", default="-", metavar="FILE|-", help="Where it goes, by default "
              "standard output.")
@opt.force
def show_note(output: str, force: bool) -> None:
    """Show it, without any PIN."""
    from .card_options import open_card
    from .console import printable

    if output != "-":
        outputs.not_there(output, force)
    content = open_card().read("EF.NOTE")
    if output != "-":
        outputs.write_public(output, content, force=force)
        return
    for line in content.decode(errors="replace").splitlines():
        click.echo(printable(line))


@note.command("set", epilog="""\b
Examples:
  dicomcrypt card note set emergency.txt                   by the holder's PIN
  dicomcrypt card note set emergency.txt --reader "00 01" --other-reader "00 00"
                                    into a patient's card, by a physician's card and its PIN
""")
@click.argument("path", metavar="FILE")
@opt.card_place
@opt.other_card
@opt.pin
@opt.hushed
def set_note(path: str) -> None:
    """Write it: by the PIN of the card, or into a patient's card by a physician's, which is the
    second card; the PIN then is the physician's."""
    from ..card.authentication import introduce
    from .card_options import give_pin, open_card
    from .console import say

    with click.open_file(path, "rb") as file:
        content = file.read(1 << 16)
    session = open_card()
    if opt.card_wanted("other_"):
        physician = open_card(whose="other_")
        give_pin(physician)
    with auditing.job("card.note"):
        if opt.card_wanted("other_"):
            introduce(physician, session)
        else:
            give_pin(session)
        session.update("EF.NOTE", content)
    say(f"card {session.name}: a note of {len(content)} bytes is in it")


@click.command(epilog="""\b
Examples:
  dicomcrypt card authenticate --trust-root ca/root.crt
  dicomcrypt card authenticate --reader "00 00" --other-reader "00 01"   a card to another card
""")
@opt.card_place
@opt.other_card
@opt.pin
@trust.option
@opt.as_json
def authenticate(as_json: bool) -> None:
    """Let a card prove who its holder is: it signs a fresh challenge with its authentication key,
    and its certificate is judged by the trusted roots.

    With a second card, that one checks certificate and proof too, by the authority in it.
    """
    from ..card.authentication import introduce, proven_certificate
    from ..pki import names
    from ..pki.checking import check_certificate
    from .card_options import give_pin, open_card
    from .console import print_json, say

    trusted = trust.trusted()
    if trusted is None and not opt.card_wanted("other_"):
        raise UsageError("nobody vouches for the card's certificate: give --trust-root FILE, or "
                         "name a root under [trust] in the configuration")
    session = open_card()
    other = open_card(whose="other_") if opt.card_wanted("other_") else None
    give_pin(session)
    with auditing.job("card.authenticate"):
        certificate = proven_certificate(session)
        if trusted is not None:
            authority = session.certificate("EF.CERT.CA")
            check_certificate(certificate, trusted, purpose="tls-client",
                              intermediates=[authority] if authority is not None else [])
        if other is not None:
            try:
                introduce(session, other)
            except CardStatusError as error:
                raise DamagedError(f"card {other.name} does not accept it: {error}") from None
    told = {"card": session.name, "accepted_by": other and other.name,
            **names.facts(certificate).as_json()}
    if as_json:
        print_json(told)
    else:
        say(f"card {session.name}: it holds the key of the certificate {names.label(certificate)}"
            + (f"; card {other.name} accepts it" if other is not None else ""))
