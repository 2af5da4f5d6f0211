"""`dicomcrypt card`: its commands, and those that only look at cards: list, info, apdu."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import DamagedError, UsageError
from . import LazyGroup
from . import options as opt

if TYPE_CHECKING:
    from ..card.session import CardSession

#: Each command's module of this package, and its variable there if it has another name.
COMMANDS = {
    "list": "card:list_command",
    "info": "card",
    "init": "card_init",
    "pin": "card_pin",
    "cert": "card_cert",
    "sign": "card_use",
    "decrypt": "card_use",
    "hash": "card_use:hash_group",
    "patient": "card_patient",
    "note": "card_patient",
    "authenticate": "card_patient",
    "emulate": "card_init",
    "apdu": "card",
}


@click.group(cls=LazyGroup, modules=COMMANDS, epilog="""\b
Examples:
  dicomcrypt card list
  dicomcrypt card init --ca ca/ --role physician --name Arzt --first-name Anna
  dicomcrypt card info
  dicomcrypt encrypt archive/ --card -o safe/
  dicomcrypt decrypt safe/ --card -o back/
  dicomcrypt card info --card-file doctor.hpjc         a software card, without a reader

\b
A software card for trying: its state is in a file, and `card emulate` puts it into the virtual
reader of pcscd; `--card-file FILE` uses it without reader and card service.
""")
def card() -> None:
    """Health professional and patient cards (docs/card.md).

    The PIN is asked for on the terminal or on the reader's own keys, and how many tries are left is
    said before one is used.
    """


@click.command("list", epilog="""\b
Examples:
  dicomcrypt card list
  dicomcrypt card list --watch 60        what is put in and taken out, for a minute
  dicomcrypt card list --json
""")
@click.option("--watch", type=click.FloatRange(0.1, 86400), metavar="SECONDS",
              help="Say what is put in and taken out, as long as this.")
@opt.as_json
def list_command(watch: float | None, as_json: bool) -> None:
    """List the readers, and what is in them."""
    from ..card.transport import readers
    from .console import print_json, print_table, say

    if watch is not None:
        from ..card.events import watch as events

        for event in events(watch):
            if as_json:
                print_json({"event": event.what, "reader": event.reader, "atr": event.atr})
            else:
                say(f"{event.reader}: {event.what}{f' ({_kind(event.atr)})' if event.atr else ''}")
        return
    found = readers()
    if as_json:
        print_json([{"reader": r.name, "atr": r.atr, "card": r.atr and _kind(r.atr)}
                    for r in found])
    elif found:
        rows = [(r.name, _kind(r.atr) if r.atr else "-", r.atr.hex() if r.atr else "-")
                for r in found]
        print_table(rows, ("reader", "card", "answer to reset"))
    else:
        say("no reader")


def _kind(atr: bytes) -> str:
    from ..card.profile import CardRole
    from ..card.profile import atr as atr_of

    return next((f"HPJC {role}" for role in CardRole if atr_of(role) == atr), "another card")


@click.command(epilog="""\b
Examples:
  dicomcrypt card info
  dicomcrypt card info --reader "HPJC 00 01" --json
""")
@opt.card_place
@opt.as_json
def info(as_json: bool) -> None:
    """Show what a card says of itself, without its PIN: holder, keys, certificates, tries left."""
    from ..card.profile import PIN, PUK, Slot
    from ..errors import CardStatusError, TokenError
    from ..pki.profiles import key_name
    from .card_options import open_card
    from .console import print_json, print_table

    session = open_card()
    operational = session.is_operational()
    facts: dict[str, Any] = {
        "reader": session.reader, "role": str(session.role), "iccsn": session.iccsn,
        "holder": session.holder, "operational": operational,
    }  # fmt: skip
    for what, reference in (("pin_tries", PIN), ("puk_uses", PUK)):
        try:
            facts[what] = session.tries(reference)
        except CardStatusError:  # not set yet
            facts[what] = None
    facts["keys"] = {}
    for slot in Slot:
        try:
            facts["keys"][str(slot)] = key_name(session.public_key(slot))
        except TokenError:
            facts["keys"][str(slot)] = None
    facts["certificates"] = {name: _certificate(session, name)
                             for name in session.certificate_files()}
    if as_json:
        print_json(facts)
        return
    rows = [(key.replace("_", " "), "-" if facts[key] in (None, "") else str(facts[key]))
            for key in ("reader", "role", "iccsn", "holder", "operational", "pin_tries",
                        "puk_uses")]
    rows += [(f"key {slot}", name or "-") for slot, name in facts["keys"].items()]
    rows += [(name, said or "-") for name, said in facts["certificates"].items()]
    print_table(rows, ("", session.reader))


def _certificate(session: CardSession, name: str) -> str | None:
    from ..pki import names

    try:
        found = session.certificate(name)
    except DamagedError:
        return "damaged"
    if found is None:
        return None
    return f"{names.label(found)}, until {found.not_valid_after_utc:%Y-%m-%d}"


@click.command(epilog="""\b
Examples:
  dicomcrypt card apdu 00A40000023F00 00B0820000
  dicomcrypt card apdu "00 84 00 00 08" --reader HPJC --json
""")
@click.argument("commands", nargs=-1, required=True, metavar="HEX...")
@opt.card_place
@opt.as_json
def apdu(commands: tuple[str, ...], as_json: bool) -> None:
    """Send commands to a card as they are, and show what it answers.

    Never put a PIN here: other users of the machine see command lines.
    """
    from ..card.apdu import CommandApdu
    from ..card.profile import Ins
    from ..card.status import meaning
    from .card_options import open_card
    from .console import print_json

    parsed = []
    secret = {Ins.VERIFY, Ins.CHANGE_REFERENCE_DATA, Ins.RESET_RETRY_COUNTER}
    for text in commands:
        try:
            parsed.append(CommandApdu.parse(bytes.fromhex(text.replace(":", " "))))
        except (ValueError, DamagedError) as error:
            why = error if isinstance(error, DamagedError) else "not hexadecimal"
            raise UsageError(f"{text!r} is no command: {why}") from None
        if parsed[-1].ins in secret and parsed[-1].data:
            raise UsageError("a PIN or PUK is never given on the command line: use dicomcrypt card "
                             "pin")
    session = open_card()
    told = []
    for text, command in zip(commands, parsed, strict=True):
        got = session.connection.send(command)
        told.append({"command": text, "data": got.data, "status": f"{got.status:04X}",
                     "meaning": meaning(got.status)})
        if not as_json:
            click.echo(f"> {text}\n< {got.data.hex().upper()} {meaning(got.status)}")
    if as_json:
        print_json(told)
