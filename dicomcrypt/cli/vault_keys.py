"""`dicomcrypt vault recipients` and `rewrap`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Unpack

import click

from . import access, auditing
from . import options as opt
from .vault import Unlocking, about, open_vault, unlocking

if TYPE_CHECKING:
    from ..container.stanza import Recipient


@click.group(epilog="""\b
Examples:
  dicomcrypt vault recipients list archive/ -i doctor.key
  dicomcrypt vault recipients add archive/ colleague -r colleague.pub -i doctor.key
  dicomcrypt vault recipients remove archive/ colleague -i doctor.key
""")
def recipients() -> None:
    """Who may open a vault."""


@recipients.command("list", epilog="""\b
Examples:
  dicomcrypt vault recipients list archive/ -i doctor.key --json
""")
@unlocking
@opt.as_json
def list_(folder: str, as_json: bool, **how: Unpack[Unlocking]) -> None:
    """List who may open a vault."""
    from ..vault.recipients import listed
    from .console import print_json, print_table

    with open_vault(folder, how) as opened:
        found = listed(opened.keys)
    if as_json:
        print_json(found)
        return
    print_table([(r["name"], r["type"], r["hint"].strip("0") and r["hint"]) for r in found],
                ("name", "type", "hint"), folder)


@recipients.command("add", epilog="""\b
Examples:
  dicomcrypt vault recipients add archive/ colleague -r colleague.pub -i doctor.key
  dicomcrypt vault recipients add archive/ service -i doctor.key     asks for its passphrase
""")
@unlocking
@click.argument("name")
@click.option("-r", "--recipient", "recipient_file", metavar="FILE",
              help="Recipient file of who may open the vault; without it, NAME is a login.")
@access.new_passphrase
@click.option("-f", "--force", is_flag=True, help="Replace the access that NAME has.")
@opt.hushed
def add(
    folder: str, name: str, recipient_file: str | None, new_passphrase_file: str | None,
    force: bool, **how: Unpack[Unlocking],
) -> None:
    """Let NAME open a vault, with all that is in it and all that will be.

    The key table changes, nothing else, however much is in the vault.
    """
    from ..vault.recipients import add as grant
    from .console import say

    access.two_inputs(how["passphrase_file"], new_passphrase_file)
    recipient = access.one_recipient(recipient_file, new_passphrase_file)
    if recipient is None:
        recipient = access.new_login(f"the passphrase of {name}:", new_passphrase_file)
    with open_vault(folder, how) as opened:
        with auditing.job(**about("recipients", opened)):
            grant(opened.keys, name, recipient, replace=force)
    say(f"{name} may open {folder}")


@recipients.command("remove", epilog="""\b
Examples:
  dicomcrypt vault recipients remove archive/ colleague -i doctor.key
  dicomcrypt vault recipients remove archive/ colleague -r scanner.pub -i doctor.key
  dicomcrypt vault rewrap archive/ --deep -i doctor.key     then, what is there already

\b
The vault gets a new key table, under a new key, for those who stay, and new keys for what is
added from now on. What cannot be undone: whoever is removed could read everything until now. If
he kept a copy of the old key table, he reads with it what was in the vault until now, wherever
he finds the objects: here, or in a backup. `vault rewrap --deep` encrypts everything anew, after
which the old table opens nothing that is here any more; what he copied before, objects and
table, stays readable to him for ever. Old backups of the key table still open for him: destroy
them.
""")
@unlocking
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-r", "--recipient", "recipient_files", multiple=True, metavar="FILE",
              help="Public key of somebody who stays, if the vault does not know it; repeatable.")
@click.option("--keep-login", metavar="NAME",
              help="A login that stays; its passphrase is asked for, or is that of --login.")
@click.option("--drop-others", is_flag=True,
              help="Take away all for whom the new key table cannot be made, too.")
@opt.hushed
def remove(
    folder: str, names: tuple[str, ...], recipient_files: tuple[str, ...], keep_login: str | None,
    drop_others: bool, **how: Unpack[Unlocking],
) -> None:
    """Take NAME's access to a vault away (see below what that cannot undo)."""
    from ..keys.passphrase import Passphrase
    from ..vault.vault import Vault
    from .console import say

    own = access.credentials("vault", how)
    logins: dict[str, Recipient] = {}
    if own["login"] is not None and own["password"] is not None:
        logins[own["login"]] = Passphrase(own["password"])
    if keep_login is not None and keep_login not in logins:
        logins[keep_login] = access.new_login(f"the passphrase of {keep_login}:", None)
    for name in names:
        logins.pop(name, None)
    given = opt.load_recipient_files(recipient_files)
    with Vault.open(folder, keys_path=how["keys_path"], **own) as opened:
        with auditing.job(**about("recipients", opened)):
            gone = opened.remove_recipients(names, given=given, logins=logins, drop=drop_others)
        backup = opened.keys_path
    if not gone:
        say(f"{', '.join(names)}: removed before; what was still to be done after that is done now")
    else:
        say(f"removed: {', '.join(gone)}")
    say(f"{backup} is a new key table, of which there is no backup yet")
    say("what is in the vault already is under its old keys: `vault rewrap --deep` encrypts it "
        "anew; old copies of the key table still open what was there")


@click.command(epilog="""\b
Examples:
  dicomcrypt vault rewrap archive/ --deep -i doctor.key

\b
After `vault recipients remove`: objects that were there before are encrypted anew under new
record keys, and the old keys are deleted. Whoever kept an old key table cannot read what is in
the vault then. He can still read copies of old objects: backups of the vault that were made
before.
""")
@unlocking
@click.option("--deep", is_flag=True, required=True,
              help="Encrypt every object anew: reads and writes everything.")
@opt.jobs
@opt.output_style
def rewrap(
    folder: str, deep: bool, jobs: int | None, as_json: bool, quiet: bool, verbose: bool,
    **how: Unpack[Unlocking],
) -> None:
    """Encrypt everything in a vault anew, under new keys.

    Objects are replaced one after the other; meanwhile everything can be read. A job that was
    interrupted or killed goes on when the same command is given again.
    """
    from ..trees.pool import default_jobs
    from ..vault.rekeying import rewrap_deep
    from .console import Report, run

    with open_vault(folder, how) as opened:
        with Report("rewrap", as_json=as_json, quiet=quiet, verbose=verbose,
                    **about("rewrap", opened)) as report:
            run(report, rewrap_deep(opened, jobs or default_jobs(), watch=report.watch))
        opened.catalogue.save_cache()
    sys.exit(report.exit_status())
