"""`dicomcrypt vault`: an archive that can be listed, shared, re-keyed and forgotten."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from typing import Any

import click

from ..errors import UsageError
from . import auditing
from . import options as opt

#: Each command's module here, imported when the command is used.
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
    "backup-keys": "vault_keep",
    "restore-keys": "vault_keep",
    "check": "vault_check",
    "repair": "vault_check",
}


class VaultGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found = import_module(f".{COMMANDS[name]}", __package__)
        return getattr(found, name.replace("-", "_"))


@click.group(cls=VaultGroup, epilog="""\b
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


def open_vault(folder: str, keys_path, login, identity_files, ask, passphrase_file,
               **more) -> Any:
    """Return the vault opened; more: for `Vault.open`."""
    from ..vault.vault import Vault

    if login is None:
        if not opt.by_identity(identity_files):
            raise UsageError("open the vault with -i FILE, --card, or with --login NAME -p")
        found = opt.load_identity_files(identity_files, ask, passphrase_file)
        return Vault.open(folder, keys_path=keys_path, identities=found, **more)
    if opt.by_identity(identity_files):
        raise UsageError("--login and --identity: give one of them")
    password = opt.read_passphrase(ask or passphrase_file is None, passphrase_file, confirm=False)
    return Vault.open(folder, keys_path=keys_path, login=login, password=password,
                      **more)


def about(verb: str, vault: Any) -> dict[str, str]:
    """What the audit log is told of a job: its action, and the vault's random id."""
    return {"action": f"vault.{verb}", "vault": vault.keys.vault_id.hex()}


def tell_missing(vault: Any) -> int:
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


def selected(vault: Any, patient, issuer, study, series, objects, everything, paths=()) -> Any:
    """Return the rows that are asked for. Raises UsageError if nothing is, or if something of it
    matches nothing: who asks for two files is not to believe that he has both."""
    from ..vault.reading import select

    query = {"PatientID": patient, "IssuerOfPatientID": issuer, "StudyInstanceUID": study,
             "SeriesInstanceUID": series,
             "path": [os.fsencode(os.path.normpath(path)) for path in paths]}
    query = {keyword: found for keyword, found in query.items() if found not in (None, (), [])}
    if not query and not objects and not everything:
        raise UsageError("say which: --patient, --study, --series, --object, a path, or --all")
    try:
        ids = [bytes.fromhex(text) for text in objects]
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
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def create(folder, keys_path, recipient_files, recovery_files, login, ask, passphrase_file,
           as_json):
    """Make a vault in a new or empty folder.

    The vault's key table is made beside it. Who loses it, or every key that opens it, has lost
    the vault: give it a second recipient, and back the table up.
    """
    from ..keys.passphrase import Passphrase
    from ..vault.vault import Vault
    from .console import print_json, say
    from .crypt import recovery_warnings

    access: dict[str, Any] = {}
    if login is not None:
        text = opt.read_passphrase(ask or passphrase_file is None, passphrase_file, confirm=True)
        access[login] = Passphrase(text)
    elif ask or passphrase_file is not None:
        raise UsageError("whose passphrase is it? give --login NAME")
    opt.access_of(recipient_files, access)
    spare = (*opt.configured_recipients("recovery"), *recovery_files)
    opt.access_of(spare, access)
    if not access:
        raise UsageError("for whom is the vault? give -r FILE, or --login NAME -p")
    warnings = [] if spare else recovery_warnings(not as_json)
    with (
        auditing.job("vault.create"), Vault.create(folder, access, keys_path=keys_path) as made
    ):
        facts = {"vault": made.store.root, "id": made.keys.vault_id.hex(), "keys": made.keys_path,
                 "fingerprint": made.keys.table.fingerprint, "recipients": list(access),
                 "warnings": warnings}
    if as_json:
        print_json(facts)
        return
    say(f"vault {folder}, for {', '.join(access)}")
    say(f"its keys are in {facts['keys']}: back that up, elsewhere than the vault")
    if len(access) == 1:
        say("one recipient opens it: add another, or keep that key safe; who loses it has lost "
            "everything in the vault")


@click.command(epilog="""\b
Examples:
  dicomcrypt vault stats archive/ -i doctor.key
""")
@unlocking
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def stats(folder, as_json, **how):
    """Say how much is in a vault."""
    from .console import print_json, print_table, size_text

    with open_vault(folder, **how) as opened:
        facts = opened.catalogue.stats() | {"key_generations": opened.keys.generation}
        lost = tell_missing(opened)
    rows = [(name.replace("_", " "), size_text(n) if "size" in name else str(n))
            for name, n in facts.items()]
    if as_json:
        print_json(facts)
    else:
        print_table(rows, ("what", "how much"), folder)
    sys.exit(lost)
