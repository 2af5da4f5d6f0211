"""`dicomcrypt vault backup-keys` and `restore-keys`: copies of the key table."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack

import click

from ..errors import UsageError
from . import access, auditing, outputs
from . import options as opt
from .vault import Unlocking, about, open_vault, unlocking

if TYPE_CHECKING:
    from ..keytable import KeyTable, UnlockedKeyTable
    from ..vault.backups import Backup


def day(seconds: float) -> str:
    """Return the date of a moment, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()


def moment(seconds: float) -> str:
    """Return a moment in ISO 8601, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def copies(found: Iterable[Backup]) -> list[dict[str, Any]]:
    """Return what --json has of copies of the key table."""
    return [{"id": b.id.hex(), "time": day(b.time / 1e9), "counter": b.change, "place": b.place}
            for b in found]


def unlocker(how: access.Opening) -> Callable[[KeyTable, bool], UnlockedKeyTable]:
    """Return a function that opens a `KeyTable`, strictly or not; asks once."""
    found = access.credentials("vault", how)
    return lambda table, strict: table.unlock(**found, strict=strict)


@click.command("backup-keys", epilog="""\b
Examples:
  dicomcrypt vault backup-keys safe/ /mnt/safe-place/2031-01.keys -i doctor.key
  dicomcrypt vault backup-keys safe/ -i doctor.key                  (lists the copies)
  dicomcrypt vault backup-keys safe/ -i doctor.key --forget ID      (it was destroyed)
""")
@unlocking
@click.argument("to", required=False)
@click.option("--forget", metavar="ID", help="Copy that was destroyed, and is not named any more.")
@outputs.spare_inputs
@click.option("-f", "--force", is_flag=True, help="Overwrite the file TO.")
@opt.as_json
@opt.hushed
def backup_keys(
    folder: str, to: str | None, forget: str | None, force: bool, as_json: bool,
    **how: Unpack[Unlocking],
) -> None:
    """Copy the vault's key table into the file TO, while others use it.

    Never keep it with the vault's own backup: whoever has both reads what was erased since.
    `vault erase` names the copies that still hold what it erases.
    """
    from ..vault import backups
    from .console import print_json, print_table, say

    if to and forget:
        raise UsageError("TO and --forget: give one of them")
    with open_vault(folder, how, catalogue=False) as vault:
        if forget:
            try:
                backup_id = bytes.fromhex(forget)
            except ValueError:
                raise UsageError("--forget takes a copy's id, in hexadecimal") from None
            with auditing.job(**about("backup", vault)) as facts:
                facts["objects"] = [forget]
                backups.forget_backup(vault.keys, backup_id)
        elif to:
            with auditing.job(**about("backup", vault)) as facts:
                made = backups.backup_keys(vault, to, force=force)
                facts |= {"objects": [made.id.hex()], "sequence": made.counter}
            if as_json:
                print_json(copies([made])[0])
            else:
                say(f"copied: {made.place}, id {made.id.hex()}, change {made.counter}")
            return
        found = copies(backups.backups(vault.keys))
    if as_json:
        print_json(found)
    elif found:
        print_table([["" if cell is None else str(cell) for cell in b.values()] for b in found],
                    ("id", "made", "change", "place"))
    else:
        say("no copy of the key table is registered")


@click.command("restore-keys", epilog="""\b
Examples:
  dicomcrypt vault restore-keys safe/ /mnt/safe-place/2031-01.keys -i doctor.key
""")
@unlocking
@click.argument("source", metavar="FROM")
@click.option("-f", "--force", is_flag=True,
              help="Also if the present key table has keys that the copy has not, or cannot be "
              "opened.")
@opt.as_json
@opt.hushed
def restore_keys(
    folder: str, source: str, force: bool, as_json: bool, **how: Unpack[Unlocking],
) -> None:
    """Put a copy of the key table back.

    What was erased since the copy was made stays erased: its keys are destroyed in it. Who may
    open the vault is as it was when the copy was made. The present key table is kept aside.

    A copy from before the last `recipients remove` or `rewrap` lets in who was removed, and does
    not open what was added or encrypted anew since: it is put back with --force only, and then
    `vault repair --rebuild` lists what it opens. It is opened with a key that could open it then.
    """
    from ..vault import backups
    from ..vault.vault import keys_place, read_header
    from .console import print_json, say

    found, vault_id = read_header(folder)
    path = keys_place(found, how["keys_path"])
    with auditing.job("vault.restore", vault=vault_id.hex()) as facts:
        done = backups.restore_keys(found, vault_id, path, source, unlocker(how), force=force)
        facts |= {"done": done.keys, "number": done.buried}
    if as_json:
        print_json({"keys": done.keys, "erased_again": done.buried, "lost": done.lost,
                    "aside": done.aside, "accesses": list(done.accesses), "older": done.older})
        return
    say(f"restored: {done.keys} record keys, {done.buried} of which were erased since and are "
        "gone again")
    say(f"may open the vault: {', '.join(done.accesses)}")
    if done.aside:
        say(f"the key table that was there is kept: {done.aside}")
    if done.older:
        say("the catalogue is of a later vault key: give `vault repair --rebuild`, which sets "
            "aside what this key table does not open")
