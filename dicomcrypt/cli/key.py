"""`dicomcrypt key`: shares of an identity; the key table is in `keytable`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from ..errors import UsageError
from . import options as opt
from .keygen import public_name, write_pair
from .keytable import table


@click.group(epilog="""\b
Examples:
  dicomcrypt key split doctor.key --threshold 3 --shares 5 -o shares/
  dicomcrypt key combine a.txt c.txt d.txt -o restored.key
  dicomcrypt key table create keys.db --login anna -p
""")
def key() -> None:
    """Recovery shares of identities, and key tables.

    A lost key is the end of the data: split it before you need it.
    """


key.add_command(table)


@key.command(epilog="""\b
Examples:
  dicomcrypt key split doctor.key --threshold 3 --shares 5 -o shares/
  dicomcrypt key split sealed.key -p --threshold 2 --shares 3 -o shares/

\b
Print each .html, give it to its holder, then destroy the folder: as long as all
shares lie in one place, that place is the key.
""")
@click.argument("identity")
@click.option("--threshold", type=click.IntRange(2, 16), required=True, metavar="K",
              help="How many shares give the identity back.")
@click.option("--shares", "count", type=click.IntRange(2, 16), required=True, metavar="N",
              help="How many shares are made.")
@click.option("-o", "--output", required=True, metavar="FOLDER",
              help="Where share-1-of-N.txt and .html and so on go.")
@opt.passphrase
@opt.force
@opt.as_json
@opt.hushed
def split(
    identity: str, threshold: int, count: int, output: str, ask: bool, passphrase_file: str | None,
    force: bool, as_json: bool,
) -> None:
    """Split IDENTITY into shares of words (SLIP-39), any K of which give it back.

    Each share is a file of words and a page to print. A passphrase opens a sealed identity;
    the shares do not need it any more.
    """
    from ..keys.keyfile import write_private
    from ..keys.sharepage import share_page
    from ..keys.shares import share_text, split_identity
    from .console import print_json, say

    found = opt.load_identity_files((identity,), ask, passphrase_file)
    if len(found) != 1:
        raise UsageError(f"{identity!r} gives {len(found)} identities: split them one by one; a "
                         "passphrase is only for a sealed identity file")
    secret = found[0]
    shares = split_identity(secret, threshold, count)
    os.makedirs(output, mode=0o700, exist_ok=True)
    names = []
    for share in shares:
        stem = os.path.join(output, f"share-{share.number}-of-{count}")
        write_private(f"{stem}.txt", share_text(share, secret).encode(), force=force)
        write_private(f"{stem}.html", share_page(share, secret).encode(), force=force)
        names.append(f"{stem}.txt")
    hint = secret.recipient.hint.hex()
    if as_json:
        print_json({"identity": hint, "type": secret.algorithm, "threshold": threshold,
                    "set": f"{shares[0].set_id:04x}", "shares": names})
    else:
        say(f"identity {hint} in {count} shares: {output} (secret; any {threshold} give it back)")
        say("print each page, hand the shares out, then destroy the folder")


@key.command(epilog="""\b
Examples:
  dicomcrypt key combine share-1-of-5.txt share-4-of-5.txt share-5-of-5.txt -o restored.key
  dicomcrypt key combine - -o restored.key        type the words, one share a line
  dicomcrypt key combine *.txt -o restored.key -p seal what is restored with a passphrase
""")
@click.argument("shares", nargs=-1, required=True, metavar="SHARE...")
@click.option("-o", "--output", required=True, metavar="NAME.key",
              help="Where the identity goes; the recipient goes to NAME.pub.")
@opt.passphrase
@opt.force
@opt.as_json
@opt.hushed
def combine(
    shares: tuple[str, ...], output: str, ask: bool, passphrase_file: str | None, force: bool,
    as_json: bool,
) -> None:
    """Give back the identity that was split into SHAREs (files, or - for typed words).

    The same identity as before: its hint is compared with the one in the share files, and
    shown. Words alone name no hint: compare it with the one on the pages.
    """
    from ..keys.shares import combine_shares, load_share
    from .console import say

    public = public_name(output)
    opt.one_use_of_standard_input(shares, passphrase_file)
    found: list[Any] = []
    for name in dict.fromkeys(shares):
        found += _typed() if name == "-" else [load_share(name)]
    identity = combine_shares(found)
    passphrase = opt.read_passphrase(ask, passphrase_file, confirm=True)
    write_pair(output, public, identity, passphrase, force=force, as_json=as_json)
    if not as_json and all(share.hint is None for share in found):
        say("words alone do not say whose key this is: compare the hint with the pages")


def _typed() -> list[Any]:
    """Return the shares typed in, or piped: the words of one share a line.

    At a terminal a mistyped share is asked for again, until there are enough."""
    from ..keys.shares import missing_shares, parse_share
    from .console import complain

    found: list[Any] = []
    if sys.stdin is None:
        raise UsageError("standard input is closed: give the shares' files")
    if not sys.stdin.isatty():
        lines = sys.stdin.read(1 << 20).splitlines()
        lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        return [parse_share(line, f"line {n}") for n, line in enumerate(lines, 1)]
    while not found or missing_shares(found):
        ordinal = len(found) + 1
        text = click.prompt(f"words of share {ordinal}", err=True)
        try:
            found.append(parse_share(text, f"share {ordinal} as typed"))
        except UsageError as error:
            complain(str(error))
    return found
