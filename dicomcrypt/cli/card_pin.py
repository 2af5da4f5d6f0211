"""`dicomcrypt card pin`: see the tries left, change the PIN, unblock it."""

from __future__ import annotations

import click

from . import auditing
from . import options as opt

_new_pin = click.option("--new-pin-file", metavar="FILE",
                        help="Take the new PIN from a file's first line.")


def new_secret(file: str | None, what: str, option: str) -> str:
    """Return a new PIN or PUK, from a file or the terminal, where it is asked for twice."""
    from ..keys.keyfile import read_secret_line
    from .console import ask_secret

    if file is not None:
        return read_secret_line(file, f"{what} file")
    return ask_secret(f"new {what}", f"give {option} FILE", confirm=True)


@click.group(epilog="""\b
Examples:
  dicomcrypt card pin tries
  dicomcrypt card pin change
  dicomcrypt card pin unblock
""")
def pin() -> None:
    """The PIN of a card."""


@pin.command(epilog="""\b
Examples:
  dicomcrypt card pin change
  dicomcrypt card pin change --pin-file old --new-pin-file new
""")
@opt.card_place
@opt.pin
@_new_pin
@opt.hushed
def change(new_pin_file: str | None) -> None:
    """Change the PIN: the old one, then the new one twice. A wrong old one costs a try."""
    from .card_options import open_card, read_pin
    from .console import say

    session = open_card()
    old = read_pin(session, look=True)
    new = new_secret(new_pin_file, "PIN", "--new-pin-file")
    with auditing.job("card.pin"):
        session.change_pin(old, new)
    say(f"card {session.name}: the PIN is changed")


@pin.command(epilog="""\b
Examples:
  dicomcrypt card pin unblock
  dicomcrypt card pin unblock --puk-file puk --new-pin-file new
""")
@opt.card_place
@click.option("--puk-file", metavar="FILE", help="Take the PUK from a file's first line.")
@opt.last_try
@_new_pin
@opt.hushed
def unblock(puk_file: str | None, new_pin_file: str | None) -> None:
    """Set a new PIN by the PUK. Each use of the PUK counts, the right one too."""
    from ..card.profile import PUK
    from ..errors import WrongPinError
    from ..keys.keyfile import read_secret_line
    from .card_options import allow_last, open_card
    from .console import ask_secret, remark, say

    session = open_card()
    left = session.tries(PUK)
    if not left:
        raise WrongPinError(f"card {session.name}: its PUK is used up: it cannot be unblocked any "
                            "more")
    times = "once" if left == 1 else f"{left} times"
    remark(f"card {session.name}: the PUK can be used {times} more")
    if left == 1:
        allow_last(session, "last use of the PUK")
    puk = read_secret_line(puk_file, "PUK file") if puk_file is not None else \
        ask_secret(f"PUK of card {session.name}", "give --puk-file FILE")
    new = new_secret(new_pin_file, "PIN", "--new-pin-file")
    with auditing.job("card.pin"):
        session.unblock_pin(puk, new)
    say(f"card {session.name}: it has a new PIN")


@pin.command(epilog="""\b
Examples:
  dicomcrypt card pin tries --reader "HPJC 00 00"
""")
@opt.card_place
def tries() -> None:
    """Say how many tries of the PIN and uses of the PUK are left; it spends none."""
    from ..card.profile import PIN, PUK
    from .card_options import open_card

    session = open_card()
    click.echo(f"PIN {session.tries(PIN)}\nPUK {session.tries(PUK)}")
