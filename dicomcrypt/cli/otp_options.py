"""What the commands of `dicomcrypt otp` share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .. import config
from ..errors import UsageError
from . import auditing
from . import options as opt

if TYPE_CHECKING:
    from ..otp.home import Home

folder = click.option("-d", "--folder", metavar="FOLDER", help="The folder that `otp init` made; "
                      "otherwise [otp] folder of the configuration.")
#: Where the key of the codes is on a card. The settings say so; this says which card.
card = opt.shared(
    opt.kept_option("--card", is_flag=True, help="The key of the codes is the signing key of the "
                     "card in a reader, which is used for nothing else."),
    opt.card_place, opt.pin,
)
console = click.option("--console", is_flag=True, help="Write messages to standard error instead "
                       "of sending them: for trying out.")


def folder_of(given: str | None) -> str:
    """Return the folder of the option, or of the configuration."""
    if given is not None:
        return given
    found = config.files("otp", "folder")
    if len(found) != 1:
        raise UsageError("which folder? give --folder, or set [otp] folder in the configuration")
    return found[0]


def card_key(judge: Callable[[Any], object]) -> Any:
    """Return the signing key of the card of the options, its PIN given after `judge` took it."""
    from ..card.keys import card_key as key_of
    from ..card.profile import Slot
    from .card_options import give_pin, open_card

    session = open_card()
    found = key_of(session, Slot.SIG)
    judge(found)
    give_pin(session)
    return found


@contextmanager
def opened(given: str | None, *, console: bool = False) -> Iterator[Home]:
    """Open the folder; events go to the audit log, if the configuration has one."""
    from ..keys.keyfile import read_secret_line
    from ..otp import home
    from ..otp.context import unrecorded
    from .console import ask_secret

    def pin(token: str) -> str:
        if opt.kept("pin_file") is not None:
            return read_secret_line(opt.kept("pin_file"), "PIN file")
        return ask_secret(f"PIN of token {token!r}", "name a pin_file in otp.toml")

    def passphrase() -> str:
        return ask_secret("passphrase of the key of the codes", "use a key without one, mode 0600")

    settings, record, log = auditing.configured(), unrecorded, None
    if settings:
        from ..audit import present_actor
        from ..otp.context import recorder

        log = auditing.open_log(settings)
        record = recorder(log, present_actor())
    try:
        found = home.Home(folder_of(given), pin=pin, passphrase=passphrase, card=card_key,
                          console=console, record=record)
        try:
            if opt.card_wanted() and not found.by_card:
                raise UsageError("the codes of this folder are not made by a card: see code_key in "
                                 "its otp.toml")
            yield found
        finally:
            found.close()
    finally:
        if log is not None:
            log.close()


def entered(what: str, *names: str) -> list[str]:
    """Ask for fields on the terminal, or read a line of standard input that holds them."""
    from .console import ask_secret, on_terminal

    if on_terminal():
        return [ask_secret(name, "") for name in names]
    line = sys.stdin.readline(256) if sys.stdin is not None else ""
    fields = line.split()
    if len(fields) != len(names):
        raise UsageError(f"no terminal to ask for {what} on: give a line with "
                         f"{' and '.join(names)} on standard input")
    return fields


def moment(milliseconds: int) -> str:
    """A time for people, UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def tell(as_json: bool, facts: dict[str, Any], sentence: str) -> None:
    """One answer, for programs or for people."""
    from .console import print_json, say

    if as_json:
        print_json(facts)
    else:
        say(sentence)
