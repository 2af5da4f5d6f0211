"""Which card a command uses, and its PIN: the same for `card` and for whatever takes `--card`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ..errors import TokenError, UsageError, WrongPinError
from . import options as opt

if TYPE_CHECKING:
    from cryptography import x509

    from ..card.identity import CardIdentity
    from ..card.keys import CardECPrivateKey, CardRSAPrivateKey
    from ..card.profile import CardRole
    from ..card.session import CardSession
    from ..card.transport import InProcess
    from ..container.stanza import Recipient
    from ..keys.signing import StayingSigner

#: Where the context has the cards that are open, by whose they are (one may be both recipient or
#: identity, and signer), and what closes them.
_OPEN, _CLOSE = "dicomcrypt.card.open", "dicomcrypt.card.close"

# ---- which card --------------------------------------------------------------


def open_card(*, role: CardRole | None = None, whose: str = "") -> CardSession:
    """Return the card of the options, the same one each time; it is let go of when the command
    ends.

    role: makes a software card of this role if --card-file does not exist. whose: "patient_" for
    the card of --patient-reader or --patient-card-file, "other_" for that of --other-reader or
    --other-card-file."""
    cards = click.get_current_context().find_root().meta.setdefault(_OPEN, {})
    if whose not in cards:
        cards[whose] = _session(whose, role)
    session: CardSession = cards[whose]
    return session


def _session(whose: str, role: CardRole | None) -> CardSession:
    from ..card.session import CardSession

    file, reader, words = (opt.kept(f"{whose}{what}")
                           for what in ("card_file", "reader", "card_passphrase_file"))
    said = f"--{whose.replace('_', '-')}"
    if file is not None:
        if reader is not None:
            raise UsageError(f"{said}reader and {said}card-file: give one of them")
        session = CardSession(_software_card(file, words, f"{said}card-passphrase-file", role))
    else:
        if words is not None:
            raise UsageError(f"{said}card-passphrase-file is of use with {said}card-file only")
        from ..card.transport import PcscTransport, choose_reader

        session = CardSession(PcscTransport(choose_reader(reader)))
    _close_at_the_end(session.close)
    return session


def _close_at_the_end(close: Callable[[], None]) -> None:
    root = click.get_current_context().find_root()
    if _CLOSE not in root.meta:
        root.meta[_CLOSE] = []
        root.call_on_close(let_go)
    root.meta[_CLOSE].append(close)


def let_go() -> None:
    """Close all cards of this command, as its end does; the last one first."""
    meta = click.get_current_context().find_root().meta
    meta.pop(_OPEN, None)
    closing = meta.get(_CLOSE, [])
    while closing:
        closing.pop()()


def _software_card(
    path: str, words_file: str | None, option: str, role: CardRole | None
) -> InProcess:
    import os

    from ..card.software import SoftwareCard
    from ..card.transport import InProcess

    new = None if os.path.lexists(path) else role
    words = state_passphrase(path, words_file, confirm=new is not None, option=option)
    card = SoftwareCard.open(path, words) if new is None else SoftwareCard.create(path, words, new)
    _close_at_the_end(card.close)
    return InProcess(card, os.path.basename(path))


def state_passphrase(path: str, file: str | None, *, confirm: bool, option: str) -> str:
    """Return the passphrase of a software card's state: it is not the PIN."""
    from .console import ask_secret

    if file is not None:
        return opt.needed_passphrase(False, file, confirm=False)
    return ask_secret(f"passphrase of the card file {path!r} (not the PIN)",
                      f"give {option} FILE", confirm=confirm)


# ---- its PIN -----------------------------------------------------------------


def give_pin(session: CardSession, whose: str = "") -> None:
    """Give the card its PIN, saying before how many tries are left. whose: as of `open_card`.

    Raises WrongPinError, and TokenError if the last try would be spent and nobody allowed it."""
    left = session.tries()
    if left is None:
        return
    _look_before(session, left, whose)
    if opt.kept(f"{whose}pin_file") is None and session.connection.transport.has_pad:
        give_pin_on_pad(session)
    else:
        session.verify(read_pin(session, whose=whose))


def give_pin_on_pad(session: CardSession) -> None:
    """Let the card's holder enter the PIN at the reader."""
    click.echo(f"card {session.name}: enter the PIN on the reader's own keys", err=True)
    session.verify_on_pad()


def _look_before(session: CardSession, left: int, whose: str) -> None:
    from .console import remark

    if left == 0:
        raise WrongPinError(f"card {session.name}: its PIN is blocked: unblock it with dicomcrypt "
                            "card pin unblock", tries=0)
    tries = "try is" if left == 1 else "tries are"
    remark(f"card {session.name}: {left} {tries} left for the PIN")
    if left == 1:
        allow_last(session, "last try before the PIN is blocked", whose)


def allow_last(session: CardSession, what: str, whose: str = "") -> None:
    """Have it confirmed that what cannot be done once more is meant; raises TokenError without a
    terminal and --last-try, which is said for one's own card only."""
    if opt.kept(f"{whose}last_try"):
        return
    from .console import on_terminal

    if not on_terminal():
        advice = "try it at a terminal" if whose else "give --last-try"
        raise TokenError(f"card {session.name}: this is the {what}: {advice} if it is to be used")
    click.confirm(f"use the {what}?", abort=True, err=True)


def read_pin(session: CardSession, *, look: bool = False, whose: str = "") -> str:
    """Return the PIN from --pin-file or the terminal. look: at the tries, first."""
    from ..keys.keyfile import read_secret_line
    from .console import ask_secret

    left = session.tries() if look else None
    if left is not None:
        _look_before(session, left, whose)
    file = opt.kept(f"{whose}pin_file")
    if file is not None:
        return read_secret_line(file, "PIN file")
    return ask_secret(f"PIN of card {session.name}",
                      f"give --{whose.replace('_', '-')}pin-file FILE")


# ---- what it is used as -------------------------------------------------------


def load_identity() -> CardIdentity:
    """Return the card of the options as an identity, its PIN given."""
    from ..card.identity import card_identity

    session = open_card()
    found = card_identity(session)
    give_pin(session)
    click.get_current_context().call_on_close(lambda: _tell(session, found.operations))
    return found


def load_card_signer() -> StayingSigner:
    """Return the card of the options as a signer, judged like any other, and its PIN given."""
    from ..card.identity import card_signer
    from . import trust

    session = open_card()
    found: StayingSigner = card_signer(session)
    trust.check_signer(found)
    give_pin(session)
    click.get_current_context().call_on_close(
        lambda: _tell(session, found.operations, "signature key"))
    return found


def load_private_key() -> tuple[CardRSAPrivateKey | CardECPrivateKey, list[x509.Certificate]]:
    """Return the deciphering key of the card of the options, its PIN given, and its certificate."""
    from ..card.keys import card_key
    from ..card.profile import Slot

    session = open_card()
    key, certificate = card_key(session, Slot.DEC), session.certificate(Slot.DEC.certificate_file)
    give_pin(session)
    return key, [certificate] if certificate is not None else []


def _tell(session: CardSession, operations: int, key: str = "key") -> None:
    """Say how often the card was used."""
    from .console import say

    options = click.get_current_context().params
    if operations and not options.get("quiet") and not options.get("as_json"):
        times = "once" if operations == 1 else f"{operations} times"
        say(f"card {session.name}: its {key} was used {times}")


def load_recipient() -> Recipient:
    """Return the recipient of the card's certificate, judged like that of any other."""
    from ..card.identity import card_recipient
    from . import trust

    found: Recipient = card_recipient(open_card())
    trust.check_recipients([found])
    return found
