"""`dicomcrypt keygen`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import UsageError
from . import options as opt


@click.command(epilog="""\b
Examples:
  dicomcrypt keygen -o doctor.key
  dicomcrypt keygen -o doctor.key -p              sealed with a passphrase
  dicomcrypt keygen --type x25519 -o old.key      classical, not post-quantum
""")
@click.option("-o", "--output", required=True, metavar="NAME.key",
              help="Where the identity goes; the recipient goes to NAME.pub.")
@click.option("--type", "kind", type=click.Choice(["mlkem768-x25519", "x25519"]),
              default="mlkem768-x25519", show_default=True, help="Kind of key.")
@opt.passphrase
@opt.force
@opt.as_json
@opt.hushed
def keygen(
    output: str, kind: str, ask: bool, passphrase_file: str | None, force: bool, as_json: bool,
) -> None:
    """Make a key pair: a secret identity and a public recipient.

    Keep a copy of the identity in a safe place: without it, what was encrypted to it is lost.
    """
    from ..keys.hybrid import HybridIdentity
    from ..keys.x25519 import X25519Identity

    public = public_name(output)
    passphrase = opt.read_passphrase(ask, passphrase_file, confirm=True)
    made = X25519Identity.generate() if kind == "x25519" else HybridIdentity.generate()
    write_pair(output, public, made, passphrase, force=force, as_json=as_json)


def public_name(output: str) -> Path:
    """Where the recipient of an identity file goes."""
    if not Path(output).name:
        raise UsageError(f"{output!r} is no name for a key file")
    public = Path(output).with_suffix(".pub")
    if public == Path(output):
        raise UsageError("the identity's name must not end in .pub")
    return public


def write_pair(output: str, public: Path, identity: Any, passphrase: str | None, *,
               force: bool, as_json: bool) -> None:
    """Write an identity, sealed if there is a passphrase, and its recipient, and say so."""
    from .. import api
    from ..keys import keyfile
    from ..keys.passphrase import Passphrase
    from ..objects.atomic import AtomicFile, default_mode
    from .console import print_json, say

    secret = keyfile.identity_text(identity).encode()
    if passphrase is not None:
        secret = api.encrypt(secret, [Passphrase(passphrase)])
    with AtomicFile(public, force=force) as file:
        keyfile.write_private(output, secret, force=force)
        file.raw.write(keyfile.recipient_text(identity.recipient).encode())
        file.commit(mode=default_mode())
    facts = {"identity": output, "recipient": str(public), "type": identity.algorithm,
             "hint": identity.recipient.hint.hex(), "sealed": passphrase is not None}
    if as_json:
        print_json(facts)
    else:
        say(f"identity:  {output} (secret, keep a copy in a safe place)")
        say(f"recipient: {public} (public, hint {facts['hint']})")
