"""Who opens a key table or a vault: a login with its passphrase, or an identity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from ..errors import UsageError
from . import options as opt

if TYPE_CHECKING:
    from ..container.stanza import Identity, Recipient

new_passphrase = click.option(
    "--new-passphrase-file", metavar="FILE",
    help="Take the new passphrase from a file's first line; without it, it is asked for.",
)


class Opening(TypedDict):
    """What the options --login, -i, --card and -p give."""

    login: str | None
    identity_files: tuple[str, ...]
    ask: bool
    passphrase_file: str | None


class Credentials(TypedDict):
    """What `KeyTable.unlock` and `Vault.open` take."""

    login: str | None
    password: str | None
    identities: list[Identity]


def credentials(what: str, how: Opening) -> Credentials:
    """Return what opens it; passphrases and PINs are asked for. what: "vault", "key table"."""
    login, by_identity = how["login"], opt.by_identity(how["identity_files"])
    if login is None:
        if not by_identity:
            raise UsageError(f"open the {what} with -i FILE, --card, or with --login NAME -p")
        found = opt.load_identity_files(how["identity_files"], how["ask"], how["passphrase_file"])
        return {"login": None, "password": None, "identities": found}
    if by_identity:
        raise UsageError("--login and --identity: give one of them")
    password = opt.needed_passphrase(how["ask"], how["passphrase_file"], confirm=False)
    return {"login": login, "password": password, "identities": []}


def first_accesses(
    login: str | None, ask: bool, passphrase_file: str | None, recipient_files: Sequence[str]
) -> dict[str, Recipient]:
    """Return who may open what is about to be made, by name; nobody if nothing was given."""
    from ..keys.passphrase import Passphrase

    found: dict[str, Recipient] = {}
    if login is not None:
        found[login] = Passphrase(opt.needed_passphrase(ask, passphrase_file, confirm=True))
    elif ask or passphrase_file is not None:
        raise UsageError("whose passphrase is it? give --login NAME")
    add_recipients(found, recipient_files)
    return found


def add_recipients(taken: dict[str, Recipient], files: Sequence[str]) -> None:
    """Put the recipients of key files into {name: recipient}, under the files' names."""
    for path in files:
        for recipient in opt.load_recipient_files((path,)):
            name, number = Path(path).stem, 1
            while name in taken:
                number += 1
                name = f"{Path(path).stem}-{number}"
            taken[name] = recipient


def one_recipient(path: str | None, new_passphrase_file: str | None) -> Recipient | None:
    """Return the recipient of a file; None without one, for `new_login`."""
    if path is None:
        return None
    if new_passphrase_file is not None:
        raise UsageError("a recipient or a passphrase: give one of them")
    found: list[Recipient] = opt.load_recipient_files((path,))
    if len(found) != 1:
        raise UsageError(f"{path!r} holds {len(found)} recipients: one is needed")
    return found[0]


def new_login(what: str, passphrase_file: str | None) -> Recipient:
    """Return a new passphrase as a recipient. what: said before it is asked for."""
    from ..keys.passphrase import Passphrase

    return Passphrase(entered_new(what, passphrase_file))


def entered_new(what: str, file: str | None) -> str:
    """Return a new passphrase, of a file or asked for twice, after `what` was said."""
    from .console import remark

    if file is None:
        remark(what)
    return opt.needed_passphrase(False, file, confirm=True)


def two_inputs(first: str | None, second: str | None) -> None:
    """Refuse to read two passphrases from standard input."""
    if first == "-" and second == "-":
        raise UsageError("standard input cannot give both passphrases")
