"""`dicomcrypt vault`: an archive that can be listed, shared, re-keyed and forgotten."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import click

from ..errors import UsageError
from . import LazyGroup, access, auditing
from . import options as opt

if TYPE_CHECKING:
    from ..vault.rows import Row
    from ..vault.vault import Vault

#: Each command's module of this package.
COMMANDS = {
    "create": "vault",
    "add": "vault_files",
    "ls": "vault_find",
    "find": "vault_find",
    "get": "vault_files",
    "cat": "vault_files",
    "verify": "vault_files",
    "share": "vault_files",
    "recipients": "vault_keys",
    "rewrap": "vault_keys",
    "stats": "vault",
    "log": "vault_log",
    "dedupe": "vault_log",
    "hold": "vault_keep",
    "retention": "vault_keep",
    "erase": "vault_keep",
    "merge": "vault_keep",
    "backup-keys": "vault_backups",
    "restore-keys": "vault_backups",
    "check": "vault_check",
    "repair": "vault_check",
}


@click.group(cls=LazyGroup, modules=COMMANDS, epilog="""\b
Examples:
  dicomcrypt vault create archive/ -r doctor.pub -r backup.pub
  dicomcrypt vault add archive/ ward3/ -i doctor.key
  dicomcrypt vault ls archive/ -i doctor.key
  dicomcrypt vault get archive/ --patient 4711 -i doctor.key -o back/
  dicomcrypt vault share archive/ --study 1.2.3 --to colleague.pub -o for-colleague/ -i doctor.key
""")
def vault() -> None:
    """An encrypted archive in a folder, whose names and layout tell nothing.

    Its keys are in a key table beside the folder (FOLDER.keys), never in it: without the key
    table nobody reads anything. Back both up, in two places: whoever copies both together keeps
    what was to be erased.
    """


unlocking = opt.shared(
    click.argument("folder", metavar="VAULT"),
    click.option("--keys", "keys_path", metavar="FILE",
                 help="The vault's key table; by default beside the folder, VAULT.keys."),
    click.option("--login", metavar="NAME", help="Whose passphrase opens the vault."),
    opt.identity,
)
selection = opt.shared(
    click.option("--patient", multiple=True, metavar="ID",
                 help="Patient ID, as it stands: nothing in it is a wildcard; repeatable."),
    click.option("--issuer", metavar="NAME", help="Issuer of the patient ID."),
    click.option("--study", multiple=True, metavar="UID", help="Study Instance UID; repeatable."),
    click.option("--series", multiple=True, metavar="UID",
                 help="Series Instance UID; repeatable."),
    click.option("--object", "objects", multiple=True, metavar="ID",
                 help="Object id, as `find` shows it; repeatable."),
    click.option("--all", "everything", is_flag=True, help="All that is in the vault."),
)


class Unlocking(access.Opening):
    """What the options of `unlocking` give, beside the vault."""

    keys_path: str | None


class Selection(TypedDict):
    """What the options of `selection` give."""

    patient: tuple[str, ...]
    issuer: str | None
    study: tuple[str, ...]
    series: tuple[str, ...]
    objects: tuple[str, ...]
    everything: bool


class Selecting(Unlocking, Selection):
    """What the options of `unlocking` and `selection` give."""


def open_vault(folder: str, how: Unlocking, *, catalogue: bool = True) -> Vault:
    """Return the vault opened. catalogue: False leaves it alone (`Vault.open`)."""
    from ..vault.vault import Vault

    return Vault.open(folder, keys_path=how["keys_path"], catalogue=catalogue,
                      **access.credentials("vault", how))


def about(verb: str, vault: Vault) -> dict[str, str]:
    """What the audit log is told of a job: its action, and the vault's random id."""
    return {"action": f"vault.{verb}", "vault": vault.keys.vault_id.hex()}


def tell_missing(vault: Vault) -> int:
    """Say that rows could not be read, as the key table lacks their keys; return the exit status
    for what is not all there, 0 if it is."""
    from .console import complain

    if vault.catalogue.lacks_keys():
        from ..vault.checking import keyless

        lost = keyless(vault)
        if lost:
            complain(lost)
            return 4
    return 0


def selected(vault: Vault, how: Selection, paths: Sequence[str] = ()) -> list[Row]:
    """Return the rows that are asked for. Raises UsageError if nothing is, or if something of it
    matches nothing: who asks for two files is not to believe that he has both."""
    from ..vault.reading import select

    given: dict[str, Any] = {
        "PatientID": how["patient"], "IssuerOfPatientID": how["issuer"],
        "StudyInstanceUID": how["study"], "SeriesInstanceUID": how["series"],
        "path": [os.fsencode(os.path.normpath(path)) for path in paths],
    }  # fmt: skip
    query = {keyword: found for keyword, found in given.items() if found not in (None, (), [])}
    if not query and not how["objects"] and not how["everything"]:
        raise UsageError("say which: --patient, --study, --series, --object, a path, or --all")
    try:
        ids = [bytes.fromhex(text) for text in how["objects"]]
    except ValueError:
        raise UsageError("an object's id is 32 hex digits, as `vault find` shows them") from None
    rows = list(select(vault, query, objects=ids))
    if not rows:
        raise UsageError("nothing in the vault matches")
    there = {row.path or b"" for row in rows}
    for path in [*there]:
        there.update(path[: found.start()] for found in re.finditer(b"/", path))
    missing = [text for text in query.get("path", ()) if text not in there]
    for keyword, texts in query.items():
        if keyword != "path" and not isinstance(texts, str) and (len(texts) > 1 or ids):
            missing += [text for text in texts
                        if next(select(vault, {**query, keyword: text}), None) is None]
    if missing:
        more = f", nor {len(missing) - 1} more of what was given" if len(missing) > 1 else ""
        raise UsageError(f"nothing in the vault matches {os.fsdecode(missing[0])!r}{more}")
    return rows


@click.command(epilog="""\b
Examples:
  dicomcrypt vault create archive/ -r doctor.pub -r backup.pub
  dicomcrypt vault create archive/ --login service --passphrase-file secret --recovery office.pub
  dicomcrypt vault create /mnt/store/archive -r doctor.pub --keys /srv/keys/archive.keys
""")
@click.argument("folder", metavar="VAULT")
@click.option("--keys", "keys_path", metavar="FILE",
              help="Where the key table goes; by default beside the folder, VAULT.keys.")
@click.option("-r", "--recipient", "recipient_files", multiple=True, metavar="FILE",
              help="Recipient file of somebody who may open the vault; repeatable.")
@click.option("--recovery", "recovery_files", multiple=True, metavar="FILE",
              help="Recipient file of a recovery key, which is kept offline, beside [recipients] "
              "recovery of the configuration; repeatable.")
@click.option("--login", metavar="NAME", help="Login that a passphrase is for.")
@opt.passphrase
@opt.as_json
@opt.hushed
def create(
    folder: str, keys_path: str | None, recipient_files: tuple[str, ...],
    recovery_files: tuple[str, ...], login: str | None, ask: bool, passphrase_file: str | None,
    as_json: bool,
) -> None:
    """Make a vault in a new or empty folder.

    The vault's key table is made beside it. Who loses it, or every key that opens it, has lost
    the vault: give it a second recipient, and back the table up.
    """
    from ..vault.vault import Vault
    from .console import print_json, say
    from .crypt import recovery_warnings

    spare = (*opt.configured_recipients("recovery"), *recovery_files)
    allowed = access.first_accesses(login, ask, passphrase_file, [*recipient_files, *spare])
    if not allowed:
        raise UsageError("for whom is the vault? give -r FILE, or --login NAME -p")
    warnings = [] if spare else recovery_warnings(not as_json)
    with (
        auditing.job("vault.create"), Vault.create(folder, allowed, keys_path=keys_path) as made
    ):
        facts = {"vault": os.path.abspath(folder), "id": made.keys.vault_id.hex(),
                 "keys": made.keys_path,
                 "fingerprint": made.keys.table.fingerprint, "recipients": list(allowed),
                 "warnings": warnings}
    if as_json:
        print_json(facts)
        return
    say(f"vault {folder}, for {', '.join(allowed)}")
    say(f"its keys are in {facts['keys']}: back that up, elsewhere than the vault")
    if len(allowed) == 1:
        say("one recipient opens it: add another, or keep that key safe; who loses it has lost "
            "everything in the vault")


@click.command(epilog="""\b
Examples:
  dicomcrypt vault stats archive/ -i doctor.key
""")
@unlocking
@opt.as_json
def stats(folder: str, as_json: bool, **how: Unpack[Unlocking]) -> None:
    """Say how much is in a vault."""
    from .console import print_json, print_table, size_text

    with open_vault(folder, how) as opened:
        facts = opened.catalogue.stats() | {"key_generations": opened.keys.generation}
        lost = tell_missing(opened)
    rows = [(name.replace("_", " "), size_text(n) if "size" in name else str(n))
            for name, n in facts.items()]
    if as_json:
        print_json(facts)
    else:
        print_table(rows, ("what", "how much"), folder)
    sys.exit(lost)
