"""`dicomcrypt key table`: keys in an encrypted database."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Unpack

import click

from ..errors import UsageError
from ..regular import open_regular
from . import access
from . import options as opt

if TYPE_CHECKING:
    from ..keytable import UnlockedKeyTable

unlocking = opt.shared(
    click.option("--login", metavar="NAME", help="Whose passphrase unlocks the table."),
    opt.identity,
    click.option("--fingerprint", metavar="HEX", help="Refuse any other table than this one."),
)
recipients = click.option("-r", "--recipient", "recipient_files", multiple=True, metavar="FILE",
                          help="Recipient whose identity may unlock the table; repeatable.")
message_passphrase = click.option(
    "--message-passphrase-file", metavar="FILE",
    help="Take the OpenPGP message's passphrase from a file's first line; without it, it is asked "
    "for.",
)


@click.group(epilog="""\b
Examples:
  dicomcrypt key table create keys.db --login anna -p -r backup.pub
  dicomcrypt key table new keys.db --login anna -p --kind archive --label "ward 3"
  dicomcrypt key table list keys.db -i backup.key
  dicomcrypt key table export keys.db --login anna -p -o keys.pgp
""")
def table() -> None:
    """Keys of a service or archive in an encrypted database.

    Nothing in it can be read or stored before it is unlocked: by a login and its passphrase
    (-p), or by an identity (-i).
    """


class Unlocking(access.Opening):
    """What the options of `unlocking` give."""

    fingerprint: str | None


def _unlock(file: str, how: Unlocking, *, strict: bool = True) -> UnlockedKeyTable:
    """Return the table unlocked."""
    from ..keytable import KeyTable

    return KeyTable(file).unlock(**access.credentials("key table", how),
                                 fingerprint=how["fingerprint"], strict=strict)


@table.command(epilog="""\b
Examples:
  dicomcrypt key table create keys.db --login anna -p
  dicomcrypt key table create keys.db --login service --passphrase-file secret -r backup.pub
""")
@click.argument("file")
@click.option("--login", metavar="NAME", help="Login that a passphrase is for.")
@opt.passphrase
@recipients
@opt.as_json
@opt.hushed
def create(
    file: str, login: str | None, ask: bool, passphrase_file: str | None,
    recipient_files: tuple[str, ...], as_json: bool,
) -> None:
    """Make a key table FILE, for a login, for recipients, or for both.

    Give it a second access: who loses the only one has lost every key in it.
    """
    from ..keytable import KeyTable
    from .console import print_json, say

    allowed = access.first_accesses(login, ask, passphrase_file, recipient_files)
    with KeyTable.create(file, allowed) as made:
        facts = {"file": file, "fingerprint": made.fingerprint, "accesses": list(allowed)}
    if as_json:
        print_json(facts)
        return
    say(f"key table {file}, fingerprint {facts['fingerprint']}: {', '.join(allowed)}")
    if len(allowed) == 1:
        say("it has one access: give it a second one with `key table grant`, or keep that one "
            "safe; who loses it has lost every key in the table")


@table.command("list", epilog="""\b
Examples:
  dicomcrypt key table list keys.db --login anna -p
  dicomcrypt key table list keys.db -i backup.key --json
""")
@click.argument("file")
@unlocking
@opt.as_json
def list_(file: str, as_json: bool, **how: Unpack[Unlocking]) -> None:
    """Verify every row of FILE and list its keys (never the keys themselves) and accesses."""
    from .console import print_json, print_table

    with _unlock(file, how) as opened:
        opened.check()
        keys = [{"id": k.id.hex(), "kind": k.kind, "label": k.label, "generation": k.generation}
                for k in opened.labels()]
        accesses = [{"name": name, "type": stanza.type_name, "hint": stanza.hint.hex()}
                    for name, stanza in opened.accesses().items()]
        facts = {"fingerprint": opened.fingerprint, "accesses": accesses, "keys": keys,
                 "documents": opened.documents()}
    if as_json:
        print_json(facts)
        return
    print_table([(a["name"], a["type"], a["hint"].strip("0") and a["hint"]) for a in accesses],
                ("name", "type", "hint"), f"accesses of {facts['fingerprint']}")
    if keys:
        print_table([(k["id"], k["kind"], k["label"] or "") for k in keys],
                    ("id", "kind", "label"), "keys")


@table.command(epilog="""\b
Examples:
  dicomcrypt key table new keys.db --login anna -p --kind archive --label "ward 3"
""")
@click.argument("file")
@unlocking
@click.option("--kind", default="key", show_default=True, help="What it is for; not hidden.")
@click.option("--label", help="Text for people; encrypted.")
@opt.as_json
def new(file: str, kind: str, label: str | None, as_json: bool, **how: Unpack[Unlocking]) -> None:
    """Store a new random key in FILE and print its id."""
    from .console import print_json

    with _unlock(file, how) as opened:
        key_id = opened.new_key(kind, label)[0].hex()
    if as_json:
        print_json({"id": key_id, "kind": kind, "label": label})
    else:
        click.echo(key_id)


@table.command(epilog="""\b
Examples:
  dicomcrypt key table delete keys.db 0f3c...9a --login anna -p
""")
@click.argument("file")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@unlocking
@opt.hushed
def delete(file: str, ids: tuple[str, ...], **how: Unpack[Unlocking]) -> None:
    """Remove keys from FILE: what they encrypted cannot be read any more."""
    from .console import say

    try:
        wanted = [bytes.fromhex(text) for text in ids]
    except ValueError:
        raise UsageError("the id of a key is 32 hex digits, as `key table list` shows") from None
    with _unlock(file, how) as opened, opened.transaction():
        for key_id in wanted:
            opened.delete(key_id)
    say(f"{len(wanted)} removed; copies of the file still hold what they held")


@table.command(epilog="""\b
Examples:
  dicomcrypt key table passwd keys.db --login anna
  dicomcrypt key table passwd keys.db --login anna --passphrase-file old --new-passphrase-file new
""")
@click.argument("file")
@click.option("--login", required=True, metavar="NAME", help="Whose passphrase changes.")
@opt.passphrase
@access.new_passphrase
@opt.hushed
def passwd(
    file: str, login: str, ask: bool, passphrase_file: str | None, new_passphrase_file: str | None,
) -> None:
    """Change a login's passphrase; the keys in FILE stay as they are.

    Old copies of the file still open with the old passphrase.
    """
    from ..keytable import KeyTable
    from .console import say

    access.two_inputs(passphrase_file, new_passphrase_file)
    old = opt.needed_passphrase(ask, passphrase_file, confirm=False)
    with KeyTable(file).unlock(login, old) as opened:
        opened.change_password(login, old, access.entered_new("the new one:", new_passphrase_file))
    say(f"the passphrase of {login} is changed")


@table.command(epilog="""\b
Examples:
  dicomcrypt key table grant keys.db bob --login anna -p
  dicomcrypt key table grant keys.db backup -r backup.pub --login anna -p
""")
@click.argument("file")
@click.argument("name")
@unlocking
@click.option("-r", "--recipient", "recipient_file", metavar="FILE",
              help="Recipient whose identity may unlock the table; without it, NAME is a login.")
@access.new_passphrase
@click.option("-f", "--force", is_flag=True, help="Replace the access that NAME has.")
@opt.hushed
def grant(
    file: str, name: str, recipient_file: str | None, new_passphrase_file: str | None, force: bool,
    **how: Unpack[Unlocking],
) -> None:
    """Let NAME unlock FILE too, by a passphrase or by an identity."""
    from .console import say

    access.two_inputs(how["passphrase_file"], new_passphrase_file)
    recipient = access.one_recipient(recipient_file, new_passphrase_file)
    with _unlock(file, how) as opened:
        if recipient is None:
            recipient = access.new_login(f"the passphrase of {name}:", new_passphrase_file)
        opened.grant(name, recipient, replace=force)
    say(f"{name} may unlock {file}")


@table.command(epilog="""\b
Examples:
  dicomcrypt key table revoke keys.db bob --login anna -p
""")
@click.argument("file")
@click.argument("name")
@unlocking
@opt.hushed
def revoke(file: str, name: str, **how: Unpack[Unlocking]) -> None:
    """Take NAME's access to FILE away.

    Who kept a copy of the file can still open that copy: if that matters, export, import into
    a new table, and encrypt anew what matters.
    """
    from .console import say

    with _unlock(file, how) as opened:
        opened.revoke(name)
    say(f"{name} cannot unlock {file} any more; old copies of it are not changed by that")


@table.command(epilog="""\b
Examples:
  dicomcrypt key table export keys.db --login anna -p -o keys.pgp
  dicomcrypt key table export keys.db -i backup.key -o keys.pgp --certificate office.asc
  gpg -d keys.pgp                                 shows the keys
""")
@click.argument("file")
@unlocking
@click.option("-o", "--output", required=True, metavar="FILE", help="Where the message goes.")
@message_passphrase
@click.option("--certificate", "certificates", multiple=True, metavar="FILE",
              help="OpenPGP certificate to encrypt to instead of a passphrase; repeatable.")
@click.option("--binary", is_flag=True, help="Without ASCII armor.")
@click.option("--damaged", is_flag=True, help="Of a damaged table, export what can be read.")
@opt.force
@opt.hushed
def export(
    file: str, output: str, message_passphrase_file: str | None, certificates: tuple[str, ...],
    binary: bool, damaged: bool, force: bool, **how: Unpack[Unlocking],
) -> None:
    """Write all keys of FILE as an OpenPGP message, which GnuPG opens.

    Whoever opens the message has the keys. OpenPGP stretches a passphrase less than the table
    does: take a long one.
    """
    from ..keys.keyfile import write_private
    from .console import complain, say

    access.two_inputs(how["passphrase_file"], message_passphrase_file)
    if certificates and message_passphrase_file is not None:
        raise UsageError("a certificate or a passphrase: give one of them")
    data = [_read(path, 1 << 24) for path in certificates]
    with _unlock(file, how, strict=not damaged) as opened:
        password = None if certificates else access.entered_new(
            "the passphrase of the message:", message_passphrase_file
        )
        message = opened.export(password=password, certificates=data, armor=not binary)
        lost = sorted(opened.damaged)
    write_private(output, message, force=force)
    for key_id in lost:
        complain(f"key {key_id.hex()} is damaged and left out")
    say(f"{output}: OpenPGP message (secret)")
    if lost:
        sys.exit(4)


@table.command("import", epilog="""\b
Examples:
  dicomcrypt key table import keys.db keys.pgp --login anna -p
  dicomcrypt key table import keys.db keys.pgp --login anna -p --openpgp-key office-secret.asc
""")
@click.argument("file")
@click.argument("message")
@unlocking
@message_passphrase
@click.option("--openpgp-key", metavar="FILE", help="OpenPGP secret key that opens the message.")
@opt.as_json
@opt.hushed
def import_(
    file: str, message: str, message_passphrase_file: str | None, openpgp_key: str | None,
    as_json: bool, **how: Unpack[Unlocking],
) -> None:
    """Take over the keys of an OpenPGP MESSAGE into FILE: all of them or none."""
    from ..keytable.openpgp import LONGEST_MESSAGE
    from .console import print_json, say

    access.two_inputs(how["passphrase_file"], message_passphrase_file)
    data = _read(message, LONGEST_MESSAGE)
    key = None if openpgp_key is None else _read(openpgp_key, 1 << 24)
    with _unlock(file, how) as opened:
        password = None
        if key is None or message_passphrase_file is not None:
            if message_passphrase_file is None:
                say("the passphrase of the message:")
            password = opt.needed_passphrase(False, message_passphrase_file, confirm=False)
        new, known = opened.import_(data, password=password, key=key)
    if as_json:
        print_json({"imported": new, "known": known})
    else:
        say(f"{new} keys imported, {known} were here already")


def _read(path: str, limit: int) -> bytes:
    try:
        with open(open_regular(path), "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path!r}: {(error.strerror or '').lower()}") from None
    if len(data) > limit:
        raise UsageError(f"{path!r} is too large")
    return data
