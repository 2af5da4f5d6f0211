"""Options that several commands of `prescription` share, and what they give."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from . import options as opt
from . import pki_options as pki

if TYPE_CHECKING:
    from cryptography import x509

    from ..prescription.holders import Holder
    from ..prescription.opening import Opened, Sources
    from ..prescription.register import Client

key = opt.shared(
    click.option("-k", "--key", required=True, metavar="FILE",
                 help="Private key with its certificate: PKCS#12, or PEM with both."),
    click.option("--passphrase-file", metavar="FILE",
                 help="Take the key's passphrase from a file's first line instead of asking."),
)
identity = opt.shared(
    click.option("-i", "--identity", metavar="FILE",
                 help="Key to decipher with, if it is another than --key: the patient's, say."),
    click.option("--identity-passphrase-file", metavar="FILE",
                 help="Take its passphrase from a file's first line."),
)
reading = opt.shared(
    click.option("--signer", metavar="FILE", help="The doctor's certificate, if it is not inside; "
                 "otherwise it is looked for in the configured directories."),
    click.option("--patient-certificate", metavar="FILE",
                 help="The patient's certificate, as it stands on the card, to verify the "
                 "patient's signature."),
    click.option("--identity-document", metavar="TEXT", default="",
                 help="Record the document that the patient showed, in place of that "
                 "certificate: the patient's signature is then not verified."),
)
register = opt.shared(
    click.option("--register", metavar="HOST:PORT", help="The register's address."),
    click.option("--tls-identity", metavar="FILE",
                 help="Key, certificate and chain for TLS, PEM."),
    click.option("--tls-passphrase-file", metavar="FILE",
                 help="Take their passphrase from a file's first line."),
)
style = opt.shared(pki.as_json, pki.quiet)


def load_holder(path: str, passphrase_file: str | None, *, purpose: str = "sign") -> Holder:
    """Return the holder of a key file."""
    return load_holders(path, passphrase_file, purpose)[0]


def load_holders(path: str, passphrase_file: str | None, *purposes: str) -> list[Holder]:
    """Return the holders of a key file for these purposes; its passphrase is asked for once."""
    from ..prescription.holders import Holder

    ask = functools.cache(pki.asker(False, passphrase_file))
    return [Holder.load(path, ask, purpose=purpose) for purpose in purposes]


def load_sources(roots, intermediates, crls, require_crl, more: Iterable[Any] = ()) -> Sources:
    """Return what is trusted and the configured directories. more: certificates that may lie
    between."""
    from .. import config
    from ..prescription.opening import Sources

    trust = pki.load_trust(roots, intermediates, crls, require_crl)
    trust = dataclasses.replace(trust, intermediates=(*trust.intermediates, *more))
    directories = None
    if config.section("directories"):
        from ..pki.directory import configured

        directories = configured()
    return Sources(trust, directories)


def load_certificates(path: str | None) -> Sequence[x509.Certificate]:
    """Return the certificates of a file, the holder's first; none without a file."""
    from ..pki import files

    return files.load_certificates(path) if path is not None else ()


def load_register(
    address: str, identity: str | None, passphrase_file: str | None, sources: Sources
) -> Client:
    """Return the register at an address."""
    from ..prescription.register import Client
    from ..prescription.wire import tls_context

    if identity is None:
        raise UsageError("the register is asked over TLS: give --tls-identity FILE")
    context = tls_context(identity, sources.trust, server=False,
                          passphrase=pki.asker(False, passphrase_file))
    return Client(address, context, sources.judge)


def read_message(path: str) -> bytes:
    """Read a prescription, receipt or signed document."""
    from ..pki.files import read
    from ..prescription.signed import MAX_MESSAGE

    return read(path, "prescription", MAX_MESSAGE)


def write(path: str, data: bytes, *, force: bool) -> None:
    """Write a file that only its owner may read: patients' data, or what protects them."""
    from ..objects.atomic import AtomicFile

    with AtomicFile(path, force=force) as file:
        file.raw.write(data)
        file.commit(mode=0o600)


def say_checks(checks: Iterable[tuple[str, str]], remarks: Iterable[str] = ()) -> None:
    """A sentence for each check."""
    from .console import say

    for _, sentence in checks:
        say(f"checked: {sentence}")
    for remark in remarks:
        say(f"note: {remark}")


def show(opened: Opened, *, as_json: bool, quiet: bool, **more: Any) -> None:
    """A prescription that was opened, and what was checked."""
    from ..prescription.rendering import as_text
    from .console import print_json

    if as_json:
        print_json(opened.as_json() | more)
        return
    if not quiet:
        say_checks(opened.checks, opened.remarks)
    click.echo(as_text(opened.prescription), nl=False)
