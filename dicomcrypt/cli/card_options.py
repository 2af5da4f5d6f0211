"""Which card a command uses, and its PIN: the same for `card` and for whatever takes `--card`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..errors import TokenError, UsageError, WrongPinError
from . import options as opt

if TYPE_CHECKING:
    from ..card.session import CardSession

# ---- which card --------------------------------------------------------------


def open_card(*, role: Any = None) -> CardSession:
    """Return the card of the options; it is let go of when the command ends.

    role: makes a software card of this role if --card-file does not exist."""
    from ..card.session import CardSession

    context = click.get_current_context()
    if opt.kept("card_file") is not None:
        if opt.kept("reader") is not None:
            raise UsageError("--reader and --card-file: give one of them")
        session = CardSession(_software_card(opt.kept("card_file"), role))
    else:
        if opt.kept("card_passphrase_file") is not None:
            raise UsageError("--card-passphrase-file is of use with --card-file only")
        from ..card.transport import PcscTransport, choose_reader

        session = CardSession(PcscTransport(choose_reader(opt.kept("reader"))))
    context.find_root().call_on_close(session.close)
    return session


def _software_card(path: str, role: Any) -> Any:
    import os

    from ..card.software import SoftwareCard
    from ..card.transport import InProcess

    new = role is not None and not os.path.lexists(path)
    words = state_passphrase(path, opt.kept("card_passphrase_file"), confirm=new)
    card = SoftwareCard.create(path, words, role) if new else SoftwareCard.open(path, words)
    click.get_current_context().find_root().call_on_close(card.close)
    return InProcess(card, os.path.basename(path))


def state_passphrase(
    path: str, file: str | None, *, confirm: bool, option: str = "--card-passphrase-file"
) -> str:
    """Return the passphrase of a software card's state: it is not the PIN."""
    from .console import ask_secret

    if file is not None:
        return opt.read_passphrase(False, file, confirm=False) or ""
    return ask_secret(f"passphrase of the card file {path!r} (not the PIN)",
                      f"give {option} FILE", confirm=confirm)


# ---- its PIN -----------------------------------------------------------------


def give_pin(session: CardSession) -> None:
    """Give the card its PIN, saying before how many tries are left.

    Raises WrongPinError, and TokenError if the last try would be spent and nobody allowed it."""
    left = session.tries()
    if left is None:
        return
    _look_before(session, left)
    if opt.kept("pin_file") is None and session.connection.transport.has_pad:
        click.echo("enter the PIN on the reader's own keys", err=True)
        session.verify_on_pad()
    else:
        session.verify(read_pin(session))


def _look_before(session: CardSession, left: int) -> None:
    from .console import say

    if left == 0:
        raise WrongPinError(f"card {session.name}: its PIN is blocked: unblock it with dicomcrypt "
                            "card pin unblock", tries=0)
    tries = "try is" if left == 1 else "tries are"
    say(f"card {session.name}: {left} {tries} left for the PIN")
    if left == 1 and not opt.kept("last_try"):
        import sys

        if sys.stdin is None or not sys.stdin.isatty():
            raise TokenError(f"card {session.name}: this is the last try before the PIN is "
                             "blocked: give --last-try if it is to be used")
        click.confirm("use the last try?", abort=True, err=True)


def read_pin(session: CardSession, *, look: bool = False) -> str:
    """Return the PIN from --pin-file or the terminal. look: at the tries, first."""
    from ..keys.keyfile import read_secret_line
    from .console import ask_secret

    left = session.tries() if look else None
    if left is not None:
        _look_before(session, left)
    file = opt.kept("pin_file")
    if file is not None:
        return read_secret_line(file, "PIN file")
    return ask_secret(f"PIN of card {session.name}", "give --pin-file FILE")


# ---- what it is used as -------------------------------------------------------


def load_identity() -> Any:
    """Return the card of the options as an identity, its PIN given."""
    from ..card.identity import card_identity

    session = open_card()
    found = card_identity(session)
    give_pin(session)
    click.get_current_context().call_on_close(lambda: _tell(found))
    return found


def load_private_key() -> tuple[Any, list[Any]]:
    """Return the deciphering key of the card of the options, its PIN given, and its certificate."""
    from ..card.keys import card_key
    from ..card.profile import Slot

    session = open_card()
    key, certificate = card_key(session, Slot.DEC), session.certificate(Slot.DEC.certificate_file)
    give_pin(session)
    return key, [certificate] if certificate is not None else []


def _tell(identity: Any) -> None:
    """Say how often the card was used."""
    from .console import say

    options = click.get_current_context().params
    if identity.operations and not options.get("quiet") and not options.get("as_json"):
        times = "once" if identity.operations == 1 else f"{identity.operations} times"
        say(f"card {identity.session.name}: its key was used {times}")


def load_recipient() -> Any:
    """Return the recipient of the card's certificate, judged like that of any other."""
    from ..card.identity import card_recipient
    from . import trust

    found = card_recipient(open_card())
    trust.check_recipients([found])
    return found
