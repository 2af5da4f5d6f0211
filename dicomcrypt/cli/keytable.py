"""`dicomcrypt key table`: keys in an encrypted database."""

from __future__ import annotations

from typing import Any

import click

from ..errors import UsageError
from ..regular import open_regular
from . import options as opt

unlocking = opt.shared(
    click.option("--login", metavar="NAME", help="Whose passphrase unlocks the table."),
    opt.identity,
    click.option("--fingerprint", metavar="HEX", help="Refuse any other table than this one."),
)
new_passphrase = click.option(
    "--new-passphrase-file", metavar="FILE",
    help="Take the new passphrase from a file's first line; without it, it is asked for.",
)
recipients = click.option("-r", "--recipient", "recipient_files", multiple=True, metavar="FILE",
                          help="Recipient whose identity may unlock the table; repeatable.")
message_passphrase = click.option(
    "--message-passphrase-file", metavar="FILE",
    help="Take the OpenPGP message's passphrase from a file's first line; without it, it is asked "
    "for.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


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


def _unlock(file: str, login, identity_files, ask, passphrase_file, fingerprint, **how) -> Any:
    """Return the table unlocked."""
    from ..keytable import KeyTable

    if login is None:
        if not opt.by_identity(identity_files):
            raise UsageError("unlock the key table with --login NAME -p, or with -i FILE")
        found = opt.load_identity_files(identity_files, ask, passphrase_file)
        return KeyTable(file).unlock(identities=found, fingerprint=fingerprint, **how)
    if opt.by_identity(identity_files):
        raise UsageError("--login and --identity: give one of them")
    password = opt.read_passphrase(ask or passphrase_file is None, passphrase_file, confirm=False)
    return KeyTable(file).unlock(login, password, fingerprint=fingerprint, **how)


def _new_passphrase(file: str | None, what: str) -> str:
    from .console import say

    if file is None:
        say(what)
    return opt.read_passphrase(file is None, file, confirm=True) or ""


def _two_inputs(first: str | None, second: str | None) -> None:
    if first == "-" and second == "-":
        raise UsageError("standard input cannot give both passphrases")


@table.command(epilog="""\b
Examples:
  dicomcrypt key table create keys.db --login anna -p
  dicomcrypt key table create keys.db --login service --passphrase-file secret -r backup.pub
""")
@click.argument("file")
@click.option("--login", metavar="NAME", help="Login that a passphrase is for.")
@opt.passphrase
@recipients
@as_json
def create(file, login, ask, passphrase_file, recipient_files, as_json):
    """Make a key table FILE, for a login, for recipients, or for both.

    Give it a second access: who loses the only one has lost every key in it.
    """
    from ..keys.passphrase import Passphrase
    from ..keytable import KeyTable
    from .console import print_json, say

    access: dict[str, Any] = {}
    if login is not None:
        text = opt.read_passphrase(ask or passphrase_file is None, passphrase_file, confirm=True)
        access[login] = Passphrase(text)
    elif ask or passphrase_file is not None:
        raise UsageError("whose passphrase is it? give --login NAME")
    opt.access_of(recipient_files, access)
    with KeyTable.create(file, access) as made:
        facts = {"file": file, "fingerprint": made.fingerprint, "accesses": list(access)}
    if as_json:
        print_json(facts)
        return
    say(f"key table {file}, fingerprint {facts['fingerprint']}: {', '.join(access)}")
    if len(access) == 1:
        say("it has one access: give it a second one with `key table grant`, or keep that one "
            "safe; who loses it has lost every key in the table")


@table.command("list", epilog="""\b
Examples:
  dicomcrypt key table list keys.db --login anna -p
  dicomcrypt key table list keys.db -i backup.key --json
""")
@click.argument("file")
@unlocking
@as_json
def list_(file, as_json, **how):
    """Verify every row of FILE and list its keys (never the keys themselves) and accesses."""
    from .console import print_json, print_table

    with _unlock(file, **how) as opened:
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
    rows = [(a["name"], a["type"], a["hint"].strip("0") and a["hint"]) for a in accesses]
    print_table(rows, ("name", "type", "hint"), f"accesses of {facts['fingerprint']}")
    if keys:
        rows = [(k["id"], k["kind"], k["label"] or "") for k in keys]
        print_table(rows, ("id", "kind", "label"), "keys")


@table.command(epilog="""\b
Examples:
  dicomcrypt key table new keys.db --login anna -p --kind archive --label "ward 3"
""")
@click.argument("file")
@unlocking
@click.option("--kind", default="key", show_default=True, help="What it is for; not hidden.")
@click.option("--label", help="Text for people; encrypted.")
@as_json
def new(file, kind, label, as_json, **how):
    """Store a new random key in FILE and print its id."""
    from .console import print_json

    with _unlock(file, **how) as opened:
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
def delete(file, ids, **how):
    """Remove keys from FILE: what they encrypted cannot be read any more."""
    from .console import say

    try:
        wanted = [bytes.fromhex(text) for text in ids]
    except ValueError:
        raise UsageError("the id of a key is 32 hex digits, as `key table list` shows") from None
    with _unlock(file, **how) as opened, opened.transaction():
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
@new_passphrase
def passwd(file, login, ask, passphrase_file, new_passphrase_file):
    """Change a login's passphrase; the keys in FILE stay as they are.

    Old copies of the file still open with the old passphrase.
    """
    from ..keytable import KeyTable
    from .console import say

    _two_inputs(passphrase_file, new_passphrase_file)
    old = opt.read_passphrase(ask or passphrase_file is None, passphrase_file, confirm=False)
    with KeyTable(file).unlock(login, old) as opened:
        opened.change_password(login, old, _new_passphrase(new_passphrase_file, "the new one:"))
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
@new_passphrase
@click.option("-f", "--force", is_flag=True, help="Replace the access that NAME has.")
def grant(file, name, recipient_file, new_passphrase_file, force, **how):
    """Let NAME unlock FILE too, by a passphrase or by an identity."""
    from ..keys.passphrase import Passphrase
    from .console import say

    _two_inputs(how["passphrase_file"], new_passphrase_file)
    if recipient_file is not None:
        if new_passphrase_file is not None:
            raise UsageError("a recipient or a passphrase: give one of them")
        found = opt.load_recipient_files((recipient_file,))
        if len(found) != 1:
            raise UsageError(f"{recipient_file!r} holds {len(found)} recipients: one is needed")
    with _unlock(file, **how) as opened:
        recipient = found[0] if recipient_file is not None else Passphrase(
            _new_passphrase(new_passphrase_file, f"the passphrase of {name}:")
        )
        opened.grant(name, recipient, replace=force)
    say(f"{name} may unlock {file}")


@table.command(epilog="""\b
Examples:
  dicomcrypt key table revoke keys.db bob --login anna -p
""")
@click.argument("file")
@click.argument("name")
@unlocking
def revoke(file, name, **how):
    """Take NAME's access to FILE away.

    Who kept a copy of the file can still open that copy: if that matters, export, import into
    a new table, and encrypt anew what matters.
    """
    from .console import say

    with _unlock(file, **how) as opened:
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
def export(file, output, message_passphrase_file, certificates, binary, damaged, force, **how):
    """Write all keys of FILE as an OpenPGP message, which GnuPG opens.

    Whoever opens the message has the keys. OpenPGP stretches a passphrase less than the table
    does: take a long one.
    """
    from ..keys.keyfile import write_private
    from .console import complain, say

    _two_inputs(how["passphrase_file"], message_passphrase_file)
    if certificates and message_passphrase_file is not None:
        raise UsageError("a certificate or a passphrase: give one of them")
    data = [_read(path, 1 << 24) for path in certificates]
    with _unlock(file, **how, strict=not damaged) as opened:
        password = None if certificates else _new_passphrase(
            message_passphrase_file, "the passphrase of the message:"
        )
        message = opened.export(password=password, certificates=data, armor=not binary)
        lost = sorted(opened.damaged)
    write_private(output, message, force=force)
    for key_id in lost:
        complain(f"key {key_id.hex()} is damaged and left out")
    say(f"{output}: OpenPGP message (secret)")
    return 4 if lost else 0


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
@as_json
def import_(file, message, message_passphrase_file, openpgp_key, as_json, **how):
    """Take over the keys of an OpenPGP MESSAGE into FILE: all of them or none."""
    from ..keytable.openpgp import LONGEST_MESSAGE
    from .console import print_json, say

    _two_inputs(how["passphrase_file"], message_passphrase_file)
    data = _read(message, LONGEST_MESSAGE)
    key = None if openpgp_key is None else _read(openpgp_key, 1 << 24)
    with _unlock(file, **how) as opened:
        password = None
        if key is None or message_passphrase_file is not None:
            if message_passphrase_file is None:
                say("the passphrase of the message:")
            password = opt.read_passphrase(
                message_passphrase_file is None, message_passphrase_file, confirm=False
            )
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
